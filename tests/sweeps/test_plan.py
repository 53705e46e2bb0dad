"""A sweep before it runs: which parameters it takes, and what decides its bits."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import regdyn
from regdyn import Adam, InvalidParameter
from regdyn.dynamics.result import describe
from regdyn.sweeps import plan as planning
from regdyn.sweeps.plan import CHUNK_STEPS, make_plan

# --- What is refused ------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown axis": (
        {"axes": {"lamda": [1]}},
        r"axis of system scalar must be one of optimizer, .*\(nearest: lam\)",
    ),
    "unknown parameter": (
        {"tresh": 1},
        r"axis of system scalar must be one of .*\(nearest: threshold\), got 'tresh'",
    ),
    "unknown axis of units": (
        {"axes": {"gama0": [1]}, "system": "neuron"},
        r"system neuron .*\(nearest: gamma0\)",
    ),
    "unknown system": (
        {"system": "neurone"},
        r"system must be one of scalar, neuron \(nearest: neuron",
    ),
    "axis of units": ({"axes": {"c": [1, 2]}}, "c must be used with system neuron, got scalar"),
    "parameter of units": ({"batch": 3}, "batch must be used with system neuron, got scalar"),
    "axis of weights": (
        {"axes": {"sigma": [1, 2]}, "system": "neuron"},
        "sigma must be used with system scalar, got neu",
    ),
    "axis that the rule lacks": (
        {"axes": {"momentum": [0, 0.9]}},
        r"momentum must be varied with optimizers that .*\(sgd\), got adam",
    ),
    "axis that one rule lacks": (
        {"axes": {"optimizer": ["adam", "sgd"], "beta1": [0, 0.9]}},
        r"beta1 must be varied with optimizers that all have it \(adam, amsgrad, adamax\), got sgd",
    ),
    "hyperparameter that no rule has": (
        {"axes": {"optimizer": ["sgd", "adagrad"]}, "beta1": 0.5},
        r"beta1 must be used with an optimizer that has it \(adam, amsgrad, adamax\), got ",
    ),
    "axis of a given rule": (
        {"axes": {"lr": [0.1, 0.2]}, "optimizer": Adam()},
        "lr must be used with the name of an optimizer",
    ),
    "axis of a given model": (
        {"axes": {"sigma": [0.1, 0.2]}, "noise": regdyn.Gaussian()},
        "sigma must be used with the name of",
    ),
    "axis and fixed": ({"axes": {"lam": [1, 2]}, "lam": 3}, "lam must be either an axis or fixed"),
    "unknown optimizer": (
        {"optimizer": "adm"},
        r"optimizer must be one of .*\(nearest: adam\), got 'adm'",
    ),
    "unknown optimizer beside an axis": (
        {"axes": {"lam": [0]}, "optimizer": "adm"},
        r"optimizer must be one of .*\(nearest: adam\)",
    ),
    "axis of unknown optimizers": (
        {"axes": {"optimizer": ["adam", "adm"]}},
        r"optimizer must be one of .*\(nearest: adam\)",
    ),
    "no value": ({"axes": {"lam": []}}, "lam must be given at least one value"),
    "a number": ({"axes": {"lam": 0.1}}, "lam must be a sequence of values where it is an axis"),
    "an array without axes": (
        {"axes": {"lam": np.array(0.1)}},
        "lam must be a sequence of values where it is an axis",
    ),
    "a word": ({"axes": {"optimizer": "adam"}}, "optimizer must be a sequence of values"),
    "first value": ({"axes": {"lam": [-1, 0]}}, r"lam must be in \[0, inf\), got -1"),
    "last value": ({"axes": {"sigma": [0, 1e-3, -1]}}, r"sigma must be in \[0, inf\), got -1"),
    "not a number": ({"axes": {"lam": [np.nan]}}, r"lam must be in \[0, inf\), got nan"),
    "words": ({"axes": {"lam": ["x"]}}, "lam must be numbers where it is an axis, got 'x'"),
    "pairs that not all numbers of trajectories have": (
        {
            "axes": {"antithetic": [False, True], "trajectories": [256, 64]},
            "system": "neuron",
        },
        "trajectories must be a multiple of 256 with antithetic pairs, got 64",
    ),
    "starts of trajectories that refinement adds": (
        {"axes": {"lam": [0, 1]}, "theta0": np.ones(64), "refine": 0.1},
        r"theta0 must be .*\(--refine\)",
    ),
    "pairs that refinement adds": (
        {
            "axes": {"lam": [0, 1]},
            "system": "neuron",
            "antithetic": True,
            "trajectories": 256,
            "refine": 0.1,
            "most_trajectories": 1000,
        },
        "most_trajectories must be a multiple of 256 with antithetic pairs .*, got 1000",
    ),
    "beta": ({"axes": {"beta2": [0.9, 1.0]}}, r"beta2 must be in \[0, 1\), got 1.0"),
    "lr": (
        {"axes": {"optimizer": ["sgd", "adam"], "lr": [1, -1]}},
        r"lr must be in \[0, inf\), got -1",
    ),
    "steps": ({"axes": {"steps": [1, 0]}}, r"steps must be an integer in \[1, \d+\], got 0"),
    "fraction": ({"axes": {"trajectories": [1.5]}}, r"trajectories must be an integer in .*, got 1.5"),
    "seed": ({"axes": {"seed": [0, 2**64]}}, "seed must be an integer in"),
    "threshold": ({"axes": {"threshold": [1, 0]}}, r"threshold must be in \(0, inf\), got 0"),
    "threshold of units": (
        {"axes": {"threshold": [0.5, 1]}, "system": "neuron"},
        r"threshold must be in \(0, 1\), got 1",
    ),
    "shift": (
        {"axes": {"psbn_alpha": [0, -1]}, "system": "neuron"},
        r"psbn_alpha must be in \[0, inf\), got -1",
    ),
    "decay rate": (
        {"axes": {"alpha": [0, -1]}, "system": "neuron", "optimizer": "rmsprop"},
        r"^alpha must be in \[0, 1\), got -1",
    ),
    "placement": (
        {"axes": {"regularization": ["l2", "l3"]}},
        r"regularization must be one of .*\(nearest: l2\)",
    ),
    "dtype": ({"axes": {"dtype": ["float64", "half"]}}, "dtype must be one of float64, float32"),
    "one type only": (
        {"axes": {"theta0": [1, 1e100], "dtype": ["float64", "float32"]}},
        "theta0 must be .* at most 1e",
    ),
    "dof": ({"axes": {"dof": [3, 2]}, "noise": "student-t"}, r"dof must be in \(2, inf\), got 2"),
    "parameter of another model": ({"axes": {"dof": [3, 4]}}, "dof must be used with noise student-t"),
    "schedule": ({"axes": {"schedule": ["cosine", "linear"]}}, "schedule must be constant, step:"),
    "antithetic": (
        {"axes": {"antithetic": [False, True]}, "system": "neuron"},
        "trajectories must be a multiple of 256 with antithetic pairs, got 64",
    ),
    "zip of no axis": (
        {"axes": {"lam": [1, 2]}, "zip": [["lam", "sigma"]]},
        r"zip must be of axes \(lam\), got sigma",
    ),
    "zip of unequal axes": (
        {"axes": {"lam": [1, 2], "sigma": [1, 2, 3]}, "zip": [["lam", "sigma"]]},
        "zip must be of parameters with equally many values, got lam 2, sigma 3",
    ),
    "zip twice": (
        {
            "axes": {"lam": [1, 2], "sigma": [1, 2], "lr": [1, 2]},
            "zip": [["lam", "sigma"], ["lr", "lam"]],
        },
        "zip must be groups without a common parameter, got lam",
    ),
    "late time": (
        {"steps": 100, "times": [0, 101]},
        r"times must be an integer in \[0, 100\], got 101",
    ),
    "no time in a point": (
        {"axes": {"steps": [10, 100]}, "times": [50]},
        r"times must be at least one step in \[0, 10\]",
    ),
    "chunk": ({"chunk": 0}, r"chunk must be an integer in \[1, 1000000000\], got 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    options, message = REFUSED[case]
    with pytest.raises(InvalidParameter, match=message):
        make_plan(**({"axes": {}} | options))


def test_a_combination_of_values_is_refused_beforehand() -> None:
    axes = {"nesterov": [False, True], "momentum": [0.9, 0.0]}
    with pytest.raises(InvalidParameter, match="nesterov must be used with momentum > 0"):
        make_plan(axes, optimizer="sgd")


# --- What is planned ------------------------------------------------------------------------------


def test_defaults() -> None:
    plan = make_plan({"lam": [1e-3, 1e-2]})
    assert plan.fixed == {"optimizer": "adam", "steps": 10_000, "trajectories": 64}
    assert plan.times.tolist() == [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]
    assert make_plan({}, system="neuron").fixed["optimizer"] == "sgd"
    assert make_plan({}, optimizer=None, lam=None).fixed == plan.fixed
    assert make_plan({"steps": [7, 30]}).times.tolist() == [0, 1, 2, 5, 7, 10, 20, 30]
    assert make_plan({}, steps=1).times.tolist() == [0, 1]


def test_axes_keep_their_order_and_zipped_ones_stand_where_the_first_does() -> None:
    axes = {"sigma": [1e-4, 1e-3], "lam": [0, 1e-3, 1e-2], "lr": (0.1, 0.2)}
    assert [axis.dim for axis in make_plan(axes).grid.axes] == ["sigma", "lam", "lr"]
    plan = make_plan(axes, zip=[["lr", "sigma"]])
    assert ([axis.dim for axis in plan.grid.axes], plan.grid.shape) == (["lr_sigma", "lam"], (2, 3))
    assert [point["lam"] for point in plan.grid.points()] == [0, 1e-3, 1e-2] * 2
    assert [(p["sigma"], p["lr"]) for p in plan.grid.points()][::3] == [(1e-4, 0.1), (1e-3, 0.2)]


def test_a_value_that_is_given_twice() -> None:
    for values in ([1e-3, 1e-2, 1e-3], np.array([1e-3, 1e-2, 1e-2])):
        try:
            assert make_plan({"lam": values}).grid.shape == (2,)
        except InvalidParameter as error:
            assert error.name == "lam"
    # Beside another parameter a value may come again.
    plan = make_plan({"lam": [1e-3, 1e-3], "lr": [0.1, 0.2]}, zip=[["lam", "lr"]])
    assert plan.grid.shape == (2,)


def test_times_end_with_the_steps_of_a_point() -> None:
    plan = make_plan(
        {"steps": [3, 100, 20], "lam": [0.0, 0.3]}, times=[0, 3, 20, 21, 100], trajectories=8,
        threshold=0.98,
    )  # fmt: skip
    arrays = plan.task(0).run()
    recorded = [[True, True, False, False, False], [True] * 5, [True, True, True, False, False]]
    for name in ("mean", "std", "alive", "least"):
        assert arrays[name].shape == (6, 5)
        np.testing.assert_array_equal(~np.isnan(arrays[name]), np.repeat(recorded, 2, axis=0))
    assert arrays["abs_quantile"].shape == (6, 5, 5)
    assert arrays["simulated"].tolist() == [8] * 6
    for i, point in enumerate(plan.grid.points()):
        result = regdyn.simulate(**point, trajectories=8, threshold=0.98, times=[0, 3])
        np.testing.assert_array_equal(arrays["least"][i, :2], result.least)
        assert arrays["first_passage"][i, 2] == result.first_passage_quantile(0.5)
        assert arrays["share_below"][i] == result.share_below


def test_a_task_is_what_its_points_are() -> None:
    plan = make_plan(
        {"optimizer": ["sgd", "adam"], "lam": [0, 1e-3, 1e-2]}, chunk=2, steps=50, seed=2, sigma=1e-4,
        schedule="cosine",
    )  # fmt: skip
    configs = [c for i in range(len(plan.chunks)) for c in plan.task(i).configs()]
    wanted = [
        regdyn.ScalarConfig(
            optimizer=optimizer, lam=lam, steps=50, trajectories=64, seed=2, times=plan.times,
            noise=regdyn.Gaussian(regdyn.BurnIn(late=1e-4)), schedule=regdyn.Cosine(50),
        )
        for optimizer in ("sgd", "adam") for lam in (0, 1e-3, 1e-2)
    ]  # fmt: skip
    assert [describe(config) for config in configs] == [describe(config) for config in wanted]
    task = plan.task(1)
    copy = pickle.loads(pickle.dumps(task))
    assert [describe(c) for c in copy.configs()] == [describe(c) for c in task.configs()]


WHOLE = st.lists(st.integers(1, 10**6), min_size=1, max_size=4, unique=True)


@settings(max_examples=40)
@given(
    steps=WHOLE, trajectories=WHOLE, lams=st.integers(1, 4), fixed=st.booleans(), zipped=st.booleans()
)
def test_trajectory_steps(
    steps: list[int], trajectories: list[int], lams: int, fixed: bool, zipped: bool
) -> None:
    axes: dict[str, Any] = {"steps": steps, "lam": np.linspace(0, 1, lams)}
    others: dict[str, Any] = {}
    if fixed:
        others["trajectories"] = trajectories[0]
    else:
        axes["trajectories"] = trajectories
        if zipped:
            count = min(len(steps), len(trajectories))
            axes |= {"steps": steps[:count], "trajectories": trajectories[:count]}
            others["zip"] = [["steps", "trajectories"]]
    plan = make_plan(axes, chunk=3, **others)
    points = [others | point for point in plan.grid.points()]
    wanted = sum(point["steps"] * point["trajectories"] for point in points)
    assert plan.trajectory_steps == wanted
    assert sum(map(plan.chunk_trajectory_steps, range(len(plan.chunks)))) == wanted


def test_chunks_are_a_few_seconds_of_work() -> None:
    values = np.linspace(0, 1, 100)
    plan = make_plan({"lam": values, "sigma": values})
    work = [plan.chunk_trajectory_steps(i) for i in range(len(plan.chunks))]
    assert CHUNK_STEPS[0] / 2 < np.median(work) <= max(work) <= CHUNK_STEPS[0]
    assert make_plan({"lam": values, "sigma": values}, steps=10).chunks.chunk == (100, 100)
    assert make_plan({"lam": values}, steps=10**9).chunks.chunk == (1,)
    assert make_plan({"lam": values}, chunk=30).chunks.chunk == (25,)


# --- What decides the bits ------------------------------------------------------------------------

BASE: dict[str, Any] = {"axes": {"optimizer": ["sgd", "adam"], "lam": [1e-3, 1e-2]}, "steps": 100}


def description(**options: Any) -> dict[str, Any]:
    given = BASE | options
    return make_plan(**given).description()


def lams(*values: float) -> dict[str, Any]:
    return {"axes": {"optimizer": ["sgd", "adam"], "lam": list(values)}}


DIFFERENT: dict[str, dict[str, Any]] = {
    "as it is": {},
    "a value": lams(1e-3, 1.0000000000000002e-2),
    "one more value": lams(1e-3, 1e-2, 1e-1),
    "order of values": lams(1e-2, 1e-3),
    "order of axes": {"axes": dict(reversed(BASE["axes"].items()))},
    "an optimizer": {"axes": {"optimizer": ["sgd", "adamax"], "lam": [1e-3, 1e-2]}},
    "another axis": {"axes": {"optimizer": ["sgd", "adam"], "sigma": [1e-3, 1e-2]}},
    "zipped axes": {"zip": [["optimizer", "lam"]]},
    "lr": {"lr": 1e-2},
    "seed": {"seed": 1},
    "a seed axis": {"axes": BASE["axes"] | {"seed": [0]}},
    "steps": {"steps": 101},
    "trajectories": {"trajectories": 65},
    "threshold": {"threshold": 2e-3},
    "dtype": {"dtype": "float32"},
    "regularization": {"regularization": "decoupled"},
    "schedule": {"schedule": "cosine"},
    "a schedule's number": {"schedule": "cosine:0.1"},
    "factors": {"schedule": regdyn.Table([1, 0.5])},
    "other factors": {"schedule": regdyn.Table([1, 0.25])},
    "sigma": {"sigma": 1e-4},
    "stds": {"sigma": np.array([1e-4, 1e-5])},
    "burn-in": {"burn_in_steps": 50},
    "noise": {"noise": "gated"},
    "a gate": {"noise": "gated", "gate_probability": 0.2},
    "trace": {"noise": "trace", "trace": np.zeros(100)},
    "another trace": {"noise": "trace", "trace": np.ones(100)},
    "theta0": {"theta0": 0.5},
    "an array of starts": {"theta0": np.linspace(0, 1, 64)},
    "another array": {"theta0": np.linspace(0, 2, 64)},
    "signal": {"signal": 0.1},
    "target": {"target": 0.1},
    "times": {"times": [0, 100]},
    "chunk": {"chunk": 1},
    "system": {"system": "neuron"},
    "units": {"system": "neuron", "psbn_alpha": 0.1},
    "the second rule": {"axes": {"optimizer": [regdyn.SGD(), Adam(beta1=0.8)], "lam": [1e-3, 1e-2]}},
}


def test_what_decides_bits_changes_the_description() -> None:
    found = {name: description(**options) for name, options in DIFFERENT.items()}
    alike = [(a, b) for a in found for b in found if a < b and found[a] == found[b]]
    assert alike == []


SAME: dict[str, dict[str, Any]] = {
    "arrays": {"axes": {"optimizer": ("sgd", "adam"), "lam": np.array([1e-3, 1e-2])}},
    "numbers of numpy": lams(np.float64(1e-3), np.float64(1e-2)),
    "texts": {"steps": "1e2", "trajectories": "64"},
    "defaults": {"trajectories": 64, "noise": None},
    "groups of one": {"zip": [["lam"]]},
}


@pytest.mark.parametrize("case", SAME)
def test_what_decides_no_bit_does_not(case: str) -> None:
    assert description(**SAME[case]) == description()


def test_whole_numbers_are_numbers() -> None:
    assert description(**lams(1, 2)) == description(**lams(1.0, 2.0))


def test_order_of_keywords() -> None:
    given = {"theta0": 0.5, "threshold": 1e-2, "seed": 3, "sigma": 1e-4, "lr": 0.1}
    assert description(**given) == description(**dict(reversed(given.items())))


def test_times_after_the_end_of_the_first_point() -> None:
    axes = {"steps": [10, 100]}
    some, others = (make_plan(axes, times=[0, 10, t]).description() for t in (50, 60))
    assert some != others


def test_a_hyperparameter_that_only_the_second_optimizer_has() -> None:
    """As `regdyn simulate --opt sgd,adam --beta1 0.8` does."""
    plan = make_plan(**BASE, beta1=0.8)
    assert [config.optimizer for config in plan.task(0).configs()][::2] == [
        regdyn.SGD(), Adam(beta1=0.8),
    ]  # fmt: skip
    assert plan.description() != description(beta1=0.7)
    assert plan.description() != description()


def test_a_schedule_that_follows_the_steps_is_not_one_that_does_not() -> None:
    axes = {"lam": [1e-3], "steps": [100, 300]}
    following = make_plan(axes, schedule="cosine")
    assert [config.schedule.period for config in following.task(0).configs()] == [100, 300]
    assert following.description() != make_plan(axes, schedule=regdyn.Cosine(100)).description()


def test_numbers_in_files_are_described(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{name}.npy") for name in "ab"]

    def described(second: float, **options: Any) -> dict[str, Any]:
        np.save(files[0], [1e-3])
        np.save(files[1], [second])
        return make_plan(**options).description()

    for name, options in (
        ("sigma", {"axes": {"lam": [0, 1]}, "sigma": files[1]}),
        ("schedules", {"axes": {"schedule": files}}),
        ("an axis of sigma", {"axes": {"sigma": files}}),
    ):
        assert described(1e-4, **options) == described(1e-4, **options), name
        assert described(1e-4, **options) != described(1e-5, **options), name


def test_very_many_values_are_described_in_short() -> None:
    values = np.linspace(0, 1, 10_001)
    assert len(str(make_plan({"lam": values}).description())) < 10_000
    other = values.copy()
    other[5000] = np.nextafter(other[5000], 1)
    assert make_plan({"lam": values}).description() != make_plan({"lam": other}).description()


def test_the_optimizer_of_a_kernel_that_must_be_compiled_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = {"sgd", "adagrad"}

    def compiled(system: Any, notify_compile: Any) -> None:
        if type(system.rule).__name__.lower() in missing:
            notify_compile()

    monkeypatch.setattr(planning, "compiled", compiled)
    told: list[str] = []
    axes = {"optimizer": ["adam", "sgd", "adagrad"], "lam": np.geomspace(1e-5, 1e-1, 5)}
    make_plan(axes).compile(told.append)
    assert told == ["sgd", "adagrad"]


def test_every_table_of_an_axis_decides() -> None:
    first, second, other = (regdyn.StdTable(np.full(100, std)) for std in (1e-5, 1e-4, 1e-3))
    described = make_plan({"sigma": [first, second]}, steps=100).description()
    assert described != make_plan({"sigma": [first, other]}, steps=100).description()
    same = regdyn.StdTable(np.full(100, 1e-4))
    assert described == make_plan({"sigma": [first, same]}, steps=100).description()


def test_each_of_very_many_seeds_decides() -> None:
    seeds = [*range(10_000), 2**63 + 1, 2**64 - 1]
    other = [*seeds[:-1], 2**64 - 2]
    assert make_plan({"seed": seeds}).description() != make_plan({"seed": other}).description()


def test_values_that_go_together_may_be_repeated() -> None:
    axes = {"optimizer": ["adam", "adam", "sgd"], "lr": [0.1, 0.2, 0.1]}
    points = list(make_plan(axes, zip=[["optimizer", "lr"]]).grid.points())
    assert [(point["optimizer"], point["lr"]) for point in points] == [
        ("adam", 0.1), ("adam", 0.2), ("sgd", 0.1),
    ]  # fmt: skip


def test_any_sequence_of_values() -> None:
    assert make_plan({"steps": map(int, [10, 20])}).trajectory_steps == 30 * 64  # type: ignore[dict-item]
    starts = [np.ones(64), np.zeros(64)]
    plan = make_plan({"theta0": starts}, steps=10)
    assert [config.theta0[0] for config in plan.task(0).configs()] == [1, 0]
    assert plan.description() != make_plan({"theta0": starts[:1]}, steps=10).description()


def test_more_trajectories_than_refinement_usually_adds() -> None:
    assert make_plan({"lam": [0, 1]}, trajectories=10_000, refine=0.1).most == 10_000
    assert make_plan({"lam": [0, 1]}, trajectories=10, refine=0.1).most == 4096


def test_a_worker_needs_no_file_but_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.full(10, 1e-3))
    np.save("b.npy", np.full(10, 1e-2))
    np.save("t.npy", np.zeros(10))
    tables = make_plan({"sigma": ["a.npy", "b.npy"], "schedule": ["constant", "a.npy"]}, steps=10)
    trace = make_plan({"lam": [0, 1]}, noise="trace", trace="t.npy", steps=10)
    tasks = [pickle.loads(pickle.dumps(plan.task(0))) for plan in (tables, trace)]
    monkeypatch.chdir("/")
    assert [config.noise.sigma.values[0] for config in tasks[0].configs()] == [1e-3, 1e-3, 1e-2, 1e-2]
    assert len(tasks[1].configs()) == 2
    for name in "ab":
        (tmp_path / f"{name}.npy").unlink()
    assert len(tasks[0].configs()) == 4
