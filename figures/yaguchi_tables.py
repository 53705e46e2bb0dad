"""yaguchi2018, tables II to V: units whose weights Adam with L2 takes to 0.

A unit counts as dead when the norm of its weights is below 1e-3. That threshold, lambda, Adam's
learning rate and betas and the learning rates of the other optimizers of table II are lost from our
copy of table I: ours are lambda 5e-4, 1e-3 with betas 0.9 and 0.999, and the usual 0.1 for momentum
SGD, 1e-2 for Adagrad and 1e-3 for RMSprop. So is which of two rows of table II is tanh and which
sigmoid. Images are standardised instead of divided by 255.

Tables II to IV are on MNIST, in small on the digits. That of table V needs images of 32x32 pixels and
is run on CIFAR-10 alone; its accuracy is the best of the recorded times, its reduction that of the same
time. AdamW's decay there is lambda times the schedule, as its authors have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from _cnn import Preset, Settings, halved
from _tables import Measure, Row, Table, published, rerun

from regdyn.nets.sparsity import inactive_by_norm
from regdyn.optimizers import SGD, Adagrad, Adam, AMSGrad, RMSProp

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult, Record

BETAS: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999}
MNIST: Settings = {
    "data": "mnist", "model": "mlp:width=1000", "optimizer": Adam(**BETAS), "regularization": "l2",
    "lam": 5e-4, "batch": 64, "steps": 100 * 937, "schedule": halved(3),
}  # fmt: skip
"""Table I: 100 epochs of 60,000 images in batches of 64, the learning rate halved every 25."""

CIFAR: Settings = {
    **MNIST, "data": "cifar10", "model": "vgg16:dropout=1", "init": "he", "flip": True,
    "steps": 400 * 781, "schedule": halved(15),
}  # fmt: skip
"""Section V-A: 400 epochs of 50,000 images, the learning rate halved every 25."""

VARIANTS: Mapping[tuple[str, str], dict[str, Any]] = {
    ("optimizer", "adam"): {},
    ("optimizer", "msgd"): {"optimizer": SGD(lr=0.1)},
    ("optimizer", "adagrad"): {"optimizer": Adagrad(lr=1e-2)},
    ("optimizer", "rmsprop"): {"optimizer": RMSProp(lr=1e-3)},
    ("activation", "relu"): {},
    ("activation", "elu"): {"activation": "elu"},
    ("activation", "tanh"): {"activation": "tanh"},
    ("activation", "sigmoid"): {"activation": "sigmoid"},
    ("other", "he init"): {"init": "he"},
    ("other", "without bn"): {"norm": "none"},
    ("other", "without reg"): {"regularization": "none"},
}
SMOKE = {("optimizer", "adam"), ("optimizer", "msgd"), ("other", "without reg")}
SMOKE_WIDTHS = ("10", "100")

_SMALL = {"mnist": "digits"}

PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size="smoke", instead=_SMALL, steps=20_000),
    "digits": Preset(size="digits", instead=_SMALL, steps=30_000),
    "cifar10": Preset(size="full", instead={}),
}


def accuracy(result: CnnResult) -> float:
    """In percent of the test set."""
    return 100 * (1 - result.error)


def dead(result: CnnResult) -> float | None:
    """Percent of the hidden units with weights of a norm below 1e-3."""
    share = result.total.by_norm
    return None if share is None else 100 * share


def remaining(result: CnnResult) -> float:
    """Hidden units that are not dead."""
    return float(sum(np.count_nonzero(~inactive_by_norm(norm)) for norm in result.last.norm))


def remaining_in(layer: int) -> Callable[[CnnResult], float | None]:
    """Those of one hidden layer, counted from 0; None in a network without it."""

    def units(result: CnnResult) -> float | None:
        norms = result.last.norm
        return float(np.count_nonzero(~inactive_by_norm(norms[layer]))) if layer < len(norms) else None

    return units


def best(result: CnnResult) -> Record:
    """The recorded time with the smallest test error, the first one of several."""
    return min(result.records, key=lambda record: record.test_error)


def best_accuracy(result: CnnResult) -> float:
    """Greatest accuracy at a recorded time."""
    return 100 * (1 - best(result).test_error)


def reduced(result: CnnResult) -> float:
    """Percent of the parameters that go with the filters that are dead then."""
    from regdyn.cnn.metrics import share_removed
    from regdyn.cnn.models import trace_shapes

    model = result.model
    marked = [inactive_by_norm(norm) for norm in best(result).norm]
    return 100 * share_removed(model.layers, trace_shapes(model), marked).parameters


def lines(number: str) -> list[dict[str, str]]:
    return [line for line in published("yaguchi2018") if line["table"] == number]


def row(
    cells: Sequence[str], numbers: Mapping[str, str], settings: Settings | None, size: str = "digits"
) -> Row:
    return Row(
        cells=cells, published={"paper": numbers} if numbers else {}, settings=settings, size=size
    )


def factors() -> Table:
    rows = []
    for line in lines("II"):
        key = line["factor"], line["value"]
        numbers = {"accuracy": line["accuracy"], "dead": line["sparsity_or_remaining"]}
        own = {**MNIST, **VARIANTS[key]} if key in VARIANTS else None
        rows.append(row(key, numbers, own, "smoke" if key in SMOKE else "digits"))
    printed = {tuple(each.cells) for each in rows}
    rows += [row(key, {}, {**MNIST, **own}) for key, own in VARIANTS.items() if key not in printed]
    return Table(
        title="yaguchi2018, table II: accuracy and dead units in percent",
        left=("factor", "value"),
        measures={"accuracy": Measure(accuracy, 2), "dead": Measure(dead)},
        rows=rows,
    )


def widths() -> Table:
    rows = []
    for line in lines("III"):
        nodes = line["value"]
        numbers = {"accuracy": line["accuracy"], "remaining": line["sparsity_or_remaining"]}
        own = {**MNIST, "model": f"mlp:width={nodes}"}
        rows.append(row((nodes,), numbers, own, "smoke" if nodes in SMOKE_WIDTHS else "digits"))
    return Table(
        title="yaguchi2018, table III: accuracy in percent and units that are not dead",
        left=("nodes",),
        measures={"accuracy": Measure(accuracy, 2), "remaining": Measure(remaining)},
        rows=rows,
    )


def depths() -> Table:
    rows = []
    for line in lines("IV"):
        depth = int(line["value"])
        left = line["sparsity_or_remaining"].split("-")
        numbers = {"accuracy": line["accuracy"]} | {f"layer {i + 1}": n for i, n in enumerate(left)}
        own = MNIST if depth == 1 else {**MNIST, "model": f"mlp:width=1000,depth={depth}"}
        rows.append(row((str(depth),), numbers, own, "digits" if depth <= 2 else "full"))
    return Table(
        title="yaguchi2018, table IV: accuracy in percent and units of each layer that are not dead",
        left=("hidden layers",),
        measures={"accuracy": Measure(accuracy, 2)}
        | {f"layer {i + 1}": Measure(remaining_in(i)) for i in range(5)},
        rows=rows,
    )


def convolutions() -> Table:
    variants: dict[str, dict[str, Any]] = {
        "msgd": {"optimizer": SGD(lr=0.1)},
        "amsgrad": {"optimizer": AMSGrad(lr=5e-4, **BETAS)},
        "adamw": {"optimizer": Adam(lr=5e-4, **BETAS), "regularization": "paper"},
        "adam": {"optimizer": Adam(lr=5e-4, **BETAS)},
    }
    rows = []
    for line in lines("V"):
        name = line["value"]
        numbers = {"accuracy": line["accuracy"], "reduced": line["sparsity_or_remaining"]}
        own = {**CIFAR, **variants[name]} if name in variants else None
        rows.append(row((name,), numbers, own, "full"))
    return Table(
        title="yaguchi2018, table V: accuracy and parameters reduced in percent",
        left=("optimizer",),
        measures={"accuracy": Measure(best_accuracy, 2), "reduced": Measure(reduced, 2)},
        rows=rows,
    )


def main() -> None:
    rerun(__file__, __doc__, PRESETS, [factors(), widths(), depths(), convolutions()])


if __name__ == "__main__":
    main()
