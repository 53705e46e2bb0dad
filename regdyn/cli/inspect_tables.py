"""What `regdyn inspect` prints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import print_table
from regdyn.nets.sparsity import ACTIVATION_THRESHOLDS, SCALE_THRESHOLDS

if TYPE_CHECKING:
    from rich.console import Console

    from regdyn.doctor.inspection import Inspection


def print_inspection(console: Console, found: Inspection) -> None:
    """A row for each layer and one for all, why filters are dead, and what is predicted."""
    from regdyn.doctor.tables import caption, measured_table, scale_table

    def say(text: str) -> None:
        # Names of files and layers are no markup.
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    say(caption(found))
    print_table(console, _table(*scale_table(found)))
    say(found.why())
    if found.measured is not None:
        say("\n" + found.measured.words())
        if found.measured_total is not None:
            print_table(console, _table(*measured_table(found)))
    for outlook in found.outlooks:
        say("\n" + "\n".join(outlook.lines()))


def _table(headings: list[str], rows: list[list[str]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from regdyn.doctor.tables import DISTRIBUTION

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        # Flush right, rich takes off the spaces in which a sparkline ends.
        justify: Any = "left" if number == 0 or heading == DISTRIBUTION else "right"
        table.add_column(heading, justify=justify, no_wrap=True)
    for row in rows:
        if row[0] == "total":
            table.add_section()
        table.add_row(*map(Text, row))
    return table


def print_csv(found: Inspection) -> None:
    """A row for each layer; a number that is not known is empty."""
    import csv

    rows = []
    for number, layer in enumerate(found.layers):
        about = layer.to_dict()
        measures = about.pop("sparsity") or {}
        scale, peaks = (measures.get(name) or {} for name in ("by_scale", "by_activation"))
        row = {name: about[name] for name in ("name", "weights", "filters", "not_finite", "dead")}
        row |= about["deaths"] | {name: about[name] for name in ("never_fire", "exactly_zero")}
        row |= {f"below_{limit:g}": scale.get(f"{limit:g}") for limit in SCALE_THRESHOLDS}
        row["below_norm"] = measures.get("by_norm")
        row |= {name: measures.get(name) for name in ("active_predicted", "expected_activation")}
        row |= {f"peak_below_{limit:g}": peaks.get(f"{limit:g}") for limit in ACTIVATION_THRESHOLDS}
        row |= {name: measures.get(name) for name in ("active_measured", "universality", "selectivity")}
        for each, outlook in enumerate(found.outlooks):
            row[f"cross_at_most_{each}"] = int(outlook.by_layer[number].sum())
        rows.append(row)
    writer = csv.DictWriter(sys.stdout, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
