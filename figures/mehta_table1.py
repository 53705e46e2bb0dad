"""mehta2019, table 1: dead filters of BasicNet and its test error, by optimizer and decay.

Weight decay ("wd") multiplies by 1 - lambda after the step, scaled along with the learning rate.
"""

from __future__ import annotations

from _cnn import MEHTA, MEHTA_PRESETS
from _tables import (
    DECAYS,
    Measure,
    Row,
    Table,
    by_activation,
    by_scale,
    grouped,
    published,
    rerun,
    test_error,
)

LEFT = ("optimizer", "regularizer", "lam")
MEASURES = {
    "by activation": Measure(by_activation),
    "by gamma": Measure(by_scale),
    "test error": Measure(test_error),
}
COLUMNS = {
    "by activation": "sparsity_act", "by gamma": "sparsity_gamma", "test error": "test_error",
}  # fmt: skip
SMOKE = {("sgd", "l2", "1e-3"), ("adam", "l2", "1e-2"), ("adam", "l2", "1e-3"), ("adam", "l2", "0")}
DIGITS = {
    *SMOKE, ("sgd", "l2", "2e-3"), ("sgd", "l2", "5e-4"), ("sgd", "l2", "0"), ("adam", "l2", "1e-4"),
    ("adadelta", "l2", "1e-3"), ("adagrad", "l2", "1e-2"), ("sgd", "wd", "1e-3"),
    ("adam", "wd", "1e-3"), ("adam", "wd", "2e-4"),
}  # fmt: skip


def table() -> Table:
    rows = []
    for key, numbers in grouped(published("mehta2019_table1"), LEFT, COLUMNS).items():
        optimizer, decay, lam = key
        own = {"optimizer": optimizer, "regularization": DECAYS[decay], "lam": float(lam)}
        size = "smoke" if key in SMOKE else "digits" if key in DIGITS else "full"
        rows.append(Row(cells=key, published=numbers, settings={**MEHTA, **own}, size=size))
    title = "mehta2019, table 1: percent of the filters that are dead, and test error in percent"
    return Table(title=title, left=("optimizer", "decay", "lambda"), measures=MEASURES, rows=rows)


def main() -> None:
    rerun(__file__, __doc__, MEHTA_PRESETS, [table()])


if __name__ == "__main__":
    main()
