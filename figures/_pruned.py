"""How bartoldson2020 prunes while it trains, and what its figures show of such runs.

Sections 3.2 and 3.3 and appendix A.3: Adam with no other regularisation, batches of 128, 325 epochs,
and units of the last four convolutions that go in even parts. Epochs and fractions are lost from our
copy. Ours give what it states: removing 0.3, 0.3, 0.3 and 0.9 of them takes 42 percent of VGG11, and
with an event every 4, 12, 40 or 100 epochs from the 3rd to the 275th at most 1, 4, 13 or 30 percent of
a layer go at a time. The learning rate falls by 10 after 150 and after 300 epochs, our choice too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from _cnn import Preset, Settings
from _trained import Array, Found, evenly, per_run, sound_run

from regdyn.dynamics.schedules import Schedule, Step

if TYPE_CHECKING:
    from regdyn.cnn.result import CnnResult

EPOCHS, EPOCH = 325, 50_000 // 128
START, ENDS, FRACTIONS = 3, (150, 150, 150, 275), (0.3, 0.3, 0.3, 0.9)
RESNET_FRACTIONS = (0.25, 0.85, 0.25, 0.95)
"""With these 46 percent of ResNet18 go."""

RETRAIN = {1: 4, 4: 12, 13: 40, 30: 100}
"""Epochs between two events, by the greatest share of a layer that goes at one, in percent."""

VGG11 = "vgg11:head=single,bias=1"

Prune = Callable[[int], str]
"""From the steps of a run to the text of its pruning."""


def falling(steps: int) -> Schedule:
    """A tenth of the learning rate after 150 of 325 epochs, a hundredth after 300."""
    return Step((at(150, steps), at(300, steps)))


def at(epoch: float, steps: int) -> int:
    """The step of a run at which so many of the paper's epochs have passed."""
    return round(epoch * steps / EPOCHS)


TRAINED: Settings = {
    "data": "cifar10", "model": VGG11, "optimizer": "adam", "regularization": "none", "batch": 128,
    "steps": EPOCHS * EPOCH, "schedule": falling, "times": evenly(25),
}  # fmt: skip

TASK = "synthetic:classes=10,n_train=1000,n_test=2000,clutter=0.5"
"""Few images before a cluttered background, so that a network learns all of them and errs on others."""

_SMALL = {
    "cifar10": TASK, VGG11: "basicnet:width=0.25", "vgg19": "basicnet:width=0.25",
    "resnet18": "resnet20",
}  # fmt: skip


def presets(smoke: int, digits: int) -> dict[str, Preset]:
    """Of so many steps."""
    changed = {"batch": 40}
    return {
        "smoke": Preset(size="smoke", instead=_SMALL, steps=smoke, changed=changed),
        "digits": Preset(size="digits", instead=_SMALL, steps=digits, changed=changed),
        "cifar10": Preset(size="full", instead={}),
    }


def pruned(
    target: str,
    rate: int = 13,
    importance: str = "ebn",
    *,
    fractions: Sequence[float] = FRACTIONS,
    layers: str = "last4",
    more: str = "",
) -> Prune:
    """So much of each layer, at most `rate` percent at a time."""

    def text(steps: int) -> str:
        ends = "/".join(str(at(end, steps)) for end in ENDS)
        return (
            f"{target}:importance={importance},layers={layers},"
            f"fraction={'/'.join(map(str, fractions))},start={at(START, steps)},end={ends},"
            f"retrain={max(1, at(RETRAIN[rate], steps))}{more}"
        )

    return text


NAMES: Mapping[str, str] = {"smallest": "small", "random": "random", "largest": "large"}
MEASURES: Mapping[str, str] = {"ebn": "E[BN]", "l2": "L2 norm"}


def described(target: str, rate: int, importance: str) -> str:
    """What goes, in words."""
    return f"{NAMES[target]}, {MEASURES[importance]}, {rate} %"


# What runs of pruning say


def instability(result: CnnResult) -> float:
    """Mean over the events, in percentage points of test accuracy; 0 without any."""
    return 100 * (result.mean_instability or 0.0)


def test_accuracy(result: CnnResult) -> float:
    """At the end, in percent."""
    return 100 * (1 - result.error)


def generalization_gap(result: CnnResult) -> float:
    """Test accuracy minus training accuracy, in percentage points: 0 at best."""
    return -100 * result.generalization_gap


def curve(result: CnnResult) -> tuple[Array, Array]:
    """Steps and test accuracy in percent, before and after every event and at the recorded times."""
    points = [(step, 2, 1 - error) for step, error in zip(result.times, result.test_error)]
    for event in result.prunings:
        points += [(event.step, 0, event.accuracy_before), (event.step, 1, event.accuracy_after)]
    points.sort()
    steps, _, accuracy = zip(*points)
    return np.array(steps, float), 100 * np.array(accuracy)


def events(result: CnnResult) -> tuple[Array, Array]:
    """Steps of the events and their instability in percentage points."""
    return (
        np.array([event.step for event in result.prunings], float),
        np.array([100 * event.instability for event in result.prunings]),
    )


def padded(found: Found, of: Callable[[CnnResult], tuple[Array, Array]]) -> tuple[Array, Array]:
    """Steps (settings, points) and values (settings, seeds, points), NaN where there are fewer."""
    each = {name: of(sound_run({name: runs}))[0] for name, runs in found.items()}
    most = max(map(len, each.values()))

    def fill(values: Array) -> Array:
        return np.pad(values, (0, most - len(values)), constant_values=np.nan)

    steps = np.array([fill(each[name]) for name in found])
    values = np.stack([
        per_run({name: runs}, lambda run: fill(of(run)[1]))[0] for name, runs in found.items()
    ])  # fmt: skip
    return steps, values
