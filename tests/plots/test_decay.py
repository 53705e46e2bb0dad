"""Pictures of the decay: what is on the axes, and how files are written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from regdyn import InvalidParameter, NoNoise, ScalarResult, StudentT, plots, simulate
from regdyn.plots.common import COLORS
from regdyn.plots.decay import DECAYS

matplotlib.use("agg")

# An environment without a display and with a backend that needs one.
HEADLESS = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")} | {
    "MPLBACKEND": "tkagg"
}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@cache
def run(optimizer: str = "sgd", **config: Any) -> ScalarResult:
    return simulate(optimizer, **{"lam": 1e-2, "steps": 300, "trajectories": 64, **config})


def fresh() -> Axes:
    return Figure().subplots()


def medians(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if line.get_gid() is None]


def thresholds(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if line.get_gid() is not None]


def entries(holder: Axes | Figure) -> list[str]:
    legends = holder.legends if isinstance(holder, Figure) else [holder.get_legend()]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def test_one_result() -> None:
    result = run()
    ax = plots.plot_decay([result], fresh())
    (line,), (band,) = medians(ax), ax.collections
    shown = result.times >= 1
    np.testing.assert_array_equal(line.get_xdata(), result.times[shown])
    np.testing.assert_array_equal(line.get_ydata(), result.quantiles([0.5])[shown, 0])
    assert isinstance(band, PolyCollection)
    height = band.get_paths()[0].vertices[:, 1]
    levels = result.quantiles([0.05, 0.95])[shown]
    assert (height.min(), height.max()) == (levels.min(), levels.max())
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.get_xlabel() == "step" and ax.get_xlim() == (1, 300)
    assert ax.get_ylabel() == r"$|\theta|$  (median and 5–95 % band)"
    assert ax.get_title(loc="left") == (
        "SGD, L2, $\\lambda$ = $10^{-2}$: 64 trajectories\n"
        "Gaussian gradient noise, $\\sigma$ = $10^{-3}$ for 100 steps, then $10^{-5}$"
    )
    (threshold,) = thresholds(ax)
    assert list(threshold.get_ydata()) == [1e-3, 1e-3]
    assert [text.get_text() for text in ax.texts] == ["threshold $10^{-3}$"]
    assert ax.get_legend() is None
    bottom, top = ax.get_ylim()
    assert bottom < levels.min() and bottom < 1e-3 and top > levels.max()


def test_lambdas_are_shades_and_everything_else_is_said_once() -> None:
    ax = plots.plot_decay([run(lam=lam) for lam in (1e-2, 2e-3, 0.5)], fresh())
    assert len(medians(ax)) == len(ax.collections) == 3 and len(thresholds(ax)) == 1
    assert entries(ax) == [
        r"$\lambda$ = $10^{-2}$", r"$\lambda$ = $2 \times 10^{-3}$", r"$\lambda$ = 0.5",
    ]  # fmt: skip
    brightness = [matplotlib.colors.rgb_to_hsv(line.get_color()[:3])[2] for line in medians(ax)]
    assert brightness[2] < brightness[0] < brightness[1]
    assert ax.get_title(loc="left").startswith("SGD, L2: 64 trajectories each\n")


def test_an_optimizer_has_its_colour_and_dashes_tell_coinciding_curves_apart() -> None:
    ax = plots.plot_decay([run(), run("adam")], fresh())
    assert entries(ax) == ["SGD", "Adam"]
    assert [to_hex(line.get_color()).upper() for line in medians(ax)] == list(COLORS[:2])
    assert len({str(line.get_linestyle()) for line in medians(ax)}) == 2
    (alone,) = medians(plots.plot_decay([run("adam")], fresh()))
    assert to_hex(alone.get_color()).upper() == COLORS[1]


def test_decays_and_labels_and_line_properties() -> None:
    results = [run(regularization=name) for name in DECAYS]
    assert entries(plots.plot_decay(results, fresh())) == list(DECAYS.values())
    ax = plots.plot_decay(results[:2], fresh(), labels=["a", "b"], linewidth=3, band=None)
    assert entries(ax) == ["a", "b"] and not ax.collections
    assert ax.get_ylabel() == r"$|\theta|$  (median)"
    assert {line.get_linewidth() for line in medians(ax)} == {3}
    assert plots.plot_decay(results, fresh(), legend=False).get_legend() is None


def test_runs_that_differ_in_other_ways_differ_in_colour() -> None:
    ax = plots.plot_decay([run(), run(noise=StudentT(5))], fresh())
    assert len({line.get_color() for line in medians(ax)}) == 2
    assert ax.get_title(loc="left") == r"SGD, L2, $\lambda$ = $10^{-2}$: 64 trajectories each"


def test_results_can_share_axes() -> None:
    ax = run().plot()
    assert run("adam").plot(ax=ax) is ax
    assert len(medians(ax)) == 2 and len(thresholds(ax)) == len(ax.texts) == 1


def test_given_axes_leave_pyplot_alone() -> None:
    import matplotlib.pyplot as plt

    plots.plot_decay([run()], fresh())
    assert not plt.get_fignums()
    assert plots.plot_decay([run()]).figure.number in plt.get_fignums()


@pytest.mark.parametrize(
    "config, words",
    [
        ({"noise": NoNoise(), "lam": 0.3, "steps": 1000}, "not resolved and not shown"),
        ({"lam": 50.0, "steps": 2000}, "64 diverged and are left out from then on"),
        ({"noise": NoNoise(), "theta0": 0.0}, "no gradient noise"),
        ({"steps": 1}, "SGD"),
        ({"times": (0,)}, "SGD"),
    ],
    ids=["underflow", "divergence", "zero", "one step", "nothing recorded"],
)
def test_extremes(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    result = run(**config)
    assert words in plots.plot_decay([result], fresh()).get_title(loc="left")
    plots.save_plot([result], tmp_path / "x.png")


def test_bad_arguments() -> None:
    with pytest.raises(InvalidParameter, match="results must be at least one"):
        plots.plot_decay([])
    with pytest.raises(InvalidParameter, match="band must be two levels"):
        plots.plot_decay([run()], fresh(), band=(0.9, 0.1))
    with pytest.raises(InvalidParameter, match="labels must be 1 names, one per result"):
        plots.plot_decay([run()], fresh(), labels=["a", "b"])


def test_panels_share_axes_and_legend() -> None:
    panels = {name: [run(name, lam=lam) for lam in (1e-2, 1e-3)] for name in ("sgd", "adam", "adagrad")}
    figure = plots.plot_panels(panels, columns=2, title="Three optimizers")
    assert [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes] == list(panels)
    assert [len(medians(ax)) for ax in figure.axes] == [2, 2, 2]
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in figure.axes}) == 1
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "", "step"]
    assert entries(figure) == [
        r"$\lambda$ = $10^{-2}$", r"$\lambda$ = $10^{-3}$", "threshold $10^{-3}$",
    ]  # fmt: skip
    assert figure.get_suptitle().startswith(
        "Three optimizers\nL2: median and 5–95 % band of 64 trajectories each\n"
    )
    shades = [[line.get_color() for line in medians(ax)] for ax in figure.axes]
    assert shades[0] == shades[1] == shades[2]


@pytest.mark.parametrize(
    "optimizers, lams, count",
    [(["sgd"], [1e-2, 1e-3], 1), (["sgd", "adam"], [1e-2], 1), (["sgd", "adam"], [1e-2, 1e-3], 2)],
)
def test_small_multiples_where_two_things_differ(
    optimizers: list[str], lams: list[float], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("regdyn.plots.decay.save_figure", lambda figure, *_: figures.append(figure))
    plots.save_plot([run(name, lam=lam) for name in optimizers for lam in lams], "x.png")
    assert len(figures[0].axes) == count


@pytest.mark.parametrize("suffix, start", [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_files(suffix: str, start: bytes, tmp_path: Path) -> None:
    target = tmp_path / f"decay{suffix}"
    plots.save_plot([run()], target)
    first = target.read_bytes()
    assert first.startswith(start)
    with pytest.raises(InvalidParameter, match="plot must be a new file"):
        plots.save_plot([run("adam")], target)
    assert target.read_bytes() == first
    plots.save_plot([run()], target, force=True)
    assert target.read_bytes() == first, "the same data gives the same file"
    plots.save_plot([run("adam")], target, force=True)
    assert target.read_bytes() != first
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "decay.png"
    target.write_text("old")

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(RuntimeError, match="broken"):
        plots.save_plot([run()], target, force=True)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["decay.gif", "decay", "decay.png.bak"])
def test_suffix(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidParameter, match=r"plot must be a file that ends in \.png, \.pdf or \.svg"
    ):
        plots.save_plot([run()], tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_saving_needs_no_display(tmp_path: Path) -> None:
    code = (
        "import sys, regdyn; from regdyn.plots import save_plot\n"
        "save_plot([regdyn.simulate('sgd', steps=20, trajectories=8)], sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    target = tmp_path / "x.png"
    subprocess.run([sys.executable, "-W", "error", "-c", code, target], env=HEADLESS, check=True)
    assert target.stat().st_size > 1000
