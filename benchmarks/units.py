"""How fast are BN+ReLU units, next to single weights and to NumPy?

    python benchmarks/units.py [--out FILE.md]

A unit is two parameters and draws two normals per sample: a step of it is worth two of a weight.
All figures are ratios of two programs that take turns.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from measure import Interference, Report, Run, cpu_name, processors, take_turns, versions
from numpy.typing import NDArray

import regdyn

TRAJECTORIES, STEPS, ROUNDS = 65_536, 200, 7
BATCHES = (1, 4, 16)
SPEED_CLASS = 0.5
"""Wanted: parameter-steps per second of a unit over weight-steps per second."""


def unit_run(rule: regdyn.optimizers.Optimizer, batch: int = 1) -> Run:
    config = {"steps": STEPS, "trajectories": TRAJECTORIES, "times": [STEPS], "batch": batch}

    def run(seed: int) -> tuple[float, NDArray]:
        begin = time.perf_counter()
        result = regdyn.simulate_neuron(rule, seed=seed, **config)
        return time.perf_counter() - begin, result.activation

    run(0)
    return run


def weight_run(rule: regdyn.optimizers.Optimizer) -> Run:
    config = {"steps": STEPS, "trajectories": TRAJECTORIES, "times": [STEPS]}

    def run(seed: int) -> tuple[float, NDArray]:
        begin = time.perf_counter()
        result = regdyn.simulate(rule, seed=seed, **config)
        return time.perf_counter() - begin, result.final

    run(0)
    return run


def numpy_run(lr: float) -> Run:
    """Eq. (1) of zhou2020 with SGD, in place, as one would write it."""

    def run(seed: int) -> tuple[float, NDArray]:
        begin = time.perf_counter()
        generator = np.random.default_rng(seed)
        gamma, beta = np.ones(TRAJECTORIES), np.zeros(TRAJECTORIES)
        x, g = np.empty(TRAJECTORIES), np.empty(TRAJECTORIES)
        for _ in range(STEPS):
            generator.standard_normal(out=x)
            generator.standard_normal(out=g)
            g *= gamma * x + beta > 0
            g *= lr
            beta -= g
            g *= x
            gamma -= g
        ratio = beta / np.abs(gamma)
        return time.perf_counter() - begin, ratio

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    options = parser.parse_args()
    report, others = Report(), Interference()
    report.write(
        "# Benchmark of BN+ReLU units", "",
        f"- {cpu_name()}, {processors()} logical processors",
        f"- {versions()}",
        f"- {TRAJECTORIES:,} units × {STEPS} steps, float64; medians of {ROUNDS} pairs", "",
        "## Units over weights", "",
        "Parameter-steps per second of a unit (batch 1, two parameters) over weight-steps per second "
        "of the same rule.",
    )  # fmt: skip
    rules = [rule() for rule in regdyn.OPTIMIZERS.values()]
    paired = take_turns([(unit_run(rule), weight_run(rule)) for rule in rules], ROUNDS)
    size = TRAJECTORIES * STEPS / 1e6
    rows = []
    for rule, pair in zip(rules, paired):
        ratio = 2 * pair.median
        seconds = pair.seconds
        rows.append([
            rule.name, f"{size / seconds[0]:.0f}", f"{size / seconds[1]:.0f}", f"{ratio:.2f}",
            *report.want(f"{rule.name}: unit over weight", f"≥ {SPEED_CLASS}", ratio >= SPEED_CLASS),
        ])  # fmt: skip
    report.table(
        ["rule", "million unit-steps/s", "million weight-steps/s", "ratio", "wanted", "met"], rows
    )
    report.write("## Units over NumPy", "", "SGD, batch 1, Eq. (1) of zhou2020 vectorised over units.")
    sgd = regdyn.SGD(lr=0.01, momentum=0.0)
    (pair,) = take_turns([(unit_run(sgd), numpy_run(0.01))], ROUNDS)
    report.table(
        ["regdyn", "NumPy", "regdyn over NumPy", "least – greatest"],
        [[*(f"{size / s:.3g}" for s in pair.seconds), f"{pair.median:.1f}", pair.spread]],
    )
    report.write("## Batches", "", "SGD, million samples per second.")
    rows = []
    for batch in BATCHES:
        run = unit_run(sgd, batch)
        seconds = float(np.median([run(seed)[0] for seed in range(ROUNDS)]))
        rows.append([str(batch), f"{size / seconds:.3g}", f"{batch * size / seconds:.3g}"])
    report.table(["batch", "million unit-steps/s", "million samples/s"], rows)
    report.finish(others, options.out)


if __name__ == "__main__":
    main()
