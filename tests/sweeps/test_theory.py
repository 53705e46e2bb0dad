"""What theory says of a map, from its description alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import regdyn
from regdyn import Adam, Cosine, CosineRestarts, Step, Sweep, predict
from regdyn.plots.maps import _Scale
from regdyn.sweeps import theory
from regdyn.sweeps.plan import make_plan
from regdyn.sweeps.store import open_store
from regdyn.sweeps.theory import RESOLUTION, predicted_passage

LAM = np.geomspace(1e-7, 1, 9)
SIGMA = np.geomspace(1e-8, 1e-2, 9)
LR = np.geomspace(1e-5, 1e-1, 9)

Map = dict[str, Any]


def empty(folder: Path, axes: Map, **fixed: Any) -> Sweep:
    """A sweep of which nothing has been simulated: theory needs no more."""
    return Sweep(open_store(folder / "map.zarr", make_plan(axes, **fixed)).path)


def median(**parameters: Any) -> float:
    return predict(**parameters).median_steps


def medians(axes: Map, x: str, y: str, **fixed: Any) -> np.ndarray:
    """By `predict` at every node, (y, x)."""
    return np.array([
        [median(**fixed, **{x: float(a), y: float(b)}) for a in axes[x]] for b in axes[y]
    ])  # fmt: skip


def near(wanted: np.ndarray, length: float) -> np.ndarray:
    """Nodes that have a neighbour on the other side of the line."""
    below = wanted <= length
    found = np.zeros(below.shape, dtype=bool)
    across, up = below[:, 1:] != below[:, :-1], below[1:] != below[:-1]
    found[:, 1:] |= across
    found[:, :-1] |= across
    found[1:] |= up
    found[:-1] |= up
    return found


def predicted_lines(ax: Axes) -> list[np.ndarray]:
    return [
        np.column_stack(line.get_data())
        for line in ax.lines if to_hex(line.get_color()).upper() == "#D55E00"
    ]  # fmt: skip


CASES: dict[str, tuple[Map, str, str, list[int], dict[str, Any]]] = {
    "adam": ({"lam": LAM, "sigma": SIGMA}, "lam", "sigma", [5000, 20_000], {}),
    "turned": ({"lam": LAM[::2], "sigma": SIGMA[::2]}, "sigma", "lam", [5000], {}),
    "decoupled": (
        {"lam": 10 * LAM, "lr": LR}, "lam", "lr", [1000, 300],
        {"optimizer": "adam", "regularization": "decoupled", "steps": 1000},
    ),
    "sgd": ({"lam": 1e-2 * LAM, "lr": 100 * LR}, "lam", "lr", [1000], {"optimizer": "sgd"}),
    "betas": (
        {"beta1": 1 - np.geomspace(1e-3, 1, 9), "beta2": 1 - np.geomspace(1e-4, 1, 9)},
        "beta1", "beta2", [3000, 2000], {"lam": 1e-3},
    ),
    "threshold": (
        {"threshold": np.geomspace(1e-6, 1, 9), "theta0": np.linspace(-1, 1, 9)}, "theta0", "threshold",
        [1500], {"optimizer": "adam"},
    ),
    "schedule": (
        {"lam": LAM[::2], "sigma": SIGMA[::2]}, "lam", "sigma", [3000],
        {"optimizer": "adam", "schedule": Step((1000, 1500), 3.0), "beta2": 0.999, "lr": 3e-3},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_node_is_on_its_side_of_the_lines(case: str, tmp_path: Path) -> None:
    axes, x, y, lengths, fixed = CASES[case]
    sweep = empty(tmp_path, axes, **fixed)
    found = predicted_passage(sweep.to_xarray(), x, y, {}, lengths)
    assert found is not None and found.dims == (y, x)
    wanted = medians(axes, x, y, **fixed)
    for length in lengths:
        np.testing.assert_array_equal(found.values <= length, wanted <= length)
        close = near(wanted, length)
        assert np.any(close)
        np.testing.assert_array_equal(found.values[close], wanted[close])
    # The lines as drawn cross edges between nodes on different sides, and no others.
    ax = sweep.plot(x=x, y=y, training=lengths).axes[0]
    places = [_Scale(np.asarray(axes[name])).to_drawn(axes[name]) for name in (x, y)]
    order = [np.argsort(place) for place in places]
    ordered = wanted[np.ix_(order[1], order[0])]
    crossings = [tuple(point) for line in predicted_lines(ax) for point in line]
    assert len(crossings) >= 4
    for point in crossings:
        i, j = (
            np.interp(at, place[each], range(len(place)))
            for at, place, each in zip(point, places, order)
        )
        around = (slice(int(np.floor(at)), int(np.ceil(at)) + 1) for at in (j, i))
        ends = ordered[tuple(around)]
        assert any(ends.min() <= length <= ends.max() for length in lengths)


@settings(max_examples=60)
@given(
    slopes=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    shape=st.tuples(st.integers(2, 30), st.integers(2, 30)),
    lengths=st.lists(st.floats(0.05, 20), min_size=1, max_size=3, unique=True),
    cut=st.floats(0, 1),
)
def test_monotone_maps(
    slopes: tuple[float, float], shape: tuple[int, int], lengths: list[float], cut: float
) -> None:
    """On whatever side of the lines a node is, with fewer questions than nodes."""
    ys, xs = (np.linspace(-1, 1, n) for n in shape)

    def height(lam: float, sigma: float) -> float:
        value = float(np.exp(slopes[0] * lam + slopes[1] * sigma))
        return value if value < np.exp(6 * cut) else np.inf

    asked = []

    def told(**parameters: Any) -> SimpleNamespace:
        asked.append(parameters)
        return SimpleNamespace(median_steps=height(parameters["lam"], parameters["sigma"]))

    # The values need not be ones that a simulation would take.
    plan = make_plan({"lam": [0], "sigma": [0]})
    data = xarray.Dataset(
        coords={"lam": xs, "sigma": ys}, attrs={"config": json.dumps(plan.description())}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theory, "predict", told)
        found = predicted_passage(data, "lam", "sigma", {}, lengths)
    assert found is not None
    for length in lengths:
        wanted = [[height(x, y) <= length for x in found["lam"].values] for y in found["sigma"].values]
        np.testing.assert_array_equal(found.values <= length, wanted)
    assert len(asked) == len({tuple(each.items()) for each in asked}) <= found.size


def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace `predict`; returns the list of what it is asked."""
    asked: list[dict[str, Any]] = []

    def answer(**parameters: Any) -> SimpleNamespace:
        asked.append(parameters)
        return SimpleNamespace(median_steps=parameters["lam"])

    monkeypatch.setattr(theory, "predict", answer)
    return asked


DEFAULTS = {
    "optimizer": "adam", **Adam().parameters(), "lam": 1e-3, "regularization": "l2", "sigma": 1e-5,
    "burn_in_sigma": 1e-3, "burn_in_steps": 100, "schedule": None, "theta0": 1.0, "threshold": 1e-3,
    "steps": 10_000,
}  # fmt: skip

PASSED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "hyperparameters": ({"beta1": 0.5, "lr": 0.1, "bias_correction": False},) * 2,
    "a rule": ({"optimizer": Adam(beta2=0.5)}, {"beta2": 0.5}),
    "another rule": (
        {"optimizer": "sgd", "momentum": 0.5},
        {"optimizer": "sgd", "momentum": 0.5, "lr": 0.1, "dampening": 0.0, "nesterov": False},
    ),
    "placement": ({"regularization": "paper"},) * 2,
    "burn-in": ({"burn_in_sigma": 1e-2, "burn_in_steps": 7},) * 2,
    "start": ({"theta0": 0.5, "threshold": 0.1, "steps": 77},) * 2,
    "step": ({"schedule": "step:100,200:0.5"}, {"schedule": Step((100, 200), 0.5)}),
    "cosine": ({"schedule": "cosine:0.1", "steps": 77}, {"schedule": Cosine(77, 0.1), "steps": 77}),
    "restarts": ({"schedule": "restarts:50:2"}, {"schedule": CosineRestarts(50, 2)}),
    "constant": ({"schedule": "constant"}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", PASSED)
def test_all_that_is_fixed_is_passed_on(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed, wanted = PASSED[case]
    data = empty(tmp_path, {"lam": [1e-3, 1e-2], "sigma": [1e-5, 1e-4]}, **fixed).to_xarray()
    asked = told(monkeypatch)
    found = predicted_passage(data, "lam", "sigma", {}, [5e-3])
    assert found is not None and found.values.tolist() == [[1e-3, 1e-2]] * 2
    rule = wanted.get("optimizer", "adam")
    base = {k: v for k, v in DEFAULTS.items() if rule == "adam" or k not in Adam().parameters()}
    assert asked[0] == base | wanted
    assert sorted((each["lam"], each["sigma"]) for each in asked) == [
        (1e-3, 1e-5), (1e-3, 1e-4), (1e-2, 1e-5), (1e-2, 1e-4),
    ]  # fmt: skip


def test_the_words_of_a_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {
        "optimizer": ["sgd", "adam"], "lam": [1e-3, 1e-2], "regularization": ["paper", "l2", "none"],
        "sigma": [1e-5, 1e-4], "theta0": [1.0, 2.0],
    }  # fmt: skip
    data = empty(tmp_path, axes).to_xarray()
    for optimizer in axes["optimizer"]:
        for regularization in axes["regularization"]:
            asked = told(monkeypatch)
            at = {"optimizer": optimizer, "regularization": regularization, "theta0": 2.0}
            predicted_passage(data, "lam", "sigma", at, [5e-3])
            assert len(asked) == 4
            for each in asked:
                assert (each["optimizer"], each["regularization"]) == (optimizer, regularization)
                assert each["theta0"] == 2 and each["lr"] == regdyn.OPTIMIZERS[optimizer]().lr


def test_at_most_so_many_values_of_an_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"lam": np.geomspace(1e-6, 1, 61), "sigma": np.geomspace(1e-6, 1e-2, 26)}
    data = empty(tmp_path, axes).to_xarray()
    asked = told(monkeypatch)
    found = predicted_passage(data, "lam", "sigma", {}, [1e-3])
    assert found is not None and found.shape == (RESOLUTION, RESOLUTION)
    for name, values in axes.items():
        assert set(found[name].values) <= set(values)
        assert (found[name].values[0], found[name].values[-1]) == (values[0], values[-1])
    assert len(asked) < found.size / 2


def test_where_the_weight_diverges_nothing_is_said(tmp_path: Path) -> None:
    data = empty(tmp_path, {"lam": [1e-2, 1e3], "sigma": [1e-5, 1e-4]}, optimizer="sgd").to_xarray()
    found = predicted_passage(data, "lam", "sigma", {}, [5000])
    assert found is not None and np.isnan(found.values).tolist() == [[False, True]] * 2


SILENT: dict[str, dict[str, Any]] = {
    "units": {"system": "neuron", "axes": {"lam": [0, 1], "c": [0.1, 1]}},
    "gated": {"noise": "gated"},
    "student-t": {"noise": "student-t"},
    "no noise": {"noise": "none", "axes": {"lam": [0, 1], "lr": [0.1, 1]}},
    "trace": {"noise": regdyn.Trace(np.zeros(10)), "steps": 10, "axes": {"lam": [0, 1], "lr": [0, 1]}},
    "signal": {"signal": 0.1},
    "axis of signals": {"axes": {"lam": [0, 1], "signal": [0, 0.1]}},
    "stds": {"sigma": regdyn.StdTable([1e-3]), "axes": {"lam": [0, 1], "lr": [0.1, 1]}},
    "factors": {"schedule": regdyn.Table([1, 0.5])},
    "a function": {"schedule": np.ones_like},
    "starts": {"theta0": np.ones(64)},
    "gates": {"noise": "gated", "axes": {"lam": [0, 1], "gate_probability": [0.1, 1]}},
}


@pytest.mark.parametrize("case", SILENT)
def test_where_theory_says_nothing(case: str, tmp_path: Path) -> None:
    options = {"axes": {"lam": [0, 1], "sigma": [0, 1]}} | SILENT[case]
    data = empty(tmp_path, **options).to_xarray()
    assert predicted_passage(data, *options["axes"], {}, [100]) is None


def test_one_kind_of_noise_of_several(tmp_path: Path) -> None:
    axes = {"noise": ["gated", "gaussian"], "lam": [1e-3, 1e-2], "sigma": [1e-5, 1e-4]}
    data = empty(tmp_path, axes).to_xarray()
    assert predicted_passage(data, "lam", "sigma", {"noise": "gated"}, [5000]) is None
    found = predicted_passage(data, "lam", "sigma", {"noise": "gaussian"}, [1500])
    assert found is not None
    np.testing.assert_array_equal(found.values, medians(axes, "lam", "sigma"))


# --- Maps of another kind -------------------------------------------------------------------------


def test_order_of_the_values_does_not_matter(tmp_path: Path) -> None:
    lam = np.random.default_rng(0).permutation(LAM)
    data = empty(tmp_path, {"lam": lam, "sigma": SIGMA}).to_xarray()
    found = predicted_passage(data, "lam", "sigma", {}, [5000])
    assert found is not None
    wanted = medians({"lam": found["lam"].values, "sigma": found["sigma"].values}, "lam", "sigma")
    np.testing.assert_array_equal(found.values <= 5000, wanted <= 5000)


def test_a_schedule_that_follows_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"steps": [1000, 3000], "lam": [1e-3, 1e-2], "sigma": [1e-5, 1e-4]}
    data = empty(tmp_path, axes, schedule="cosine").to_xarray()
    asked = told(monkeypatch)
    found = predicted_passage(data, "lam", "sigma", {"steps": 3000}, [5e-3])
    assert found is None or asked[0]["schedule"] == Cosine(3000)


def test_rules_and_schedules_that_are_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {
        "optimizer": [regdyn.SGD(), Adam(beta1=0.5)], "schedule": [Cosine(100), Step((50,))],
        "lam": [1e-3, 1e-2], "sigma": [1e-5, 1e-4],
    }  # fmt: skip
    data = empty(tmp_path, axes).to_xarray()
    asked = told(monkeypatch)
    at = {name: data[name].values.tolist()[1] for name in ("optimizer", "schedule")}
    assert predicted_passage(data, "lam", "sigma", at, [5e-3]) is not None
    assert (asked[0]["optimizer"], asked[0]["beta1"], asked[0]["schedule"]) == (
        "adam",
        0.5,
        Step((50,)),
    )


def test_zipped_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {
        "optimizer": ["sgd", "adam"], "lr": [0.1, 1e-2], "lam": [1e-3, 1e-2], "sigma": [1e-5, 1e-4],
    }  # fmt: skip
    data = empty(tmp_path, axes, zip=[["optimizer", "lr"]]).to_xarray()
    asked = told(monkeypatch)
    found = predicted_passage(data, "lam", "sigma", {"optimizer_lr": 1}, [5e-3])
    assert found is None or (asked[0]["optimizer"], asked[0]["lr"]) == ("adam", 1e-2)


def test_what_can_be_simulated_and_not_predicted(tmp_path: Path) -> None:
    axes = {"lam": [1e-3, 1e-2], "sigma": [1e-5, 1e-4]}
    data = empty(tmp_path, axes, burn_in_steps=10**8).to_xarray()
    found = predicted_passage(data, "lam", "sigma", {}, [5e3])
    assert found is not None and np.isnan(found.values).all()
    table = regdyn.StdTable(np.full(100, 1e-5))
    axes = {"sigma": [1e-5, table], "lam": [1e-3, 1e-2], "lr": [1e-3, 1e-2]}
    (tmp_path / "tables").mkdir()
    data = empty(tmp_path / "tables", axes, steps=100).to_xarray()
    for value in data["sigma"].values.tolist():
        assert predicted_passage(data, "lam", "lr", {"sigma": value}, [50]) is None


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_schedules_that_follow_the_steps_of_each_point(tmp_path: Path, schedule: str) -> None:
    axes = {
        "schedule": ["cosine", "constant"], "steps": [1000, 3000], "lam": [1e-3, 1e-2],
        "sigma": [1e-5, 1e-4],
    }  # fmt: skip
    data = empty(tmp_path, axes).to_xarray()
    at = {"schedule": schedule, "steps": 3000}
    assert predicted_passage(data, "lam", "sigma", at, [500]) is None
