"""Points that share calls of the kernel: each is the run of its configuration alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

import regdyn
from regdyn import Cosine, CosineRestarts, Gaussian, NeuronConfig, ScalarConfig, Signal, Step
from regdyn.dynamics import many
from regdyn.dynamics._neuron_kernel import BETA, GAMMA
from regdyn.dynamics.ensemble import Ensembles
from regdyn.dynamics.many import block_width, run_many
from regdyn.dynamics.noise import BurnIn
from regdyn.dynamics.observables import HIGH, LOW
from regdyn.dynamics.optimization import DTYPES
from regdyn.dynamics.random import LANES
from regdyn.dynamics.result import LEVELS
from regdyn.dynamics.summaries import (
    CONFIDENCE,
    UNIT,
    WEIGHT,
    median_ranks,
    summarize_units,
    summarize_weights,
)
from regdyn.dynamics.tables import Constants, Decays, Scales
from regdyn.optimizers import Optimizer

Found = dict[str, NDArray]

PLACEMENTS = ("l2", "decoupled", "paper")
SYSTEMS = ("scalar", "neuron")
STEPS = 340

OTHERS: dict[str, list[dict[str, Any]]] = {
    "sgd": [dict(momentum=0.5, dampening=0.3), dict(momentum=0.0), dict(nesterov=True, lr=0.01)],
    "adam": [dict(beta1=0.5, beta2=0.999), dict(bias_correction=False, eps=1e-4), dict(eps_root=1e-9)],
    "amsgrad": [dict(beta1=0.5, beta2=0.9), dict(max_after_correction=True), dict(eps_root=1e-9)],
    "adamax": [dict(beta1=0.5, beta2=0.9), dict(bias_correction=False), dict(eps_denominator=1e-6)],
    "adagrad": [dict(lr_decay=1e-2), dict(initial_accumulator=0.1), dict(eps_root=1e-8, lr=0.1)],
    "adadelta": [dict(rho=0.5), dict(eps=1e-4), dict(lr=0.1)],
    "rmsprop": [dict(alpha=0.5), dict(bias_correction=True), dict(initial_accumulator=1.0)],
}
"""Hyperparameters that are not the rule's defaults."""


def raw(ensembles: Ensembles) -> Found:
    """What every trajectory left behind, and where it ended."""
    return {
        "first": ensembles.first_passage,
        "count_below": ensembles.steps_below,
        "left": ensembles.diverged,
        "seen": np.moveaxis(ensembles.snapshots, 2, 0).astype(float),
        "last": np.moveaxis(ensembles.snapshots[-1], 0, 1).copy(),
    }


def weights_and_raw(ensembles: Ensembles) -> Found:
    return raw(ensembles) | summarize_weights(ensembles)


def units_and_raw(ensembles: Ensembles) -> Found:
    return raw(ensembles) | summarize_units(ensembles)


def run(configs: list[Any], **options: Any) -> list[Found]:
    summary = weights_and_raw if isinstance(configs[0], ScalarConfig) else units_and_raw
    return run_many(configs, summary, **options)


def same_bits(a: list[Found], b: list[Found]) -> bool:
    return all(
        x.keys() == y.keys() and all(np.array_equal(x[name], y[name], equal_nan=True) for name in x)
        for x, y in zip(a, b, strict=True)
    )


def close(found: NDArray, wanted: NDArray, scale: NDArray | float) -> None:
    """Equal but for the order of a sum; `scale` is the size of what is summed."""
    # The std of numbers that are all alike is what rounding leaves of them.
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    known = ~np.isnan(wanted)
    room = 1e-12 * np.abs(wanted) + 1e-14 * np.broadcast_to(scale, wanted.shape)
    assert np.all(np.abs(found - wanted)[known] <= room[known])


def check_passages(found: Found, first: NDArray, below: NDArray, diverged: NDArray, steps: int) -> None:
    np.testing.assert_array_equal(found["first"], first)
    np.testing.assert_array_equal(found["count_below"], below)
    np.testing.assert_array_equal(found["left"], diverged)
    ordered = np.sort(np.where(first < 0, np.inf, first))
    low, high = median_ranks(len(first))
    assert found["first_passage_interval"][0] == (ordered[low - 1] if low else 0)
    assert found["first_passage_interval"][1] == (ordered[high - 1] if high <= len(first) else np.inf)
    assert found["share_passed"] == np.mean(first >= 0)
    assert found["share_below"] == np.mean(below) / steps
    assert found["diverged"] == np.sum(diverged >= 0)


def check_weight(config: ScalarConfig, found: Found) -> None:
    result = config.run()
    check_passages(found, result.first_passage, result.steps_below, result.diverged, config.steps)
    np.testing.assert_array_equal(found["last"], result.final[None])
    passages = [result.first_passage_quantile(level) for level in LEVELS]
    np.testing.assert_array_equal(found["first_passage"], passages)
    assert found["share_passed"] == result.share_passed
    assert found["share_below"] == result.share_below
    np.testing.assert_array_equal(found["alive"], result.alive)
    np.testing.assert_array_equal(found["least"], result.least)
    np.testing.assert_array_equal(found["greatest"], result.greatest)
    close(found["mean"], result.mean, np.nan_to_num(result.greatest))
    close(found["std"], result.std, np.nan_to_num(result.greatest))
    bins, exact = result.quantiles(), found["abs_quantile"]
    resolved = (exact > LOW) & (exact < HIGH)
    np.testing.assert_allclose(exact[resolved], bins[resolved], rtol=0.011)
    np.testing.assert_array_equal(np.isnan(exact), np.isnan(bins))
    if result.alive.min() == config.trajectories:
        magnitude = np.abs(found["seen"][:, 0])
        wanted = np.quantile(magnitude, LEVELS, axis=1, method="inverted_cdf").T
        np.testing.assert_array_equal(exact, wanted)
    assert set(found) >= WEIGHT.keys()


def check_unit(config: NeuronConfig, found: Found) -> None:
    result = config.run()
    check_passages(found, result.first_death, result.steps_dead, result.diverged, config.steps)
    np.testing.assert_array_equal(found["last"][GAMMA], result.gamma)
    np.testing.assert_array_equal(found["last"][BETA], result.beta)
    deaths = [result.first_death_quantile(level) for level in LEVELS]
    np.testing.assert_array_equal(found["first_passage"], deaths)
    np.testing.assert_array_equal(found["alive"], result.alive)
    close(found["share_dead"], result.share_dead, 1)
    for name in ("activation", "gamma", "beta"):
        mean, std = getattr(result, f"{name}_mean"), getattr(result, f"{name}_std")
        scale = np.nan_to_num(np.abs(mean) + 30 * std)
        close(found[f"{name}_mean"], mean, scale)
        close(found[f"{name}_std"], std, scale)
    if result.alive.min() == config.trajectories:
        with np.errstate(divide="ignore"):
            ratio = (found["seen"][:, BETA] + config.alpha) / np.abs(found["seen"][:, GAMMA])
        exact = np.quantile(ratio, LEVELS, axis=1, method="inverted_cdf").T
        np.testing.assert_array_equal(found["ratio_quantile"], exact)
        # Where the level falls between two units, the bins may give either.
        after = np.quantile(ratio, np.nextafter(LEVELS, 1), axis=1, method="higher").T
        bins = result.ratio_quantiles()
        resolved = (np.abs(exact) < 7) & (np.abs(after) < 7)
        assert np.all((bins > exact - 0.014)[resolved] & (bins < after + 0.014)[resolved])
    assert set(found) >= UNIT.keys()


def check(configs: list[Any], found: list[Found]) -> None:
    for config, each in zip(configs, found, strict=True):
        if isinstance(config, ScalarConfig):
            check_weight(config, each)
        else:
            check_unit(config, each)


def rules(name: str) -> list[Optimizer]:
    return [regdyn.OPTIMIZERS[name](**others) for others in OTHERS[name]]


def weights(name: str, **shared: Any) -> list[ScalarConfig]:
    """Points that differ in all that points may differ in."""
    base: dict[str, Any] = dict(
        optimizer=name, lam=1e-2, steps=STEPS, trajectories=5, threshold=0.3, seed=3
    )
    strong = Gaussian(BurnIn(1e-3, 1e-2, 40))
    starts = np.linspace(-2, 2, shared.get("trajectories", 5))
    changes: list[dict[str, Any]] = [
        {}, {"lam": 0.0}, {"lam": 0.3}, {"noise": strong}, {"noise": Gaussian([1e-3, 1e-2])},
        {"schedule": Cosine(STEPS)}, {"schedule": Step((100, 101)), "noise": strong},
        {"schedule": CosineRestarts(31), "lam": 0.3}, {"theta0": -0.31}, {"theta0": starts},
        {"threshold": 2.0}, {"signal": Signal(0.1, 0.3), "lam": 1e-3},
        *({"optimizer": rule} for rule in rules(name)),
        {"optimizer": rules(name)[0], "schedule": Cosine(100, 0.1), "noise": strong},
    ]  # fmt: skip
    return [ScalarConfig(**(base | shared | each)) for each in changes]


def units(name: str, **shared: Any) -> list[NeuronConfig]:
    base: dict[str, Any] = dict(
        optimizer=name, lam=1e-2, steps=STEPS, trajectories=5, threshold=0.2, seed=3
    )
    starts = np.linspace(0.5, 2, shared.get("trajectories", 5))
    changes: list[dict[str, Any]] = [
        {}, {"lam": 0.0}, {"lam": 0.3}, {"c": 0.1}, {"c": [0.3, 0.1]}, {"schedule": Cosine(STEPS)},
        {"schedule": CosineRestarts(31), "c": 3.0}, {"gamma0": -0.1}, {"gamma0": starts},
        {"beta0": -0.5}, {"alpha": 0.2}, {"threshold": 0.6}, {"gamma0": 0.0, "beta0": 0.1},
        *({"optimizer": rule} for rule in rules(name)),
    ]  # fmt: skip
    return [NeuronConfig(**(base | shared | each)) for each in changes]


POINTS: dict[str, Any] = {"scalar": weights, "neuron": units}


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("regularization", PLACEMENTS)
@pytest.mark.parametrize("name", regdyn.OPTIMIZERS)
def test_every_rule_and_placement(name: str, regularization: str, system: str) -> None:
    configs = POINTS[system](name, regularization=regularization)
    check(configs, run(configs))


@pytest.mark.parametrize("system, name", [("scalar", "adam"), ("neuron", "sgd")])
def test_float32(system: str, name: str) -> None:
    configs = POINTS[system](name, dtype="float32", trajectories=20)
    found = run(configs)
    assert all(each["last"].dtype == np.float32 for each in found)
    check(configs, found)


@pytest.mark.parametrize("system, name", [("scalar", "adam"), ("neuron", "sgd")])
@pytest.mark.parametrize("trajectories", [1, 5, 64, 300, 700])
def test_number_of_trajectories(trajectories: int, system: str, name: str) -> None:
    configs = POINTS[system](name, trajectories=trajectories)
    check(configs, run(configs))


def test_width_of_a_block() -> None:
    for count in range(1, 2000):
        width = block_width(count)
        assert width % 16 == 0 and 16 <= width <= LANES
        blocks = -(-count // width)
        assert blocks == -(-count // LANES) and blocks * width - count < 16 * blocks


def test_points_that_cannot_share_a_call() -> None:
    trace = np.random.default_rng(1).normal(size=(STEPS, 70)) * 1e-3
    one = regdyn.Trace(trace[:, 0])
    base: dict[str, Any] = dict(lam=1e-2, steps=STEPS, trajectories=70, threshold=0.5)
    changes: list[dict[str, Any]] = [
        {"noise": regdyn.Gated(0.2)}, {"noise": regdyn.StudentT(4.0)}, {"noise": regdyn.NoNoise()},
        {"noise": regdyn.Trace(trace)}, {"noise": one}, {}, {"noise": one, "lam": 0.1},
        {"noise": regdyn.Gated(0.7)}, {"noise": regdyn.StudentT(8.0), "lam": 0.1}, {"seed": 1},
        {"steps": 100}, {"steps": 1}, {"trajectories": 300}, {"optimizer": "sgd"}, {"lam": 0.1},
        {"times": [0, 3, STEPS]}, {"noise": regdyn.NoNoise(), "lam": 0.1}, {"seed": 1, "lam": 0.1},
    ]  # fmt: skip
    configs = [ScalarConfig(**(base | each)) for each in changes]
    assert len({config.kernel_key for config in configs}) == 13
    check(configs, run(configs))


def test_units_that_cannot_share_a_call() -> None:
    base: dict[str, Any] = dict(lam=1e-3, steps=50, trajectories=512, threshold=0.2)
    changes: list[dict[str, Any]] = [
        {}, {"batch": 3}, {"antithetic": True}, {"batch": 3, "c": 0.1}, {"antithetic": True, "c": 0.1},
    ]  # fmt: skip
    configs = [NeuronConfig(**(base | each)) for each in changes]
    check(configs, run(configs))


def test_trajectories_that_diverge() -> None:
    base: dict[str, Any] = dict(optimizer="sgd", steps=STEPS, trajectories=40, threshold=0.5)
    starts = np.linspace(-1, 1, 40) * 1e-9
    configs = [
        ScalarConfig(**base, lam=lam, noise=Gaussian(0.1), theta0=theta0)
        for lam, theta0 in ((60.0, 1.0), (1e-2, 1.0), (60.0, starts))
    ]
    found = run(configs)
    assert [int(each["diverged"]) for each in found] == [40, 0, 40]
    assert found[0]["alive"][-1] == 0 and np.isnan(found[0]["mean"][-1])
    check(configs, found)
    unit = NeuronConfig(**base, lam=60.0)
    check([unit], run([unit]))


@pytest.mark.parametrize("system, name", [("scalar", "adam"), ("neuron", "sgd")])
@pytest.mark.parametrize("points, trajectories", [(3, 700), (18, 5), (60, 64)])
def test_threads_change_no_bit(points: int, trajectories: int, system: str, name: str) -> None:
    configs = (5 * POINTS[system](name, trajectories=trajectories))[:points]
    alone = run(configs, threads=1)
    assert len(alone) == points
    assert same_bits(alone, run(configs, threads=2))
    assert same_bits(alone, run(configs, threads=3))


def test_limits_of_a_task_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = weights("adam", trajectories=300)
    alone = run(configs)
    for name, value in (("TASK_LANES", 300), ("SHARING", 2), ("MAX_POINTS", 3), ("TABLE_ROWS", 256)):
        monkeypatch.setattr(many, name, value)
        assert same_bits(alone, run(configs, threads=2)), name


def test_neither_order_nor_company_changes_a_bit() -> None:
    configs = weights("adam")
    together = run(configs)
    assert same_bits(together[::-1], run(configs[::-1]))
    assert same_bits(together, [run([config])[0] for config in configs])
    assert run_many([], summarize_weights) == []


def test_another_seed_is_seen() -> None:
    """The comparisons of this file can fail."""
    config, other = (ScalarConfig(steps=STEPS, trajectories=64, seed=seed) for seed in (0, 1))
    (found,) = run([config])
    check_weight(config, found)
    with pytest.raises(AssertionError):
        check_weight(other, found)
    unit, other_unit = (NeuronConfig(steps=STEPS, trajectories=64, seed=seed) for seed in (0, 1))
    (found_unit,) = run([unit])
    with pytest.raises(AssertionError):
        check_unit(other_unit, found_unit)
    assert not same_bits([found], run([other]))


def test_progress_counts_every_step() -> None:
    configs = [*weights("adam", trajectories=300), ScalarConfig(steps=50, trajectories=7)]
    for threads in (1, 2):
        done: list[int] = []
        run(configs, threads=threads, progress=done.append)
        assert sum(done) == sum(config.steps * config.trajectories for config in configs)


def test_an_interrupted_run_stops() -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    configs = [ScalarConfig(lam=lam, steps=10**6) for lam in np.linspace(0, 1, 40)]
    with pytest.raises(KeyboardInterrupt):
        run(configs, threads=2, progress=interrupt)


# --- Tables ---------------------------------------------------------------------------------------


def dented(t: NDArray[np.int64]) -> NDArray[np.float64]:
    """Alike at both ends of any stretch but for one step in the middle."""
    return np.where(np.asarray(t) == 77, 0.5, 1.0)


SCHEDULES: dict[str, Any] = {
    "constant": regdyn.Constant(),
    "returns": CosineRestarts(85),  # at steps 1, 86, 171, 256
    "returns often": CosineRestarts(5),
    "divides": CosineRestarts(64),
    "dented": dented,
    "table": regdyn.Table(np.r_[1.0, np.full(254, 0.25), 1.0]),
    "step": Step((128,)),
    "zero": regdyn.Table([0.0]),
}


@pytest.mark.parametrize("regularization", PLACEMENTS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_that_returns_is_not_constant(
    schedule: str, regularization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "TABLE_ROWS", 1)  # calls of 256 steps
    configs = [
        ScalarConfig(
            optimizer="sgd", lam=lam, regularization=regularization, steps=600, trajectories=3,
            threshold=0.5, schedule=each,
        )
        for each in (SCHEDULES[schedule], regdyn.Constant()) for lam in (1e-2, 0.1)
    ]  # fmt: skip
    found = run(configs)
    check(configs, found)
    moved = not np.array_equal(found[0]["last"], found[2]["last"])
    assert moved is (schedule != "constant")


def expanded(table: Any, point: int, steps: int) -> NDArray:
    """The rows of a point at each of the steps."""
    first, each = table.where[point]
    return table.rows[first + each * np.arange(steps)]


STRETCHES = [np.arange(1, 257), np.arange(257, 513), np.arange(1, 2), np.arange(10**6, 10**6 + 16)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", regdyn.OPTIMIZERS)
def test_tables_are_those_of_each_configuration(name: str, dtype: str) -> None:
    configs = [
        ScalarConfig(optimizer=rule, schedule=schedule, lam=lam, regularization=placement, dtype=dtype)
        for rule in (name, *rules(name)) for schedule in SCHEDULES.values()
        for lam, placement in ((1e-2, "l2"), (0.1, "decoupled"), (0.1, "paper"), (0.0, "none"))
    ]  # fmt: skip
    for t in STRETCHES:
        constants, decays = Constants(configs).at(t), Decays(configs).at(t)
        for i, config in enumerate(configs):
            np.testing.assert_array_equal(expanded(constants, i, len(t)), config.constants(t))
            wanted = config.table(config.decay(t), len(t))
            np.testing.assert_array_equal(expanded(decays, i, len(t)), wanted)


def test_what_stands_still_takes_one_row() -> None:
    schedules = (regdyn.Constant(), CosineRestarts(85))
    configs = [ScalarConfig(optimizer="sgd", schedule=each) for each in schedules]
    t = STRETCHES[1]
    assert len(Constants(configs).at(t).rows) == 1 + len(t)
    assert len(Decays([ScalarConfig(regularization="paper")]).at(t).rows) == 1
    assert len(Scales([BurnIn(), BurnIn(steps=300)], np.float64).at(t).rows) == 1 + len(t)


def test_table_of_stds() -> None:
    returning = np.r_[1.0, np.full(254, 0.25), 1.0]
    stds: list[Any] = [
        BurnIn(1e-5, 1e-3, 100), BurnIn(1e-5, 1e-3, 256), BurnIn(1e-5, 1e-3, 0), BurnIn(2e-5, 2e-5, 9),
        BurnIn(1e-5, 1e-3, 255), BurnIn(1e-5, 1e-3, 1), regdyn.StdTable(returning), dented,
        regdyn.StdTable(0.1), BurnIn(1e-5, 1e-3, 300),
    ]  # fmt: skip
    for t in (*STRETCHES, np.arange(256, 257)):
        table = Scales(stds, np.float64).at(t)
        for i, each in enumerate(stds):
            np.testing.assert_array_equal(expanded(table, i, len(t))[:, 0], each(t))


# --- Interval of the median -----------------------------------------------------------------------


def coverage(count: int, low: int) -> float:
    """Probability that the median lies between order statistics `low` and `count` + 1 - `low`."""
    return sum(comb(count, k) for k in range(low, count - low + 1)) / 2**count


@pytest.mark.parametrize("count", range(1, 201))
def test_ranks_cover_the_median_and_narrower_ones_do_not(count: int) -> None:
    low, high = median_ranks(count)
    assert low + high == count + 1 and 0 <= low <= high
    assert coverage(count, low) >= CONFIDENCE == 0.95
    assert coverage(count, low + 1) < CONFIDENCE


def test_no_interval_from_few_trajectories() -> None:
    assert [median_ranks(count)[0] for count in (1, 5, 6)] == [0, 0, 1]
    (found,) = run([ScalarConfig(lam=0.1, steps=STEPS, trajectories=5, threshold=2.0)])
    assert found["first_passage_interval"].tolist() == [0, np.inf]


def test_interval_of_a_median_that_some_never_reach() -> None:
    starts = np.where(np.arange(20) < 12, 0.1, 1.0)  # 12 of 20 are below from the start
    config = ScalarConfig(
        lam=0.0, steps=10, trajectories=20, threshold=0.5, theta0=starts, noise=regdyn.NoNoise()
    )
    (found,) = run([config])
    assert found["first_passage"].tolist() == [0, 0, 0, np.inf, np.inf]
    assert found["first_passage_interval"].tolist() == [0, np.inf]
    assert (found["share_passed"], found["share_below"]) == (0.6, 0.6)


def test_more_than_fits_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ScalarConfig(trajectories=10**6, steps=10**6, times=range(1000))
    free = psutil.virtual_memory()._replace(available=2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    wanted = r"trajectories must be few enough to fit: 1000000 trajectories x 1000 recorded steps needs"
    with pytest.raises(regdyn.InvalidParameter, match=wanted):
        run([config])


def test_a_schedule_with_an_array() -> None:
    @dataclass(frozen=True)
    class Listed:
        factors: NDArray[np.float64]

        def __call__(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
            return self.factors[t % len(self.factors)]

    found, wanted = (
        regdyn.simulate("sgd", lam=0.1, schedule=schedule, steps=100, trajectories=8).mean
        for schedule in (Listed(np.full(7, 0.5)), lambda t: np.full(len(t), 0.5))
    )
    assert np.array_equal(found, wanted)
