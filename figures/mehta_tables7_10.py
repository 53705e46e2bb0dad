"""mehta2019, tables 7 to 10: the filters that Adam with L2 kills beside explicit pruning.

Li et al. (2017) remove the filters with the smallest L1 norm of a trained network at once and finetune:
half of the filters of the first and of the last six of 13 convolutions. Network slimming (Liu et al.
2017) trains with an L1 penalty of 1e-4 on gamma, removes the 70 (50) percent of all filters with the
smallest gamma and finetunes. Both are trained by SGD with weight decay 1e-4, with two thirds of the
steps before the removal, our choice. Rows on TinyImageNet and ImageNet are as published only.

In small BasicNet stands for VGG-16 and VGG-19, which need images of 32x32 pixels, on the digits; Li et
al. remove half of its last four convolutions, lambda and the penalty are greater, since the runs are
short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from _cnn import MEHTA, Preset, Settings
from _tables import Measure, Row, Table, by_scale, pruned_test_error, published, rerun, test_error

from regdyn.optimizers import SGD

DATA = {"CIFAR10": "cifar10", "CIFAR100": "cifar100"}
SHARES = {"CIFAR10": 0.7, "CIFAR100": 0.5}
"""Of all filters, that network slimming removes."""

_QUARTER = "basicnet:width=0.25"
_SMALL = {"cifar10": "digits", "cifar100": "digits", "vgg16": _QUARTER, "vgg19": _QUARTER}

STRONGER = {"smoke": 10, "digits": 10, "full": 1}
"""Factor on lambda and the penalty."""

PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size="smoke", instead=_SMALL, steps=3000),
    "digits": Preset(size="digits", instead=_SMALL, steps=10_000),
    "cifar10": Preset(size="full", instead={}),
}

MEASURES = {"filters pruned": Measure(by_scale, 0), "test error": Measure(test_error),
            "error pruned": Measure(pruned_test_error)}  # fmt: skip


def adam(model: str, batch: int) -> Settings:
    return {**MEHTA, "model": model, "optimizer": "adam", "regularization": "l2", "batch": batch}


def removed_at_once(text: str) -> Callable[[int], str]:
    """After two thirds of the steps."""
    return lambda steps: f"{text},start={2 * steps // 3},end={2 * steps // 3}"


def explicit(model: str, prune: str) -> dict[str, Any]:
    return {
        **MEHTA, "model": model, "optimizer": SGD(lr=0.1), "regularization": "l2", "batch": 64,
        "prune": removed_at_once(prune),
    }  # fmt: skip


def li(preset: Preset) -> Settings:
    """Filters of VGG-16 as Li et al. have them."""
    late = [f"conv{block}_{number}" for block in (4, 5) for number in (1, 2, 3)]
    layers = "+".join(["conv1_1", *late]) if preset.size == "full" else "last4"
    return explicit("vgg16", f"smallest:importance=l1,fraction=0.5,layers={layers}")


def slimming(dataset: str, stronger: float) -> Settings:
    prune = f"smallest:importance=gamma,scope=global,fraction={SHARES[dataset]:g}"
    return {**explicit("vgg19", prune), "penalty": f"slimming:{1e-4 * stronger:g}"}


def tables(preset: Preset) -> list[Table]:
    stronger = STRONGER[preset.size]
    sixteen, nineteen, others = [], [], []
    for line in published("mehta2019_table7_vgg16"):
        own = None
        if line["run"] == "Li et al.":
            own = li(preset)
        elif (batch := line["run"].removeprefix("adam l2 1e-4 batch ").split()[0]).isdecimal():
            own = adam("vgg16", int(batch))
        numbers = {"filters pruned": line["total_pruned"], "test error": line["test_error"]}
        sixteen.append(row(line, own, numbers, stronger))
    for line in published("mehta2019_tables8-10"):
        own = None
        if line["table"] == "10" and line["run"] == "Liu et al.":
            own = slimming(line["dataset"], stronger)
        elif line["table"] == "10":
            own = adam("vgg19", int(line["run"].split()[-1]))
        pruned = line["percent_pruned"] or f"{line['features_pruned']} filters"
        numbers = {"filters pruned": pruned, "test error": line["pre_top1"],
                   "error pruned": line["post_top1"]}  # fmt: skip
        (nineteen if own else others).append(row(line, own, numbers, stronger))
    left = ("network", "data", "run")
    titles = ("table 7, VGG-16", "table 10, VGG-19", "tables 8 and 9, as published only")
    return [
        Table(title=f"mehta2019, {title}: percent of the filters pruned, test errors in percent",
              left=left, measures=MEASURES, rows=rows)
        for title, rows in zip(titles, (sixteen, nineteen, others))
    ]  # fmt: skip


def row(
    line: Mapping[str, str], own: Settings | None, numbers: Mapping[str, str], stronger: float
) -> Row:
    """A published line and how it is run; smoke runs those of CIFAR-10."""
    if own is not None:
        own = {**own, "lam": 1e-4 * stronger, "data": DATA[line["dataset"]]}
    small = line["dataset"] == "CIFAR10"
    return Row(
        cells=(line.get("network", "VGG-16"), line["dataset"], line["run"]),
        published={"paper": numbers},
        settings=own,
        size="smoke" if small else "full",
    )


def main() -> None:
    rerun(__file__, __doc__, PRESETS, tables)


if __name__ == "__main__":
    main()
