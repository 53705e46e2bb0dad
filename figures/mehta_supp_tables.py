"""mehta2019, tables 2 to 4 of the supplement: AMSGrad, leaky ReLU, start and learning rate of the norm.

AdaMax and RMSProp in table 4. Hyperparameters that the supplement leaves open are torch's, but
AMSGrad's betas, which are those of the paper's Adam. Test loss is as published only.
"""

from __future__ import annotations

from typing import Any

from _cnn import MEHTA, MEHTA_PRESETS
from _tables import (
    LAYERWISE,
    LAYERWISE_COLUMNS,
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

VARIANTS: dict[str, dict[str, Any]] = {
    "supplement table 2": {},
    "supplement table 2 leaky 0.01": {"activation": "leaky_relu", "slope": 0.01},
    "supplement table 2 leaky 0.1": {"activation": "leaky_relu", "slope": 0.1},
    "supplement table 3 beta_init 0": {},
    "supplement table 3 beta_init -0.1": {"beta0": -0.1},
    "supplement table 3 beta_init 1.0": {"beta0": 1.0},
    "supplement table 3 lr_gamma 0.1": {"gamma_lr": 0.1},
    "supplement table 3 lr_beta 0.1": {"beta_lr": 0.1},
}
SMOKE = {
    ("supplement table 2", "amsgrad", "1e-2"), ("supplement table 2 leaky 0.01", "adam", "1e-3"),
}  # fmt: skip
SMOKE_4 = {("adamax", "1e-2"), ("rmsprop", "1e-2")}
COLUMNS = {
    "by activation": "sparsity_act", "by gamma": "sparsity_gamma", "test error": "test_error",
}  # fmt: skip
MEASURES = {
    "by activation": Measure(by_activation),
    "by gamma": Measure(by_scale),
    "test error": Measure(test_error),
}


def layerwise() -> Table:
    lines = [line for line in published("mehta2019_layerwise") if line["source"] in VARIANTS]
    rows = []
    for key, numbers in grouped(lines, ("source", "optimizer", "lam"), LAYERWISE_COLUMNS).items():
        source, optimizer, lam = key
        own = {"optimizer": optimizer, "regularization": "l2", "lam": float(lam), **VARIANTS[source]}
        cells = (source.removeprefix("supplement "), optimizer, lam)
        size = "smoke" if key in SMOKE else "full" if lam == "1e-6" else "digits"
        rows.append(Row(cells=cells, published=numbers, settings={**MEHTA, **own}, size=size))
    return Table(
        title="mehta2019, supplement, tables 2 and 3: percent of the filters dead by gamma, of the "
        "weights of convolutions\npruned with them, and test error in percent before and after",
        left=("table and variant", "optimizer", "lambda"),
        measures=LAYERWISE,
        rows=rows,
    )


def optimizers() -> Table:
    rows = []
    for key, numbers in grouped(published("mehta2019s_table4"), ("optimizer", "lam"), COLUMNS).items():
        own = {"optimizer": key[0], "regularization": "l2", "lam": float(key[1])}
        size = "smoke" if key in SMOKE_4 else "full" if key[1] == "1e-6" else "digits"
        rows.append(Row(cells=key, published=numbers, settings={**MEHTA, **own}, size=size))
    title = "mehta2019, supplement, table 4: percent of the filters that are dead, and test error"
    return Table(title=title, left=("optimizer", "lambda"), measures=MEASURES, rows=rows)


def main() -> None:
    rerun(__file__, __doc__, MEHTA_PRESETS, [layerwise(), optimizers()])


if __name__ == "__main__":
    main()
