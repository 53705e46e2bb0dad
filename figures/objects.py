"""The rendered objects: four views of each class on the plain background, and before clutter.

After figure 4 of mehta2019s. --trajectories are the views of each class; --steps has no effect.
"""

from __future__ import annotations

import numpy as np
import xarray
from _run import Script
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regdyn import plots
from regdyn.cnn.objects import CLASSES, rendered_objects

CLUTTER = (0.0, 1.0)
COLUMNS = 2
GAP = 4
"""Pixels between images."""


def main() -> None:
    script = Script(__file__, __doc__, steps=0, trajectories=4)
    views, names = script.trajectories, list(CLASSES)
    images = np.array([examples(clutter, views, script.seed) for clutter in CLUTTER])
    with plots.style():
        figure = Figure(figsize=(8.6, 7.0), layout="constrained")
        each = -(-len(names) // COLUMNS)
        for i, ax in enumerate(figure.subplots(1, COLUMNS)):
            part = slice(i * each, (i + 1) * each)
            draw(ax, images[:, part], names[part])
        figure.suptitle(
            f"{len(names)} classes of objects on the plain background and before clutter",
            x=0.01,
            ha="left",
        )
    data = xarray.Dataset(
        {"image": (("clutter", "name", "view", "row", "column"), images)},
        {"clutter": list(CLUTTER), "name": names},
    )
    script.save(figure, data)


def examples(clutter: float, views: int, seed: int) -> np.ndarray:
    """So many images of each class, (classes, views, rows, columns)."""
    made = rendered_objects(clutter=clutter, n_train=views * len(CLASSES), n_test=1, seed=seed)
    by_class = np.argsort(made.y_train, kind="stable")
    return made.x_train[by_class, ..., 0].reshape(len(CLASSES), views, *made.size)


def draw(ax: Axes, images: np.ndarray, names: list[str]) -> None:
    """Images (clutter, classes, views, rows, columns), a row for each class."""
    padded = np.pad(images, [(0, 0)] * 3 + [(0, GAP)] * 2, constant_values=255)
    sets, classes, views, rows, columns = padded.shape
    ax.imshow(
        padded.transpose(1, 3, 0, 2, 4).reshape(classes * rows, sets * views * columns),
        cmap="gray", vmin=0, vmax=255,
    )  # fmt: skip
    ax.set_yticks((np.arange(classes) + 0.5) * rows, names)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)


if __name__ == "__main__":
    main()
