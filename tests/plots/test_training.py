"""Pictures of training: what is on the axes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from networks import random_data

from regdyn import InvalidParameter, TrainConfig, TrainResult, plots, train
from regdyn.optimizers import make_optimizer
from regdyn.plots.scales import ALIVE, DEAD, MOST_LINES
from regdyn.plots.training import MOST_RUNS

matplotlib.use("agg")

DATA = random_data()


@cache
def run(optimizer: str = "adam", lr: float = 1e-3, **settings: Any) -> TrainResult:
    """Scales that start so near to the threshold that some units die."""
    config = {"data": DATA, "hidden": (9, 6), "batch": 10, "steps": 40, "lam": 0.1}
    if settings.get("norm") != "none":
        config["gamma0"] = 2e-3
    (result,) = train([TrainConfig(optimizer=make_optimizer(optimizer, lr=lr), **config | settings)])
    return result


def failed() -> TrainResult:
    result = run("sgd", lr=1e6, norm="none")
    assert result.failed
    return result


def drawn(ax: Axes) -> dict[str, list[np.ndarray]]:
    """Curves of single units by their colour."""
    return {
        to_hex(collection.get_color()[0]).upper(): [
            np.asarray(path.vertices) for path in collection.get_paths()
        ]
        for collection in ax.collections
        if isinstance(collection, LineCollection)
    }


def entries(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def shares(ax: Axes) -> list[np.ndarray]:
    """Heights of the outlined histograms, in the order of the layers."""
    patches = [patch for patch in ax.patches if isinstance(patch, StepPatch) and not patch.get_fill()]
    return [patch.get_data().values for patch in patches]


def test_every_unit_is_a_curve_in_the_colour_of_its_fate() -> None:
    result = run()
    figure = plots.plot_training([result])
    assert len(figure.axes) == 5
    for layer in range(2):
        dead = result.inactive[layer]
        for ax, values in zip(figure.axes[2 * layer :], (result.gamma[layer], result.beta[layer])):
            curves = drawn(ax)
            for color, mask in ((ALIVE[0], ~dead), (DEAD[0], dead)):
                shown = curves.get(color, [])
                assert len(shown) == mask.sum()
                for curve, unit in zip(shown, np.flatnonzero(mask)):
                    np.testing.assert_array_equal(curve[:, 0], result.times)
                    np.testing.assert_array_equal(curve[:, 1], values[:, unit].astype(float))
            medians = [np.median(values[:, mask], axis=1) for mask in (~dead, dead) if mask.any()]
            np.testing.assert_allclose([line.get_ydata() for line in ax.lines], medians)
    assert any(mask.any() for mask in result.inactive), "else nothing is tested of them"


def test_scales_are_linear_within_the_threshold_and_logarithmic_beyond() -> None:
    result = run(threshold=1.5e-3)
    scale, shift = plots.plot_training([result]).axes[:2]
    assert scale.get_yscale() == "symlog" and shift.get_yscale() == "linear"
    transform = scale.yaxis.get_transform()
    assert transform.linthresh == 1.5e-3
    low, high = scale.get_ylim()
    values = result.gamma[0]
    assert low <= values.min() and high >= values.max() and high > 1.5e-3


def test_words() -> None:
    result = run()
    figure = plots.plot_training([result])
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts == [f"{100 * mask.mean():.1f} % dead" for mask in result.inactive]
    assert [ax.get_ylabel() for ax in figure.axes] == [
        r"layer 1: scale $\gamma$", r"layer 1: shift $\beta$",
        r"layer 2: scale $\gamma$", r"layer 2: shift $\beta$", "share of units (%)",
    ]  # fmt: skip
    assert [ax.get_xlabel() for ax in figure.axes][-2:] == [
        "step", "universality (% of the training set)",
    ]  # fmt: skip
    title = figure.axes[0].get_title(loc="left")
    assert title == r"Adam, L2, $\lambda$ = 0.1" + f"\ntest error {100 * result.error:.2g} %"
    assert figure.get_suptitle().replace("\n", " ") == (
        "random, 9-6 units, ReLU with batch norm, batch 10, 40 steps, seed 0"
    )
    assert entries(figure) == [
        "alive at the end", "dead at the end", "their medians",
        r"counts as dead: $|\gamma|$ < $10^{-3}$", "universality, layer 1", "universality, layer 2",
    ]  # fmt: skip


def test_universality_is_a_share_of_the_units() -> None:
    result = run()
    found = shares(plots.plot_training([result]).axes[-1])
    assert len(found) == 2
    for heights, record in zip(found, result.activation_records):
        assert record.universality is not None
        counts = np.histogram(record.universality, np.linspace(0, 1, len(heights) + 1))[0]
        np.testing.assert_allclose(heights, counts / record.units)
        assert heights.sum() == pytest.approx(1)


def test_columns_have_common_axes_and_say_what_differs() -> None:
    results = [run(), run("sgd", seed=3), run("sgd", seed=3, lr=0.5)]
    figure = plots.plot_training(results)
    grid = np.array(figure.axes).reshape(5, 3)
    for row in grid:
        assert len({ax.get_ylim() for ax in row}) == 1
        assert [ax.get_ylabel() for ax in row[1:]] == ["", ""]
        assert [ax.yaxis.get_tick_params()["labelleft"] for ax in row] == [True, False, False]
    titles = [ax.get_title(loc="left").split("\n") for ax in grid[0]]
    assert [title[:-1] for title in titles] == [
        [r"Adam, L2, $\lambda$ = 0.1", "seed 0"],
        [r"SGD, L2, $\lambda$ = 0.1", "seed 3", r"$\eta$ = $10^{-3}$"],
        [r"SGD, L2, $\lambda$ = 0.1", "seed 3", r"$\eta$ = 0.5"],
    ]
    assert "seed" not in figure.get_suptitle()


def test_without_normalisation_the_norms_are_drawn() -> None:
    result = run(norm="none")
    ax = plots.plot_training([result]).axes[0]
    curves = [curve for shown in drawn(ax).values() for curve in shown]
    assert ax.get_ylabel() == "layer 1: norm $||w||$" and ax.get_ylim()[0] == 0
    starts = sorted(curve[0, 1] for curve in curves)
    np.testing.assert_array_equal(starts, np.sort(result.norm[0][0]).astype(float))
    both = plots.plot_training([run(), result])
    assert both.axes[1].get_ylabel() == "layer 1: norm $||w||$", "where it differs it is said"


def test_of_deep_networks_three_layers_are_drawn() -> None:
    deep, flat = run(hidden=(5,) * 6), run(hidden=(5,))
    figure = plots.plot_training([deep])
    labels = [ax.get_ylabel().split(":")[0] for ax in figure.axes[:6:2]]
    assert labels == ["layer 1", "layer 3", "layer 6"]
    np.testing.assert_array_equal(
        np.sort([c[-1, 1] for shown in drawn(figure.axes[4]).values() for c in shown]),
        np.sort(deep.gamma[5][-1]).astype(float),
    )
    grid = np.array(plots.plot_training([flat, deep]).axes).reshape(7, 2)
    assert [ax.axison for ax in grid[:, 0]] == [True, True, False, False, False, False, True]
    assert grid[2, 1].yaxis.get_tick_params()["labelleft"], "the first that is there has the numbers"


def test_of_wide_layers_some_units_are_drawn() -> None:
    result = run(hidden=(3 * MOST_LINES,), steps=2)
    (count,) = {sum(map(len, drawn(ax).values())) for ax in plots.plot_training([result]).axes[:2]}
    assert count == MOST_LINES


def test_a_failed_run_is_drawn_as_far_as_it_came_and_stretches_no_axis() -> None:
    sound = run(norm="none")
    limits = [ax.get_ylim() for ax in plots.plot_training([sound]).axes]
    figure = plots.plot_training([sound, failed()])
    grid = np.array(figure.axes).reshape(5, 2)
    assert [ax.get_ylim() for ax in grid[:, 0]] == limits
    assert grid[0, 1].get_title(loc="left").endswith("\nfailed")
    assert [text.get_text() for text in grid[-1, 1].texts] == ["failed"] and not shares(grid[-1, 1])
    figure.canvas.draw()


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 1},
        {"times": (0,)},
        {"times": (7,)},
        {"hidden": (1,)},
        {"activation": "tanh"},
        {"threshold": 1e300},
        {"threshold": 1e-300},
        {"gamma0": 0.0, "beta0": 0.0},
        {"gamma0": -1.0},
        {"gamma0": 1e6, "beta0": -1e6},
        {"regularization": "none"},
        {"lr": 1e6, "optimizer": "sgd", "norm": "none"},
        {"lr": 1e6, "optimizer": "sgd", "norm": "none", "times": (40,)},
    ],
    ids=str,
)
def test_extremes(settings: dict[str, Any], tmp_path: Path) -> None:
    plots.save_training([run(**settings)], tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_bad_arguments() -> None:
    with pytest.raises(InvalidParameter, match="results must be at least one"):
        plots.plot_training([])
    with pytest.raises(
        InvalidParameter, match="results must be at most 6 runs, a column for each, got 7"
    ):
        plots.plot_training([run()] * (MOST_RUNS + 1))


def test_a_given_figure_is_used() -> None:
    figure = Figure()
    assert run().plot(figure) is figure and len(figure.axes) == 5
    assert run().plot() is not figure


@pytest.mark.parametrize("suffix, start", [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_files(suffix: str, start: bytes, tmp_path: Path) -> None:
    target = tmp_path / f"training{suffix}"
    plots.save_training([run()], target)
    first = target.read_bytes()
    assert first.startswith(start)
    with pytest.raises(InvalidParameter, match="plot must be a new file"):
        plots.save_training([run("sgd")], target)
    assert target.read_bytes() == first
    plots.save_training([run()], target, force=True)
    assert target.read_bytes() == first, "the same data gives the same file"
    with pytest.raises(InvalidParameter, match=r"plot must be a file that ends in \.png"):
        plots.save_training([run()], tmp_path / "x.gif")
    assert list(tmp_path.iterdir()) == [target]
