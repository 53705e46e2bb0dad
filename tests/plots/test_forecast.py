"""The picture of forecasts shows their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from regdyn.errors import InvalidParameter
from regdyn.nets.forecast import Forecast
from regdyn.plots.forecast import NEVER, plot_forecasts


def some(died: int = 30, horizon: int = 1000, cut: int = 0, seed: int = 0) -> Forecast:
    """100 units; the first `died` died, of which one in ten was missed."""
    rng = np.random.default_rng(seed)
    observed = np.where(np.arange(100) < died, rng.uniform(cut + 1, horizon, 100), np.inf)
    return Forecast(
        label="adam, l2 0.001", method="model scalar", cut=cut, horizon=horizon, replicas=4,
        run=np.zeros(100, np.int64), layer=np.zeros(100, np.int64), unit=np.arange(100),
        gamma=np.ones(100), probability=rng.integers(0, 5, 100) / 4,
        predicted_time=np.where(np.arange(100) % 10 == 0, np.inf, observed), observed_time=observed,
    )  # fmt: skip


def test_panels() -> None:
    panels = {
        "Adam": {"replay": some(), "forecast": some(cut=500, seed=1)},
        "SGD": {"replay": some(died=0, seed=2)},
    }
    figure = plot_forecasts(panels, title="Deaths")
    assert isinstance(figure, Figure) and figure.get_suptitle() == "Deaths"
    times, idle, reliability, _ = figure.axes
    assert times.get_title(loc="left") == "Adam"
    points = [line for line in times.lines if line.get_marker() == "o"]
    (replay,) = points
    x, y = (np.asarray(values) for values in (replay.get_xdata(), replay.get_ydata()))
    assert len(x) == 30 and np.sum(y == NEVER * 1000) == 3 and np.all(x < 1000)
    assert not [line for line in idle.lines if line.get_marker() == "o" and len(line.get_xdata())]
    texts = [text.get_text() for text in reliability.get_legend().get_texts()]
    replayed = panels["Adam"]["replay"]
    assert texts[0] == f"replay: AUC {replayed.auc().value[0]:.3f}" and len(texts) == 2
    c = replayed.calibration()
    curve = reliability.containers[0].lines[0]
    assert np.allclose(curve.get_ydata(), c.observed[c.count > 0])
    assert figure.axes[3].get_legend().get_texts()[0].get_text() == "replay: no deaths"
    figure.draw_without_rendering()


def test_bad_input() -> None:
    for panels in ({}, {"Adam": {}}, {"Adam": {str(i): some() for i in range(7)}}):
        with pytest.raises(InvalidParameter, match="panels must be one or more"):
            plot_forecasts(panels)
    with pytest.raises(InvalidParameter, match="panels must be forecasts with the same horizon"):
        plot_forecasts({"Adam": {"a": some(), "b": some(horizon=900)}})
