"""zhou2020: filters that collapse over rounds of cosine annealing, with BN, psBN and leaky ReLU.

Table 1 and the experiments of its figures 2, 3 and 5, whose numbers are in pictures that our copy
lacks. A filter has collapsed if |gamma| < 1e-3; sparsity is the share of the multiplications that goes
with them (section 3.2). Batches of 128 and lambda 5e-4 throughout (section 3.1), in table 1 too. Our
choices, where the paper leaves it open: ResNet-20 and one round of 100 epochs in figure 5, no
augmentation with random labels. In small, batches are of 40, for more steps in the same time, and
lambda is 2.5e-3: 5e-4 would take a collapsed gamma tens of thousands of steps to 1e-3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from _cnn import Preset, Settings
from _tables import Measure, Row, Table, published, rerun, train_loss

from regdyn.optimizers import SGD

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult, Record

EPOCH = 50_000 // 128
ZHOU: Settings = {
    "data": "cifar10", "model": "resnet20", "optimizer": SGD(lr=0.1), "regularization": "l2",
    "lam": 5e-4, "batch": 128, "flip": True, "crop": 4,
}  # fmt: skip
"""Section 3.1."""

NORMS: Mapping[str, dict[str, Any]] = {
    "BN": {},
    "psBN": {"alpha": 0.1},
    "leaky ReLU": {"activation": "leaky_relu", "slope": 0.01},
}
_QUARTER = "basicnet:width=0.25"
_SMALL = {"cifar10": "digits", "resnet20": _QUARTER, "resnet110": _QUARTER}

SIZE = {"resnet20": "digits"}

PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size="smoke", instead=_SMALL, steps=4500, changed={"lam": 2.5e-3, "batch": 40}),
    "digits": Preset(size="digits", instead=_SMALL, steps=9000, changed={"lam": 2.5e-3, "batch": 40}),
    "cifar10": Preset(size="full", instead={}),
    "cifar100": Preset(size="full", instead={"cifar10": "cifar100"}),
}


def after(round_: int) -> Callable[[CnnResult], Record | None]:
    """What was recorded at the end of a round, counted from 1."""

    def record(result: CnnResult) -> Record | None:
        ends = result.config.rounds
        at = ends[round_ - 1] if round_ <= len(ends) else None
        return next((record for record in result.records if record.step == at), None)

    return record


def accuracy(round_: int) -> Callable[[CnnResult], float | None]:
    """In percent of the test set, at the end of a round."""

    def percent(result: CnnResult) -> float | None:
        record = after(round_)(result)
        return None if record is None else 100 * (1 - record.test_error)

    return percent


def sparsity(round_: int) -> Callable[[CnnResult], float | None]:
    """Percent of the multiplications that go with collapsed filters, at the end of a round."""

    def percent(result: CnnResult) -> float | None:
        record = after(round_)(result)
        return None if record is None else 100 * record.removed.flops

    return percent


def ensemble(result: CnnResult) -> float | None:
    """Accuracy of the mean probabilities of the last three snapshots, in percent."""
    return None if result.ensemble_error is None else 100 * (1 - result.ensemble_error)


def row(
    cells: Sequence[str],
    own: dict[str, Any],
    epochs: int,
    rounds: int,
    numbers: Mapping[str, str] | None = None,
    size: str = "digits",
) -> Row:
    """A row whose rounds last so many epochs together."""
    return Row(
        cells=cells,
        published={} if numbers is None else {"paper": numbers},
        settings={**ZHOU, "steps": epochs * EPOCH, "rounds": rounds, **own},
        size=size,
    )


def snapshots() -> Table:
    """Table 1: 200 epochs in five rounds, the last three snapshots together."""
    lines = [line for line in published("zhou2020") if line["table"] == "1"]
    rows = []
    for lr in dict.fromkeys(line["init_lr"] for line in lines):
        for norm in ("psBN", "BN"):
            numbers = {}
            for line in lines:
                if line["init_lr"] == lr:
                    numbers[f"acc {line['round']}"] = line[f"accuracy_{norm.lower()}"]
                    numbers[f"sp {line['round']}"] = line[f"sparsity_{norm.lower()}"]
            own = {**NORMS[norm], "model": "resnet110", "optimizer": SGD(lr=float(lr)), "ensemble": 3}
            rows.append(row((lr, norm), own, 200, 5, numbers, "smoke"))
    measures = {f"acc {i}": Measure(accuracy(i)) for i in range(1, 6)}
    measures["acc ensemble"] = Measure(ensemble)
    measures |= {f"sp {i}": Measure(sparsity(i)) for i in range(1, 6)}
    return Table(
        title="zhou2020, table 1, ResNet-110: accuracy and sparsity in percent after each round, and "
        "accuracy\nof the last three snapshots together",
        left=("learning rate", "norm"),
        measures=measures,
        rows=rows,
    )


def detection() -> Table:
    """Table 2, as published: detection on COCO is not run here."""
    rows = [
        Row(
            cells=(line["experiment"],),
            published={"paper": {"AP psBN": line["accuracy_psbn"], "AP BN": line["accuracy_bn"]}},
            settings=None,
        )
        for line in published("zhou2020")
        if line["table"] == "2"
    ]
    measures = {"AP psBN": Measure(None), "AP BN": Measure(None)}
    return Table(title="zhou2020, table 2", left=("experiment",), measures=measures, rows=rows)


def variants() -> Table:
    """Figure 3: nine rounds of 100 epochs."""
    rows = [
        row((model, norm), {**own, "model": model}, 900, 9, size=SIZE.get(model, "full"))
        for model in ("resnet20", "resnet56", "vgg16")
        for norm, own in NORMS.items()
    ]  # fmt: skip
    measures = {f"sp {i}": Measure(sparsity(i)) for i in range(1, 10)}
    measures |= {f"acc {i}": Measure(accuracy(i)) for i in (1, 9)}
    title = "zhou2020, figure 3: sparsity and accuracy in percent after rounds of 100 epochs"
    return Table(title=title, left=("model", "norm"), measures=measures, rows=rows)


def random_labels() -> Table:
    """Figure 2: ResNet-20 on labels permuted once."""
    own = {"random_labels": True, "flip": False, "crop": 0}
    measures = {f"sp {i}": Measure(sparsity(i)) for i in range(1, 6)}
    return Table(
        title="zhou2020, figure 2, random labels: sparsity in percent after each round, training loss",
        left=("model",),
        measures=measures | {"train loss": Measure(train_loss, 2)},
        rows=[row(("resnet20",), own, 500, 5)],
    )


def starts() -> Table:
    """Figure 5: initial learning rate and initial gamma."""
    each = [("0.1", "1"), ("0.2", "1"), ("0.5", "1"), ("1", "1"), ("0.1", "0.5"), ("0.1", "0.1")]
    return Table(
        title="zhou2020, figure 5: sparsity and accuracy in percent after one round",
        left=("learning rate", "initial gamma"),
        measures={"sparsity": Measure(sparsity(1)), "accuracy": Measure(accuracy(1))},
        rows=[
            row((lr, gamma), {"optimizer": SGD(lr=float(lr)), "gamma0": float(gamma)}, 100, 1)
            for lr, gamma in each
        ],
    )


def main() -> None:
    rerun(
        __file__, __doc__, PRESETS,
        [snapshots(), detection(), variants(), random_labels(), starts()],
    )  # fmt: skip


if __name__ == "__main__":
    main()
