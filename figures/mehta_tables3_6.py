"""mehta2019, tables 3 to 6 and the objects of section 3: batch size, data and width under Adam with L2.

All rows of table 3 take the same number of steps. Top-5 error and test loss are as published only, and
so are the rows on TinyImageNet and ImageNet. The objects are our renderings of the same 30 classes
(`regdyn.cnn.objects`); the paper's lambda for them, not said there, is taken to be that of its other
tables, and their number of steps that of 325 epochs of 40,000 images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from _cnn import MEHTA, MEHTA_PRESETS, Preset
from _tables import Measure, Row, Table, by_scale, grouped, published, rerun, test_error, train_loss

WIDTHS = {
    "BasicNet 64-1x": "basicnet:width=1",
    "BasicNet 64-0.5x": "basicnet:width=0.5",
    "BasicNet 32-0.25x": "basicnet:width=0.25",
}
COLUMNS = {
    "train loss": "train_loss", "test loss": "test_loss", "test error": "test_error_top1",
    "top 5": "test_error_top5", "by gamma": "sparsity_gamma",
}  # fmt: skip
MEASURES = {
    "train loss": Measure(train_loss, 2), "test loss": Measure(None), "test error": Measure(test_error),
    "top 5": Measure(None), "by gamma": Measure(by_scale),
}  # fmt: skip
NUMBERS = "percent of the filters that are dead by gamma, and test error in percent"
ADAM = {"optimizer": "adam", "regularization": "l2"}
OBJECTS = {"objects, clean background": "objects", "objects, cluttered background": "objects-cluttered"}
EPOCH = 40_000 // 40

SMALL = {
    "objects": "objects:size=16,n_train=3000,n_test=1000",
    "objects-cluttered": "objects-cluttered:size=16,n_train=3000,n_test=1000",
}
LARGE = {name: f"{name}:n_train=40000,n_test=10000" for name in ("objects", "objects-cluttered")}


def presets() -> Mapping[str, Preset]:
    return {
        name: dataclasses.replace(
            preset,
            instead={**preset.instead, **(LARGE if preset.size == "full" else SMALL)},
            # Its larger batches, images and networks take half an hour for that many.
            steps=6000 if preset.size == "digits" else preset.steps,
        )
        for name, preset in MEHTA_PRESETS.items()
    }


def lines(number: str) -> list[dict[str, str]]:
    return [line for line in published("mehta2019_tables3-6") if line["table"] == number]


def batches() -> Table:
    rows = []
    for (lam, batch), numbers in grouped(lines("3"), ("lam", "batch"), COLUMNS).items():
        own = {**ADAM, "lam": float(lam), "batch": int(batch)}
        size = "smoke" if lam == "1e-3" else "digits"
        rows.append(Row(cells=(lam, batch), published=numbers, settings={**MEHTA, **own}, size=size))
    title = f"mehta2019, table 3, batch size at equal numbers of steps: {NUMBERS}"
    return Table(title=title, left=("lambda", "batch"), measures=MEASURES, rows=rows)


def other_data(number: str) -> Table:
    """As published: the data are not to be had here."""
    by = ("optimizer", "lam", "batch")
    rows = [
        Row(cells=key, published=numbers, settings=None)
        for key, numbers in grouped(lines(number), by, COLUMNS).items()
    ]
    title = f"mehta2019, table {number}: {NUMBERS}"
    return Table(title=title, left=("optimizer", "lambda", "batch"), measures=MEASURES, rows=rows)


def objects() -> Table:
    rows = []
    for line in published("mehta2019_objects"):
        name = OBJECTS[line["dataset"]]
        own: dict[str, Any] = {**ADAM, "lam": float(line["lam"]), "data": name, "steps": 325 * EPOCH}
        numbers = {"paper": {"by gamma": line["sparsity_gamma"]}}
        rows.append(Row(cells=(name,), published=numbers, settings={**MEHTA, **own}, size="digits"))
    title = f"mehta2019, section 3, task difficulty: {NUMBERS}"
    kept = {heading: MEASURES[heading] for heading in ("test error", "by gamma")}
    return Table(title=title, left=("data",), measures=kept, rows=rows)


def widths() -> Table:
    rows = []
    for (network, lam), numbers in grouped(lines("6"), ("network", "lam"), COLUMNS).items():
        own = {**ADAM, "lam": float(lam), "model": WIDTHS[network]}
        size = "full" if network == "BasicNet 64-1x" else "digits"
        rows.append(Row(cells=(network,), published=numbers, settings={**MEHTA, **own}, size=size))
    title = f"mehta2019, table 6, width at lambda 1e-4: {NUMBERS}"
    return Table(title=title, left=("network",), measures=MEASURES, rows=rows)


def main() -> None:
    tables = [batches(), other_data("4"), other_data("5"), objects(), widths()]
    rerun(__file__, __doc__, presets(), tables)


if __name__ == "__main__":
    main()
