"""mehta2019, table 2, and table 1 of its supplement: dead filters by layer, and pruning them.

Test loss is as published only: a run does not measure it.
"""

from __future__ import annotations

from _cnn import MEHTA, MEHTA_PRESETS
from _tables import DECAYS, LAYERWISE, LAYERWISE_COLUMNS, Row, Table, grouped, published, rerun

SOURCES = ("main table 2", "supplement table 1")
SMOKE = {("adam", "l2", "1e-3"), ("adam", "wd", "2e-4"), ("sgd", "l2", "1e-3"), ("sgd", "wd", "1e-3")}


def table() -> Table:
    lines = [line for line in published("mehta2019_layerwise") if line["source"] in SOURCES]
    rows = []
    for key, numbers in grouped(lines, ("optimizer", "regularizer", "lam"), LAYERWISE_COLUMNS).items():
        optimizer, decay, lam = key
        own = {"optimizer": optimizer, "regularization": DECAYS[decay], "lam": float(lam)}
        size = "smoke" if key in SMOKE else "digits"
        rows.append(Row(cells=key, published=numbers, settings={**MEHTA, **own}, size=size))
    return Table(
        title="mehta2019, table 2, and supplement, table 1: percent of the filters dead by gamma, of "
        "the weights of\nconvolutions pruned with them, and test error in percent before and after",
        left=("optimizer", "decay", "lambda"),
        measures=LAYERWISE,
        rows=rows,
    )


def main() -> None:
    rerun(__file__, __doc__, MEHTA_PRESETS, [table()])


if __name__ == "__main__":
    main()
