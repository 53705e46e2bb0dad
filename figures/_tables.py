"""What the scripts of the papers' tables have in common: rows, columns, printing.

A row of a table says how the paper trains; a preset says which rows are run and in what size (`_cnn`).
"""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.stats
from _cnn import Preset, Script, Settings, describe_runs, one_line_errors

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult

PUBLISHED = Path(__file__).parent / "published"

DASH = "–"
LEVEL = 0.95


class Measure(NamedTuple):
    """A column: how it is measured, None where it is not, and its digits after the point."""

    of: Callable[[CnnResult], float | None] | None
    digits: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a published table.

    Parameters
    ----------
    cells
        Its settings as they are printed, a text for each column on the left.
    published
        For each source, the published numbers as printed, by the heading of their column.
    settings
        How it is run; None for what cannot be run here.
    size
        The smallest of `SIZES` that runs it.
    """

    cells: Sequence[str]
    published: Mapping[str, Mapping[str, str]]
    settings: Settings | None
    size: str = "full"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A published table: its title, the columns on the left, what is measured, and its rows."""

    title: str
    left: Sequence[str]
    measures: Mapping[str, Measure]
    rows: Sequence[Row]


def rerun(
    file: str,
    doc: str | None,
    presets: Mapping[str, Preset],
    tables: Sequence[Table] | Callable[[Preset], Sequence[Table]],
) -> None:
    """The whole script: train what the preset runs, print the tables, save what was found.

    `tables` are those of every preset, or a function of it. Exits with 2 for an option that cannot be
    used, 3 for missing data or a missing library.
    """
    with one_line_errors():
        script = Script(file, doc, presets)
        tables = tables(script.preset) if callable(tables) else tables
        rows = [row for table in tables for row in table.rows if script.runs(row.size)]
        large_enough = [row.settings for row in rows if row.settings]
        begin = time.perf_counter()
        found = script.train(large_enough)
        seconds = time.perf_counter() - begin
        scale = describe_scale(script, large_enough, found, seconds)
        print(scale)
        numbers = []
        for table in tables:
            # Rows that need a larger preset may be the same run as one that was run.
            runs = [
                found.get(script.key(row.settings), []) if row.settings else [] for row in table.rows
            ]
            numbers.append(measured(table, runs))
            print("\n" + "\n".join(table_lines(table, numbers[-1], runs)))
        results = [run for runs in found.values() for run in runs]
        failures = [f"{r.label}, seed {r.config.seed}: {r.failed}" for r in results if r.failed]
        if failures:
            print("\nFailed, and not in the means: " + "; ".join(failures))
        path = script.save(
            scale=scale,
            seeds=script.seeds,
            tables=[_note(*pair) for pair in zip(tables, numbers)],
            runs=[run.to_dict() for run in results],
            seconds=round(seconds, 2),
        )
        print(path, file=sys.stderr)


Estimate = dict[str, Any]
"""Values of the runs, their mean, and half of its interval (None for one run)."""


def measured(table: Table, found: Sequence[Sequence[CnnResult]]) -> list[dict[str, Estimate | None]]:
    """For each row, what its runs say of each column; None where they say nothing."""
    return [
        {heading: _estimate(measure, runs) for heading, measure in table.measures.items()}
        for runs in found
    ]


def _estimate(measure: Measure, runs: Sequence[CnnResult]) -> Estimate | None:
    if measure.of is None:
        return None
    each = [measure.of(run) for run in runs if not run.failed]
    values = [float(value) for value in each if value is not None and math.isfinite(value)]
    if not values:
        return None
    mean, half = mean_and_half_width(values)
    return {"mean": mean, "half_width": half, "values": values}


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half of Student's 95 % interval for it; None for a single value."""
    n = len(values)
    if n == 1:
        return values[0], None
    quantile = scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1)
    return float(np.mean(values)), float(quantile * np.std(values, ddof=1) / math.sqrt(n))


def describe_scale(
    script: Script, wanted: Sequence[Settings], found: Mapping[str, Sequence[CnnResult]], seconds: float
) -> str:
    """What was run, where and in what time, in a line."""
    results = [run for runs in found.values() for run in runs]
    devices = ", ".join(dict.fromkeys(run.config.device for run in results))
    took = f"{seconds:.0f} s, the runs themselves {sum(run.seconds for run in results):.0f} s"
    return "; ".join([describe_runs(script, wanted, found), devices, took])


def table_lines(
    table: Table, numbers: Sequence[Mapping[str, Estimate | None]], found: Sequence[Sequence[CnnResult]]
) -> list[str]:
    """A table as text: for each row a line for each source, and one for what was found here."""
    body: list[list[str]] = []
    for row, own, runs in zip(table.rows, numbers, found):
        named = {source: [cells.get(h, "") or DASH for h in table.measures]
                 for source, cells in row.published.items()}  # fmt: skip
        here = f"here ({runs[0].config.data_name})" if runs else "here"
        named[here] = [_show(own[heading], m.digits) for heading, m in table.measures.items()]
        for i, (source, cells) in enumerate(named.items()):
            body.append([*(cell if i == 0 else "" for cell in row.cells), source, *cells])
    texts = len(table.left) + 1
    grid = [[*table.left, "", *table.measures], *body]
    widths = [max(map(len, column)) for column in zip(*grid)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in grid
    ]
    return [table.title, "", lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _show(estimate: Estimate | None, digits: int) -> str:
    if estimate is None:
        return DASH
    text = f"{estimate['mean']:.{digits}f}"
    half = estimate["half_width"]
    return text if half is None else f"{text} ± {half:.{digits}f}"


def _note(table: Table, numbers: Sequence[Mapping[str, Estimate | None]]) -> dict[str, Any]:
    """A table ready for JSON."""
    rows = [
        {"settings": dict(zip(table.left, row.cells)), "published": row.published, "here": own}
        for row, own in zip(table.rows, numbers)
    ]
    return {"title": table.title, "rows": rows}


# Published numbers and columns


def published(name: str) -> list[dict[str, str]]:
    """The rows of a published table, by the names of its columns."""
    with open(PUBLISHED / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def grouped(
    lines: Sequence[Mapping[str, str]], by: Sequence[str], columns: Mapping[str, str]
) -> dict[tuple[str, ...], dict[str, dict[str, str]]]:
    """Published lines that differ in their data set alone as one row: `Row.published` by settings.

    Parameters
    ----------
    lines
        Of `published`, with a column `dataset`.
    by
        The columns that make the settings.
    columns
        The columns with the numbers, by the heading under which they are printed.
    """
    rows: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for line in lines:
        key = tuple(line[name] for name in by)
        numbers = {heading: line[column] for heading, column in columns.items()}
        rows.setdefault(key, {})[f"paper ({line['dataset']})"] = numbers
    return rows


def by_scale(result: CnnResult) -> float | None:
    """Percent of the filters with |gamma| < 1e-3."""
    shares = result.total.by_scale
    return None if shares is None else 100 * shares[1e-3]


def by_activation(result: CnnResult) -> float | None:
    """Percent of the filters whose activation never exceeds 1e-12 on the training set."""
    shares = result.total.by_activation
    return None if shares is None else 100 * shares[1e-12]


def in_layer(name: str) -> Callable[[CnnResult], float | None]:
    """Percent of the filters of a layer with |gamma| < 1e-3."""

    def percent(result: CnnResult) -> float | None:
        shares = {layer.name: layer.by_scale for layer in result.layers}.get(name)
        return None if shares is None else 100 * shares[1e-3]

    return percent


def test_error(result: CnnResult) -> float:
    """In percent."""
    return 100 * result.error


def pruned_test_error(result: CnnResult) -> float:
    """In percent, without the filters that are dead by scale."""
    return 100 * result.error_after_removal


def parameters_pruned(result: CnnResult) -> float:
    """Percent of the weights of convolutions that go with the filters that are dead by scale."""
    return 100 * result.last.removed.convolutions


def train_loss(result: CnnResult) -> float:
    """Mean over the last twentieth of the steps, in nats."""
    return float(result.loss[-1])


DECAYS = {"l2": "l2", "wd": "paper"}
"""The paper's two decays by the names of `regdyn.optimizers.REGULARIZATIONS`."""

LAYERWISE_COLUMNS = {
    "train loss": "train_loss", "test loss": "test_loss", "test error": "test_error",
    **{f"C{i}": f"c{i}" for i in range(1, 8)}, "total": "total", "pruned": "params_pruned",
    "error pruned": "pruned_test_error",
}  # fmt: skip
"""Columns of the tables by layer, by heading: losses, percent of the filters dead by gamma, percent of
the weights of convolutions pruned, test errors."""

LAYERWISE = {
    "train loss": Measure(train_loss, 2), "test loss": Measure(None), "test error": Measure(test_error),
    **{f"C{i}": Measure(in_layer(f"C{i}"), 0) for i in range(1, 8)}, "total": Measure(by_scale, 0),
    "pruned": Measure(parameters_pruned, 0), "error pruned": Measure(pruned_test_error),
}  # fmt: skip
