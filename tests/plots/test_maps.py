"""Pictures of sweeps: what is on them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import LogNorm, Normalize, to_hex
from matplotlib.figure import Figure

import regdyn
from regdyn import InvalidParameter, Sweep
from regdyn.plots.maps import lay_out, plot_map
from regdyn.sweeps.plan import make_plan
from regdyn.sweeps.store import open_store

matplotlib.use("agg")

LAM = [1e-3, 1e-2, 0.1, 0.3]
SIGMA = [1e-5, 1e-3, 1e-1]
BASE: dict[str, Any] = {"steps": 300, "trajectories": 16, "threshold": 0.72, "chunk": 1}

NEVER, DIVERGED, PREDICTED = "#d9d9d9", "#7f7f7f", "#d55e00"

Make = Callable[..., Sweep]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A small sweep in a folder of its own."""

    def sweep(axes: dict[str, Any], **fixed: Any) -> Sweep:
        given = {name: value for name, value in BASE.items() if name not in axes}
        return regdyn.sweep(axes, out=tmp_path / "map.zarr", **(given | fixed))

    return sweep


@pytest.fixture
def make_empty(tmp_path: Path) -> Make:
    """The same before anything is simulated."""

    def sweep(axes: dict[str, Any], **fixed: Any) -> Sweep:
        return Sweep(open_store(tmp_path / "map.zarr", make_plan(axes, **fixed)).path)

    return sweep


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two axes of words and two of numbers: some points pass, some never, some diverge."""
    axes = {"regularization": ["l2", "decoupled"], "optimizer": ["adam", "sgd"], "lam": [*LAM, 60.0]}
    out = tmp_path_factory.mktemp("words") / "map.zarr"
    return regdyn.sweep(axes | {"sigma": SIGMA}, out=out, **BASE)


def panels(figure: Figure) -> list[Axes]:
    """The colour bar is the last."""
    return figure.axes[:-1]


def mesh(ax: Axes) -> QuadMesh:
    """The coloured cells; grey ones come after them."""
    return next(each for each in ax.collections if isinstance(each, QuadMesh))


def entries(holder: Any) -> list[str]:
    legends = holder.legends if isinstance(holder, Figure) else [holder.get_legend()]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def pixels(figure: Figure, ax: Axes, x: np.ndarray, y: np.ndarray) -> list[list[str]]:
    """The colour near the middle of each cell, rows of y, where x and y are as drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())
    found = []
    for b in y:
        places = [ax.transData.transform((a + 0.1, b + 0.1)) for a in x]
        found.append([to_hex(image[-1 - int(v), int(u)] / 255) for u, v in places])
    return found


def medians(sweep: Sweep, **at: Any) -> np.ndarray:
    """(sigma, lam)."""
    passage = sweep.to_xarray()["first_passage"].sel(level=0.5, **at)
    return passage.transpose("sigma", "lam").values


# --- Two axes of numbers --------------------------------------------------------------------------


def test_a_panel_for_each_combination_of_words(words: Sweep) -> None:
    figure = words.plot(theory=False, title="Where weights die")
    assert [ax.get_title(loc="left") or ax.get_title() for ax in panels(figure)] == [
        "Adam, L2", "SGD, L2", "Adam, decoupled", "SGD, decoupled",
    ]  # fmt: skip
    assert [ax.get_xlabel() for ax in panels(figure)] == ["", "", r"$\lambda$", r"$\lambda$"]
    noise = r"gradient noise $\sigma$"
    assert [ax.get_ylabel() for ax in panels(figure)] == [noise, "", noise, ""]
    assert figure.get_suptitle() == (
        "Where weights die\nthreshold = 0.72, 16 trajectories a point, 300 steps"
    )
    assert figure.axes[-1].get_ylabel() == "median first step\nbelow the threshold"
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in panels(figure)}) == 1


def test_cells_are_the_medians(words: Sweep) -> None:
    figure = words.plot(theory=False)
    for ax, regularization, optimizer in zip(
        panels(figure), ("l2", "l2", "decoupled", "decoupled"), ("adam", "sgd") * 2, strict=True
    ):
        wanted = medians(words, regularization=regularization, optimizer=optimizer)
        shown = np.ma.filled(mesh(ax).get_array(), np.nan)
        np.testing.assert_array_equal(shown, np.where(np.isfinite(wanted), wanted, np.nan))
        norm = mesh(ax).norm
        assert isinstance(norm, LogNorm)
        every = words.to_xarray()["first_passage"].sel(level=0.5).values
        assert (norm.vmin, norm.vmax) == (every.min(), every[np.isfinite(every)].max())


def test_colours_of_cells(words: Sweep) -> None:
    figure = words.plot(theory=False, at={"regularization": "l2", "optimizer": "sgd"}, training=[1])
    (ax,) = panels(figure)
    found = pixels(figure, ax, np.log10([*LAM, 60.0]), np.log10(SIGMA))
    data = words.to_xarray().sel(regularization="l2", optimizer="sgd")
    wanted = medians(words, regularization="l2", optimizer="sgd")
    lost = (data["diverged"] > 8).transpose("sigma", "lam").values
    kinds = set()
    for colors, values, diverged in zip(found, wanted, lost, strict=True):
        for color, value, away in zip(colors, values, diverged, strict=True):
            kinds.add((bool(np.isinf(value)), bool(away)))
            if away:
                assert color == DIVERGED
            elif np.isinf(value):
                assert color == NEVER
            else:
                shown = matplotlib.colormaps["viridis"](mesh(ax).norm(value))
                assert color == to_hex(shown)
    assert kinds == {(True, False), (False, False), (True, True)}
    assert entries(figure) == ["the median never passes", "most trajectories diverge"]


def test_only_what_there_is_is_in_the_legend(make: Make) -> None:
    figure = make({"lam": [0.1, 0.3], "sigma": SIGMA}, steps=2000).plot(theory=False)
    assert figure.legends == []


@pytest.mark.parametrize("removed", [0, 5, 11])
def test_white_where_nothing_has_been_simulated(removed: int, make: Make) -> None:
    sweep = make({"lam": LAM, "sigma": SIGMA})
    i, j = divmod(removed, len(SIGMA))
    for variable in sweep.to_xarray().data_vars:
        for file in (sweep.path / str(variable)).glob(f"{i}.{j}*"):
            file.unlink()
    rest = Sweep(sweep.path)
    assert (rest.simulated, rest.points) == (11, 12)
    for what in ("passage", "below"):
        figure = rest.plot(theory=False, training=[1], what=what)
        found = pixels(figure, panels(figure)[0], np.log10(LAM), np.log10(SIGMA))
        white = [(x, y) for y, row in enumerate(found) for x, c in enumerate(row) if c == "#ffffff"]
        assert white == [(i, j)]
        assert "16 trajectories a point" in figure.get_suptitle()


def test_an_empty_store(make_empty: Make) -> None:
    figure = make_empty({"lam": LAM, "sigma": SIGMA}).plot(theory=False)
    found = pixels(figure, panels(figure)[0], np.log10(LAM), np.log10(SIGMA))
    assert {color for row in found for color in row} == {"#ffffff"} and figure.legends == []


def test_order_of_values_and_of_axes(make: Make, tmp_path: Path) -> None:
    sweep = make({"sigma": SIGMA[::-1], "lam": [LAM[i] for i in (2, 0, 3, 1)]})
    other = regdyn.sweep({"lam": LAM, "sigma": SIGMA}, out=tmp_path / "other.zarr", **BASE)
    grey = [
        [np.ma.filled(each.get_array(), 0) for each in panels(s.plot())[0].collections]
        for s in (sweep, other)
    ]  # fmt: skip
    assert len(grey[0]) == 2
    np.testing.assert_array_equal(*grey)
    shown = [arrays[0] for arrays in grey]
    turned = other.plot(x="sigma", y="lam", theory=False)
    np.testing.assert_array_equal(np.ma.filled(mesh(panels(turned)[0]).get_array(), 0), shown[1].T)
    assert panels(turned)[0].get_ylabel() == r"$\lambda$"
    # What is not said is the usual.
    assert panels(other.plot(y="lam", x="sigma", theory=False))[0].get_xlabel().endswith(r"$\sigma$")
    assert panels(other.plot(x="sigma", theory=False))[0].get_ylabel() == r"$\lambda$"


def test_a_row_for_the_first_of_two_dimensions(make_empty: Make) -> None:
    axes = {"theta0": [1.0, 2.0, 3.0], "optimizer": ["adam", "sgd"], "lam": LAM, "sigma": SIGMA}
    figure = make_empty(axes).plot(theory=False)
    # The longer one runs along a row.
    assert [ax.get_title(loc="left") or ax.get_title() for ax in panels(figure)] == [
        rf"{name}, start $\theta_0$ = {start}" for name in ("Adam", "SGD") for start in (1, 2, 3)
    ]  # fmt: skip
    rows = [ax.get_subplotspec().rowspan.start for ax in panels(figure)]
    assert rows == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("count, columns", [(3, 3), (5, 3), (7, 4), (24, 4)])
def test_rows_of_one_dimension(count: int, columns: int, make_empty: Make) -> None:
    axes = {"theta0": np.arange(1.0, count + 1), "lam": LAM, "sigma": SIGMA}
    figure = make_empty(axes).plot(theory=False)
    assert len(panels(figure)) == count
    assert panels(figure)[0].get_subplotspec().get_gridspec().ncols == columns


def test_seeds_are_panels(make: Make) -> None:
    figure = make({"lam": LAM, "seed": [0, 1], "sigma": SIGMA}).plot(theory=False)
    assert [ax.get_title(loc="left") or ax.get_title() for ax in panels(figure)] == [
        "seed = 0", "seed = 1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values, places, labels",
    [
        ([1e-4, 1e-3, 1e-2], [-4, -3, -2], ["$10^{-4}$", "$10^{-3}$", "$10^{-2}$"]),
        ([0.0, 0.5, 1.0], [0, 0.5, 1], None),
        ([0.0, 1e-5, 1e-3, 1e-1], [0, 1, 2, 3], ["0", "1e-05", "0.001", "0.1"]),
        ([1e-3, 2e-3, 4e-3], [-3, np.log10(2e-3), np.log10(4e-3)], ["0.001", "0.002", "0.005"]),
    ],
    ids=["log", "linear", "places", "less than a decade"],
)
def test_scales(values: list[float], places: list[float], labels: Any, make_empty: Make) -> None:
    figure = make_empty({"lam": values, "sigma": SIGMA}).plot(theory=False)
    (ax,) = panels(figure)
    edges = mesh(ax).get_coordinates()[0, :, 0]
    np.testing.assert_allclose((edges[1:] + edges[:-1])[1:-1] / 2, places[1:-1], atol=0.06)
    assert edges[0] < places[0] < edges[1] and edges[-2] < places[-1] < edges[-1]
    if labels is not None:
        assert [text.get_text() for text in ax.get_xticklabels()] == labels


# --- Lines of equal passage -----------------------------------------------------------------------


def lines(ax: Axes, color: str) -> list[np.ndarray]:
    return [
        np.column_stack(line.get_data()) for line in ax.lines if to_hex(line.get_color()) == color
    ]  # fmt: skip


def test_simulated_line_is_between_what_passes_and_what_does_not(make: Make) -> None:
    sweep = make({"lam": LAM, "sigma": SIGMA})
    wanted = medians(sweep)
    length = int(np.median(wanted[np.isfinite(wanted)]))
    (ax,) = panels(sweep.plot(theory=False, training=[length]))
    points = np.concatenate(lines(ax, "#ffffff"))
    assert len(points) >= 3 and lines(ax, PREDICTED) == []
    for across, up in points:
        i, j = np.interp(across, np.log10(LAM), range(4)), np.interp(up, np.log10(SIGMA), range(3))
        near = (slice(int(np.floor(at)), int(np.ceil(at)) + 1) for at in (j, i))
        ends = wanted[tuple(near)]
        assert ends.min() <= length <= ends.max()
    # Every pair of neighbours on different sides has its crossing.
    below = wanted <= length
    pairs = np.sum(below[1:] != below[:-1]) + np.sum(below[:, 1:] != below[:, :-1])
    assert len(points) == pairs


def test_legend_of_the_lines(make: Make) -> None:
    axes = {"lam": [1e-5, 1e-4, 1e-3, 1e-2], "sigma": [1e-5, 1e-3]}
    sweep = make(axes, optimizer="sgd", steps=2000)
    never = "the median never passes"
    simulated, predicted = "simulated: median at", "predicted: median at"
    one, all_ = "1,000 steps", "1,000 and 300 steps"
    assert entries(sweep.plot(training=[1000], theory=False)) == [never, f"{simulated} {one}"]
    assert entries(sweep.plot(training=[1000])) == [never, f"{simulated} {one}", f"{predicted} {one}"]
    assert entries(sweep.plot(training=[1000, 300])) == [
        never, f"{simulated} {all_}", f"{predicted} {all_}",
    ]  # fmt: skip
    assert entries(sweep.plot()) == [never, f"{simulated} 2,000 steps", f"{predicted} 2,000 steps"]
    (ax,) = panels(sweep.plot())
    assert len(lines(ax, "#ffffff")) == len(lines(ax, PREDICTED)) == 1
    assert len({line.get_linestyle() for line in ax.lines}) == 2
    assert not sweep.plot(what="spread").legends and not sweep.plot(what="below").legends


@pytest.mark.parametrize(
    "steps, lengths",
    [
        (10_000, [10_000]),
        (15_640, [15_640]),
        (39_100, [15_640, 39_100]),
        (406_249, [15_640, 39_100, 78_200]),
        (10**6, [15_640, 39_100, 78_200, 406_250]),
    ],
)
def test_trainings_of_the_papers(steps: int, lengths: list[int], make_empty: Make) -> None:
    asked: list[list[int]] = []
    data = make_empty({"lam": LAM, "sigma": SIGMA}, steps=steps).to_xarray()
    plot_map(data, predicted=lambda *question: asked.append(question[-1]))
    assert asked == [lengths]


def test_what_theory_is_asked(words: Sweep) -> None:
    asked: list[tuple[Any, ...]] = []

    def predicted(*question: Any) -> None:
        asked.append(question[1:])

    plot_map(
        words.to_xarray(), predicted=predicted, training=[100, 200], at={"regularization": "decoupled"}
    )
    assert asked == [
        ("lam", "sigma", {"regularization": "decoupled", "optimizer": name}, [100, 200])
        for name in ("adam", "sgd")
    ]


# --- Curves ---------------------------------------------------------------------------------------


def test_one_axis_of_numbers_gives_curves(make: Make) -> None:
    sweep = make({"optimizer": ["adam", "sgd"], "lam": LAM[::-1]}, sigma=1e-2)
    data = sweep.to_xarray().sortby("lam")
    figure = sweep.plot(title="Curves")
    (ax,) = figure.axes
    assert (ax.get_xlabel(), ax.get_yscale()) == (r"$\lambda$", "log")
    assert ax.get_ylabel() == "median first step\nbelow the threshold (band: 95 %)"
    assert ax.get_title(loc="left") == (
        "Curves\nL2, threshold = 0.72, 16 trajectories a point, 300 steps\n"
        "no point where the median never passes"
    )
    assert entries(ax) == ["Adam", "SGD"]
    bands = [each for each in ax.collections if isinstance(each, PolyCollection)]
    for line, band, name in zip(ax.lines, bands, ("adam", "sgd"), strict=True):
        wanted = data["first_passage"].sel(optimizer=name, level=0.5).values
        assert np.isfinite(wanted).any() and np.isinf(wanted).any()
        np.testing.assert_allclose(line.get_xdata(), np.log10(LAM))
        np.testing.assert_array_equal(line.get_ydata(), np.where(np.isinf(wanted), np.nan, wanted))
        bounds = data["first_passage_interval"].sel(optimizer=name).values
        shown = np.isfinite(bounds).all(axis=1) & np.isfinite(wanted)
        assert shown.any()
        corners = np.concatenate([path.vertices for path in band.get_paths()])
        assert set(corners[:, 1]) == set(bounds[shown].ravel())
        assert to_hex(band.get_facecolor()[0][:3]) == to_hex(line.get_color())


def test_a_single_curve_needs_no_legend(make: Make) -> None:
    (ax,) = make({"lam": LAM}).plot(what="below").axes
    assert ax.get_legend() is None and not ax.collections
    assert (ax.get_yscale(), ax.get_ylabel()) == ("linear", "share of all steps\nbelow the threshold")


def test_holding_an_axis_leaves_curves(words: Sweep) -> None:
    (ax,) = words.plot(at={"sigma": 1e-3, "regularization": "l2"}).axes
    assert entries(ax) == ["Adam", "SGD"]
    held = r"L2, gradient noise $\sigma$ = $10^{-3}$, threshold = 0.72"
    first = ax.get_title(loc="left").splitlines()[0]
    assert first == f"{held}, 16 trajectories a point, 300 steps"


def test_curves_of_points_that_never_pass(make: Make) -> None:
    figure = make({"lam": [1e-5, 1e-4]}, optimizer="sgd").plot()
    assert np.isnan(figure.axes[0].lines[0].get_ydata()).all()
    FigureCanvasAgg(figure).draw()


# --- Values that are held -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wanted, nearest",
    [(1e-3, 1e-3), (0.0, 1e-3), (0.056, 0.1), (0.19, 0.1), (0.21, 0.3), (50, 60.0), ("1e-2", 1e-2)],
)
def test_the_nearest_value_is_held(wanted: Any, nearest: float, words: Sweep) -> None:
    at = {"lam": wanted, "regularization": "decoupled", "optimizer": "sgd"}
    (ax,) = words.plot(at=at, what="below").axes
    data = words.to_xarray().sel(lam=nearest, regularization="decoupled", optimizer="sgd")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), data["share_below"].values)


def test_two_values_of_a_switch(make: Make) -> None:
    sweep = make({"nesterov": [False, True], "lam": LAM, "sigma": SIGMA}, optimizer="sgd")
    assert len(panels(sweep.plot(theory=False))) == 2
    data = sweep.to_xarray().sel(nesterov=True)["share_below"].transpose("sigma", "lam").values
    for wanted in (True, "True"):
        (ax,) = panels(sweep.plot(theory=False, what="below", at={"nesterov": wanted}))
        np.testing.assert_array_equal(mesh(ax).get_array(), data)


# --- What is refused ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "what": ({"what": "pasage"}, r"what must be one of passage, below, spread \(nearest: passage\)"),
    "x": ({"x": "lambda"}, r"x must be one of lam, sigma \(nearest: lam\), got 'lambda'"),
    "x of words": ({"x": "optimizer"}, "x must be one of lam, sigma, got 'optimizer'"),
    "y": ({"y": "sgima"}, r"y must be one of sigma \(nearest: sigma\), got 'sgima'"),
    "twice": ({"x": "sigma", "y": "sigma"}, "y must be one of lam, got 'sigma'"),
    "at": ({"at": {"lamda": 1}}, r"at must be one of regularization, .*nearest: lam"),
    "at no number": ({"at": {"lam": "x"}}, "at must be lam=NUMBER, got x"),
    "at no word": ({"at": {"optimizer": "adm"}}, r"at must be one of adam, sgd \(nearest: adam\)"),
    "at nan": ({"at": {"lam": "nan"}}, "at must be lam=NUMBER, got nan"),
    "y without x": ({"at": {"lam": 1}, "y": "lam"}, "y must be "),
    "held": ({"at": {"lam": 1, "sigma": 1}}, "x must be an axis of numbers, and this map has none"),
    "file": ({"path": "map.gif"}, r"plot must be a file that ends in \.png, \.pdf or \.svg"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, words: Sweep, tmp_path: Path) -> None:
    options, message = REFUSED[case]
    target = tmp_path / options.get("path", "map.png")
    with pytest.raises(InvalidParameter, match=message):
        words.save_plot(target, **{k: v for k, v in options.items() if k != "path"})
    assert list(tmp_path.iterdir()) == []


def test_no_axis_of_numbers(make: Make) -> None:
    for axes in ({"optimizer": ["adam", "sgd"]}, {}):
        with pytest.raises(InvalidParameter, match="x must be an axis of numbers, and this map has no"):
            make(axes, force=True).plot()


def test_too_many_panels_and_curves(make_empty: Make, tmp_path: Path) -> None:
    sweep = make_empty({"theta0": np.arange(1.0, 26), "lam": LAM, "sigma": SIGMA})
    wanted = r"at must be given such that at most 24 panels are left \(theta0\), got 25"
    with pytest.raises(InvalidParameter, match=wanted):
        sweep.plot()
    assert len(panels(sweep.plot(at={"theta0": 3}, theory=False))) == 1
    axes = {"schedule": [f"step:{n}" for n in range(1, 26)], "lam": LAM}
    curves = Sweep(open_store(tmp_path / "curves.zarr", make_plan(axes)).path)
    with pytest.raises(InvalidParameter, match=r"at most 24 curves are left \(schedule\), got 25"):
        curves.plot()


# --- Other quantities -----------------------------------------------------------------------------


def test_share_of_time_below(words: Sweep) -> None:
    figure = words.plot(what="below", at={"optimizer": "sgd", "regularization": "l2"})
    (ax,) = panels(figure)
    wanted = words.to_xarray()["share_below"].sel(optimizer="sgd", regularization="l2")
    np.testing.assert_array_equal(mesh(ax).get_array(), wanted.transpose("sigma", "lam").values)
    assert isinstance(mesh(ax).norm, Normalize) and not ax.lines
    assert (mesh(ax).norm.vmin, mesh(ax).norm.vmax) == (0, 1)
    assert figure.axes[-1].get_ylabel() == "share of all steps\nbelow the threshold"


def test_spread_after_the_last_step(make: Make) -> None:
    sweep = make({"steps": [50, 300], "lam": LAM, "sigma": SIGMA}, optimizer="sgd")
    figure = sweep.plot(what="spread")
    for ax, steps in zip(panels(figure), (50, 300), strict=True):
        assert (ax.get_title(loc="left") or ax.get_title()) == f"steps = {steps}"
        wanted = sweep.to_xarray()["std"].sel(steps=steps, step=steps).transpose("sigma", "lam")
        assert not np.isnan(wanted.values).any()
        np.testing.assert_array_equal(mesh(ax).get_array(), wanted.values)
    assert figure.axes[-1].get_ylabel() == "standard deviation\nafter the last step"
    (ax,) = panels(sweep.plot(what="spread", at={"steps": 50}))
    wanted = sweep.to_xarray()["std"].sel(steps=50, step=50).transpose("sigma", "lam")
    np.testing.assert_array_equal(mesh(ax).get_array(), wanted.values)


def test_units(make: Make) -> None:
    sweep = make({"lam": [0.0, 1e-2], "c": [0.3, 3.0]}, system="neuron", threshold=0.2)
    figure = sweep.plot()
    (ax,) = panels(figure)
    assert ax.get_ylabel() == r"std of $\partial L/\partial y$"
    assert not any("predicted" in text for text in entries(figure))
    wanted = sweep.to_xarray()["activation_std"].isel(step=-1).transpose("c", "lam").values
    shown = mesh(panels(sweep.plot(what="spread"))[0]).get_array()
    np.testing.assert_array_equal(shown, wanted)


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix, start", [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_the_same_data_gives_the_same_file(
    suffix: str, start: bytes, words: Sweep, tmp_path: Path
) -> None:
    target = tmp_path / f"map{suffix}"
    options: dict[str, Any] = {"at": {"regularization": "l2"}, "theory": False}
    words.save_plot(target, **options)
    first = target.read_bytes()
    assert first.startswith(start)
    with pytest.raises(InvalidParameter, match="plot must be a new file"):
        words.save_plot(target, **options)
    Sweep(words.path).save_plot(target, force=True, **options)
    assert target.read_bytes() == first
    words.save_plot(target, force=True, what="below", **options)
    assert target.read_bytes() != first
    assert list(tmp_path.iterdir()) == [target]


# --- Maps of another kind -------------------------------------------------------------------------


def test_below_from_the_start_is_not_white(make: Make) -> None:
    sweep = make({"lam": LAM, "theta0": [0.5, 1.0, 1.5]})
    assert (sweep.to_xarray()["first_passage"].sel(theta0=0.5) == 0).all()
    figure = sweep.plot(theory=False, training=[1])
    found = pixels(figure, panels(figure)[0], np.log10(LAM), np.array([0.5, 1.0, 1.5]))
    assert "#ffffff" not in {color for row in found for color in row}


@pytest.mark.parametrize("axes", [{"lam": [1e-2], "sigma": SIGMA}, {"lam": LAM, "sigma": [1e-3]}])
def test_an_axis_with_one_value(axes: dict[str, list[float]], make: Make) -> None:
    sweep = make(axes)
    assert sweep.plot().axes and sweep.plot(what="below").axes


def test_rules_that_are_objects(make: Make) -> None:
    sweep = make({"optimizer": [regdyn.Adam(), regdyn.SGD()], "lam": LAM, "sigma": SIGMA})
    figure = sweep.plot(theory=False)
    FigureCanvasAgg(figure).draw()
    assert len(panels(figure)) == 2


def test_spread_where_the_last_step_of_a_point_is_not_recorded(make: Make) -> None:
    sweep = make({"steps": [100, 300], "lam": LAM, "sigma": SIGMA}, times=[0, 50])
    try:
        assert sweep.plot(what="spread", theory=False).axes
    except InvalidParameter:
        pass


def test_caption_says_how_many_steps_there_were(make: Make) -> None:
    sweep = make({"lam": LAM, "sigma": SIGMA}, times=[0, 50])
    caption = "Adam, L2, threshold = 0.72, 16 trajectories a point, 300 steps"
    assert sweep.plot(theory=False).get_suptitle() == caption
    sweep = make({"threshold": [0.1, 0.2], "lam": LAM}, system="neuron", optimizer="sgd", force=True)
    caption = "one BN+ReLU unit, SGD, L2, 16 trajectories a point, 300 steps"
    assert sweep.plot().get_suptitle() == caption
    (ax,) = sweep.plot(at={"threshold": 0.2}).axes
    first = "one BN+ReLU unit, SGD, L2, threshold = 0.2, 16 trajectories a point, 300 steps"
    assert ax.get_title(loc="left").splitlines()[0] == first


def test_a_caption_is_no_wider_than_the_picture(make: Make) -> None:
    axes = {
        "lr": [1e-4, 2.5e-4], "beta1": [0.85, 0.925], "beta2": [0.95, 0.985], "theta0": [0.75, 0.85],
        "lam": LAM[:2], "sigma": SIGMA[:2],
    }  # fmt: skip
    at = {"lr": 2.5e-4, "beta1": 0.925, "beta2": 0.985, "theta0": 0.85}
    sweep = make(axes)
    for figure in (sweep.plot(at=at, theory=False), sweep.plot(at=at | {"sigma": 1e-3})):
        FigureCanvasAgg(figure).draw()
        caption = figure._suptitle or figure.axes[0]._left_title
        assert len(caption.get_text().splitlines()) >= 2
        assert caption.get_window_extent().x1 <= figure.bbox.x1


def test_words_that_go_together_with_numbers(make: Make) -> None:
    together = {"optimizer": ["adam", "adam", "sgd"], "lr": [1e-3, 1e-2, 0.1], "theta0": [1, 1, 0.9]}
    sweep = make({**together, "lam": LAM, "sigma": SIGMA}, zip=[("optimizer", "lr", "theta0")])
    figure = sweep.plot(theory=False)
    titles = [(ax.get_title(loc="left") or ax.get_title()) for ax in panels(figure)]
    assert [title.replace("\n", " ") for title in titles] == [
        rf"{name}, learning rate $\eta$ = {lr}, start $\theta_0$ = {theta}"
        for name, lr, theta in (
            ("Adam", "$10^{-3}$", 1), ("Adam", "$10^{-2}$", 1), ("SGD", "0.1", 0.9),
        )
    ]  # fmt: skip
    data = sweep.to_xarray()["first_passage"].sel(level=0.5)
    for i, ax in enumerate(panels(figure)):
        wanted = data.isel(optimizer_lr_theta0=i).transpose("sigma", "lam").values
        shown = np.ma.filled(mesh(ax).get_array(), np.nan)
        np.testing.assert_array_equal(shown, np.where(np.isfinite(wanted), wanted, np.nan))
    for at in ({"optimizer": "sgd"}, {"lr": 0.1}):
        (ax,) = panels(sweep.plot(theory=False, at=at))
        np.testing.assert_array_equal(np.ma.filled(mesh(ax).get_array(), np.nan), shown)
    assert sweep.plot(theory=False, at={"lam": 0.1}, x="lr").axes[0].get_xlabel().startswith("learning")
    assert [(row["optimizer"], row["lr"], row["points"]) for row in sweep.summary()] == [
        ("adam", "0.001", 12), ("adam", "0.01", 12), ("sgd", "0.1", 12),
    ]  # fmt: skip


def test_words_among_numbers_are_never_an_axis(make: Make) -> None:
    axes = {"lam": [1e-2, 1e-1], "regularization": ["l2", "decoupled"], "sigma": SIGMA}
    sweep = make(axes, zip=[("lam", "regularization")])
    (ax,) = sweep.plot().axes
    assert entries(ax) == [r"$\lambda$ = $10^{-2}$, L2", r"$\lambda$ = 0.1, decoupled"]
    with pytest.raises(InvalidParameter, match="x must be one of sigma"):
        sweep.plot(x="regularization")


LAYOUTS: dict[str, tuple[dict[str, int], Any]] = {
    "two numbers": ({"lam": 9, "sigma": 5}, ("lam", "sigma")),
    "units": ({"c": 9, "lam": 5}, ("lam", "c")),
    "others": ({"lr": 3, "theta0": 3}, ("lr", "theta0")),
    "seeds are panels": ({"lam": 9, "seed": 24}, ("lam", None)),
    "too many seeds": ({"lam": 9, "seed": 25}, "at most 24 curves are left .seed., got 25"),
    "too many starts": (
        {"lam": 2, "sigma": 2, "theta0": 50}, "at most 24 panels are left .theta0., got 50",
    ),
    "seeds alone": ({"seed": 30}, ("seed", None)),
    "nothing": ({}, "x must be an axis of numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS)
def test_how_axes_are_drawn(case: str, make_empty: Make) -> None:
    """What is said before a sweep is what happens after it."""
    sizes, wanted = LAYOUTS[case]
    axes: dict[str, Any] = {
        name: list(range(n)) if name == "seed" else np.linspace(0.1, 1, n).tolist()
        for name, n in sizes.items()
    }
    system = "neuron" if "c" in axes else "scalar"
    sweep = make_empty(axes, system=system)
    if isinstance(wanted, str):
        for ask in (lambda: lay_out([{name: values} for name, values in axes.items()]), sweep.plot):
            with pytest.raises(InvalidParameter, match=wanted):
                ask()
        return
    layout = lay_out([{name: values} for name, values in axes.items()])
    assert (layout.x, layout.y) == wanted
    figure = sweep.plot(theory=False)
    assert (len(figure.axes) == 1) is (wanted[1] is None)


def test_interpolated_points_diverge_as_their_neighbours(tmp_path: Path) -> None:
    axes = {"lam": np.geomspace(1, 1e3, 33), "sigma": np.geomspace(1e-6, 1e-4, 5)}
    sweep = regdyn.sweep(
        axes, out=tmp_path / "map.zarr", optimizer="sgd", steps=300, trajectories=16, refine=0.1
    )
    data = sweep.to_xarray()
    assert sweep.interpolated > 20 and (data["diverged"] > 8).any()
    figure = sweep.plot(theory=False, training=[1])
    grey = {to_hex(each.get_cmap()(0)): each for each in panels(figure)[0].collections}
    diverged = np.ma.filled(grey[DIVERGED].get_array(), 0) == 1
    # Where lr x lam is large: one edge, no chequers.
    assert diverged[:, -10:].all() and not diverged[:, :10].any()
    assert all(np.array_equal(row, np.sort(row)) for row in diverged)


def test_curves_of_an_empty_store(make_empty: Make) -> None:
    figure = make_empty({"lam": LAM}).plot()
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing is simulated yet"]


def test_parameters_that_go_together(make: Make) -> None:
    sweep = make({"lam": [1e-2, 1e-1], "lr": [1e-2, 5e-2], "sigma": SIGMA}, zip=[("lam", "lr")])
    for figure in (sweep.plot(theory=False), sweep.plot(at={"sigma": 1e-3})):
        assert figure.axes[0].get_xlabel() == r"$\lambda$, with learning rate $\eta$"
        edges = np.log10([1e-2, 1e-1])
        assert [text.get_text() for text in figure.axes[0].get_xticklabels()] != ["0", "1"]
        low, high = figure.axes[0].get_xlim()
        assert low <= edges[0] < edges[1] <= high < 0


def test_no_simulated_line_where_nothing_was_simulated(make: Make) -> None:
    sweep = make({"lam": LAM, "sigma": SIGMA})
    assert np.isinf(medians(sweep)).any() and np.isfinite(medians(sweep)).any()
    try:
        figure = sweep.plot(theory=False, training=[10**6])
    except InvalidParameter:
        return
    assert not any("simulated" in text for text in entries(figure))
