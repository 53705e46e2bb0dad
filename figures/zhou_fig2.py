"""zhou2020, figure 2: ResNet-20 on random labels, training loss and collapsed filters by round.

The training labels are permuted once. Five rounds of cosine annealing, and no augmentation. Sparsity is
the share of the multiplications that goes with the filters whose |gamma| is below 1e-3. In small lambda
is greater, since the rounds are short.
"""

from __future__ import annotations

from collections.abc import Mapping

import xarray
from _cnn import Preset, Settings
from _trained import DEAD, Found, draw_band, draw_bars, evenly, per_run, redraw, sound_run
from matplotlib.figure import Figure
from zhou_rounds import EPOCH, ZHOU, sparsity

ROUNDS = 5
POINTS = 10
"""Recorded times in a round."""

_SMALL = {"cifar10": "digits"}
PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size="smoke", instead=_SMALL, steps=6500, changed={"lam": 4e-3, "batch": 40}),
    "digits": Preset(size="digits", instead=_SMALL, steps=30_000, changed={"lam": 1e-3, "batch": 40}),
    "cifar10": Preset(size="full", instead={}),
    "cifar100": Preset(size="full", instead={"cifar10": "cifar100"}),
}


def settings(preset: Preset) -> dict[tuple[str, ...], Settings]:
    own = {"steps": 500 * EPOCH, "rounds": ROUNDS, "times": evenly(ROUNDS * POINTS)}
    return {("resnet20",): {**ZHOU, **own, "random_labels": True, "flip": False, "crop": 0}}


def measured(found: Found) -> xarray.Dataset:
    rounds = range(1, ROUNDS + 1)
    first = sound_run(found)
    return xarray.Dataset(
        {
            "loss": (("seed", "step"), per_run(found, lambda run: run.loss)[0], {"units": "nat"}),
            "sparsity": (
                ("seed", "round"),
                per_run(found, lambda run: [sparsity(i)(run) for i in rounds])[0],
                {"units": "percent"},
            ),
            "train_error": (
                ("seed", "step"),
                per_run(found, lambda run: [100 * record.train_error for record in run.records])[0],
                {"units": "percent"},
            ),
        },
        {"step": first.times, "round": list(rounds)},
    )


def draw(data: xarray.Dataset) -> Figure:
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = data["step"].values
    for end in steps[-1] * data["round"].values[:-1] // ROUNDS:
        left.axvline(end, color="0.6", lw=0.8, ls=(0, (4, 3)))
    draw_band(left, steps, data["loss"].values, color="#0072B2")
    left.set_title("(a) fit to random labels; dashed: the learning rate starts anew")
    left.set_xlabel("step")
    left.set_ylabel("training loss (nats)")
    left.set_xlim(0, steps[-1])
    left.set_ylim(bottom=0)
    draw_bars(right, data["round"], data["sparsity"].values, color=DEAD, marker="o")
    right.set_title("(b) collapsed filters")
    right.set_xlabel("rounds of training")
    right.set_ylabel("sparsity: FLOPs of\ncollapsed filters (%)")
    right.set_xticks(data["round"].values)
    right.set_ylim(bottom=0)
    return figure


def main() -> None:
    redraw(
        __file__, __doc__, PRESETS,
        title="zhou2020, figure 2: a network on random labels over rounds of cosine annealing",
        settings=settings, measured=measured, draw=draw,
    )  # fmt: skip


if __name__ == "__main__":
    main()
