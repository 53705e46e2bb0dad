"""The plane of gamma and beta, and the region in it where filters practically never fire."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from scipy.stats import norm

from regdyn.errors import InvalidParameter
from regdyn.plots import plot_scale_plane
from regdyn.plots.scale_plane import MOST_NAMED, Plane

RANDOM = np.random.default_rng(0)


def planes(layers: int, filters: int = 30) -> list[Plane]:
    return [
        (f"layer{i}.bn", RANDOM.normal(size=filters) / 10 ** RANDOM.uniform(0, 4, filters),
         RANDOM.normal(size=filters))
        for i in range(layers)
    ]  # fmt: skip


def drawn(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """The points in the plane."""
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    x, y = (np.concatenate([getattr(line, f"get_{k}data")() for line in lines]) for k in "xy")
    return x, y


@pytest.mark.parametrize("layers", [1, MOST_NAMED, MOST_NAMED + 1, 40])
def test_every_filter_is_drawn(layers: int) -> None:
    given = planes(layers)
    figure = plot_scale_plane(given)
    x, y = drawn(figure)
    np.testing.assert_allclose(x, np.abs(np.concatenate([gamma for _, gamma, _ in given])))
    np.testing.assert_allclose(y, np.concatenate([beta for _, _, beta in given]))
    ax = figure.axes[0]
    assert ax.get_xlim()[0] < x.min() and x.max() < ax.get_xlim()[1]
    assert -ax.get_ylim()[0] == ax.get_ylim()[1] > np.abs(y).max()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "symlog")
    assert ax.get_title(loc="left") == f"{30 * layers:,} filters in {layers} layer{'s' * (layers > 1)}"
    named = [text.get_text() for text in ax.get_legend().get_texts()]
    if layers <= MOST_NAMED:
        assert named[2:] == [name for name, _, _ in given] and len(figure.axes) == 1
    else:
        assert len(named) == 2 and figure.axes[1].get_yticklabels()[0].get_text() == "layer0.bn"
        assert figure.axes[1].get_yticklabels()[-1].get_text() == f"layer{layers - 1}.bn"


@pytest.mark.parametrize("probability, alpha", [(1e-3, 0.0), (0.01, 0.2)])
def test_the_region_is_where_filters_do_not_fire(probability: float, alpha: float) -> None:
    figure = plot_scale_plane(planes(3), probability=probability, alpha=alpha)
    ax = figure.axes[0]
    (region,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    (path,) = region.get_paths()
    low, high = ax.get_xlim()
    scale = 10 ** RANDOM.uniform(np.log10(low), np.log10(high), 400)
    shift = ax.get_ylim()[1] * RANDOM.uniform(-1, 1, 400) ** 3
    fires = norm.cdf(shift / scale)
    clear = np.abs(np.log10(np.maximum(fires, 1e-300) / probability)) > 0.05
    inside = path.contains_points(np.column_stack((scale, shift)))
    np.testing.assert_array_equal(inside[clear], fires[clear] < probability)
    assert 50 < inside.sum() < 350
    words = ax.get_legend().get_texts()[0].get_text()
    assert (r"(\beta + \alpha)" in words) == (alpha > 0) == (r"\alpha$ = 0.2" in ax.get_ylabel())


def test_alpha_shifts_every_filter() -> None:
    given = planes(2)
    _, plain = drawn(plot_scale_plane(given))
    _, shifted = drawn(plot_scale_plane(given, alpha=0.1))
    np.testing.assert_allclose(shifted, plain + 0.1)


def test_scales_of_nothing_stand_at_the_edge() -> None:
    figure = plot_scale_plane([("a", [0.0, 1e-15, -0.3], [0.1, -0.2, 0.3])])
    x, y = drawn(figure)
    low = figure.axes[0].get_xlim()[0]
    assert sorted(x) == [low, low, 0.3] and sorted(y) == [-0.2, 0.1, 0.3]
    assert figure.axes[0].get_title(loc="left").endswith("2 smaller scales at the left edge")


def test_the_threshold_is_drawn() -> None:
    ax = plot_scale_plane(planes(1), threshold=0.02).axes[0]
    (line,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert set(line.get_xdata()) == {0.02}
    assert ax.get_xlim()[0] < 0.02 < ax.get_xlim()[1]


def test_a_figure_of_the_caller() -> None:
    figure = Figure()
    assert plot_scale_plane(planes(1), figure=figure) is figure


@pytest.mark.parametrize("given", [[], [("a", [], [])]])
def test_nothing_to_draw(given: list[Plane]) -> None:
    with pytest.raises(InvalidParameter, match="planes must be layers with at least one filter"):
        plot_scale_plane(given)
