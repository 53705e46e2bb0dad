"""The shipped data sets: examples, and how hard the knobs of the drawn shapes make the task.

Top: one image of each of ten classes of digits and of clean, and the same objects in cluttered.
Bottom: test error of a BN+ReLU network under Adam without decay, over the number of classes, the
overlap and the clutter of the drawn shapes; each knob by itself, the others as in clean (30, 0, 0).
Points are means over seeds of data and network, bars the least and the greatest. --steps are those of
the training, --trajectories the seeds.
"""

from __future__ import annotations

import numpy as np
import xarray
from _run import Script
from matplotlib.figure import Figure, SubFigure

from regdyn import plots
from regdyn.dynamics.schedules import Cosine
from regdyn.nets.data import Dataset, make_dataset
from regdyn.nets.training import TrainConfig, train
from regdyn.plots.common import COLORS

NAMES = ("digits", "clean", "cluttered")
SHOWN = 10
HIDDEN, BATCH = (256, 256), 100
KNOBS: dict[str, tuple[float, ...]] = {
    "classes": (2, 5, 10, 20, 30, 50),
    "overlap": (0.0, 0.2, 0.4, 0.6, 0.8),
    "clutter": (0.0, 0.3, 0.6, 0.9, 1.2),
}
PLAIN = {"classes": 30, "overlap": 0.0, "clutter": 0.0, "n_train": 6000, "n_test": 2000}


def main() -> None:
    script = Script(__file__, __doc__, steps=2000, trajectories=3)
    texts = {knob: [drawn(knob, value) for value in values] for knob, values in KNOBS.items()}
    errors = measured_errors({"digits"}.union(*texts.values()), script)
    # By definition clean and cluttered are two of the sets over clutter.
    named = np.array([errors["digits"], errors[drawn("clutter", 0.0)], errors[drawn("clutter", 0.6)]])
    over = {knob: np.array([errors[text] for text in texts[knob]]) for knob in KNOBS}
    images = {name: examples(make_dataset(f"{name}:seed={script.seed}")) for name in NAMES}
    with plots.style():
        figure = Figure(figsize=(8.6, 5.6), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2.6))
        draw_examples(top, images, dict(zip(NAMES, named)))
        draw_errors(bottom, over)
    data = xarray.Dataset(
        {f"{knob}_error": ((knob, "repetition"), over[knob], {"units": "1"}) for knob in KNOBS}
        | {"error": (("name", "repetition"), named, {"units": "1"})},
        {knob: list(values) for knob, values in KNOBS.items()}
        | {"name": list(NAMES), "repetition": seeds(script)},
    )
    script.save(figure, data, hidden=HIDDEN, batch=BATCH, **PLAIN)


def drawn(knob: str, value: float) -> str:
    """What `make_dataset` calls the drawn shapes with one knob turned, without their seed."""
    return "synthetic:" + ",".join(f"{key}={each}" for key, each in {**PLAIN, knob: value}.items())


def seeds(script: Script) -> list[int]:
    return [script.seed + i for i in range(script.trajectories)]


def measured_errors(texts: set[str], script: Script) -> dict[str, np.ndarray]:
    """Test error of a network for each data set and seed of data and network."""
    ordered = sorted(texts)
    configs = [
        TrainConfig(
            data=make_dataset(f"{text}{',' if ':' in text else ':'}seed={seed}"), optimizer="adam",
            regularization="none", schedule=Cosine(script.steps), hidden=HIDDEN, batch=BATCH,
            steps=script.steps, times=[script.steps], seed=seed,
        )
        for text in ordered
        for seed in seeds(script)
    ]  # fmt: skip
    last = np.reshape([run.test_error[-1] for run in train(configs)], (len(ordered), -1))
    return dict(zip(ordered, last))


def examples(task: Dataset) -> np.ndarray:
    """The first training image of each of the first classes, with grey levels as they are stored."""
    assert task.image_shape is not None
    first = [int(np.argmax(task.y_train == label)) for label in range(SHOWN)]
    return task.raw(task.x_train[first]).reshape(SHOWN, *task.image_shape)


def draw_examples(
    figure: SubFigure, images: dict[str, np.ndarray], errors: dict[str, np.ndarray]
) -> None:
    axes = figure.subplots(len(images), SHOWN)
    for row, (name, shown) in zip(axes, images.items()):
        brightest = 16 if name == "digits" else 1
        for ax, image in zip(row, shown):
            ax.imshow(image, cmap="gray", vmin=0, vmax=brightest)
            ax.set_xticks([])
            ax.set_yticks([])
            ax.grid(False)
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(
            f"{name}\n{100 * errors[name].mean():.1f} %", rotation=0, ha="right", va="center"
        )
    figure.suptitle(
        "Examples, and test error of a BN+ReLU network of 256 and 256 units", x=0.01, ha="left"
    )


def draw_errors(figure: SubFigure, errors: dict[str, np.ndarray]) -> None:
    for ax, (knob, measured) in zip(figure.subplots(1, len(errors), sharey=True), errors.items()):
        percent = 100 * measured
        mean = percent.mean(axis=1)
        spread = np.abs([percent.min(axis=1), percent.max(axis=1)] - mean)
        ax.errorbar(KNOBS[knob], mean, spread, fmt="o-", ms=4, lw=1.2, color=COLORS[5], mfc="white")
        ax.set_xlabel(knob)
    figure.axes[0].set_ylim(0, None)
    figure.axes[0].set_ylabel("test error / percent")


if __name__ == "__main__":
    main()
