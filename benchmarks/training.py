"""How fast does the network train, next to the same network in eager torch?

    python benchmarks/training.py [--out FILE.md] [--rounds N]

Digits, two hidden layers, batch 40, Adam with L2. All figures are ratios of two programs that take
turns on the same processors. torch runs as its users write it: layers, an optimizer, a loop over
batches of a set that is already in memory; its threads are as it sets them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from measure import Interference, Report, Run, cpu_name, processors, take_turns, versions
from numpy.typing import NDArray

import regdyn
from regdyn.nets._mlp_kernel import ROW, share
from regdyn.nets._product import LINE, product
from regdyn.nets._run import team_size
from regdyn.nets._team import Team, meet

BATCH, DEPTH, ROUNDS = 40, 2, 7
STEPS = {256: 600, 1000: 400}
WANTED = {256: 3.0, 1000: 2.0}
RUNS, BATCH_STEPS, WANTED_BATCH = 16, 400, 1.5
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def make_config(width: int, dtype: str, **settings: Any) -> regdyn.TrainConfig:
    steps = settings.pop("steps", STEPS.get(width, 400))
    return regdyn.TrainConfig(
        hidden=(width,) * DEPTH, dtype=dtype, batch=BATCH, steps=steps, times=[steps], **settings
    )


def regdyn_run(width: int, dtype: str) -> Run:
    def run(seed: int) -> tuple[float, NDArray]:
        config = make_config(width, dtype, seed=seed)
        (result,) = regdyn.train([config])
        return result.seconds, result.network.gamma[0]

    run(0)
    return run


def torch_run(width: int, dtype: str, fused: bool) -> Run:
    config = make_config(width, dtype)
    kind, data, rule = DTYPES[dtype], config.dataset, config.rule
    x, y = torch.tensor(data.x_train, dtype=kind), torch.tensor(data.y_train)

    def run(seed: int) -> tuple[float, NDArray]:
        torch.manual_seed(seed)
        layers: list[torch.nn.Module] = []
        inputs = x.shape[1]
        for units in config.hidden:
            layers += [
                torch.nn.Linear(inputs, units, bias=False),
                torch.nn.BatchNorm1d(units),
                torch.nn.ReLU(),
            ]
            inputs = units
        network = torch.nn.Sequential(*layers, torch.nn.Linear(inputs, data.n_classes)).to(kind)
        optimizer = torch.optim.Adam(
            network.parameters(), lr=rule.lr, betas=(rule.beta1, rule.beta2), eps=rule.eps,
            weight_decay=config.lam, fused=fused or None,
        )  # fmt: skip
        loss_of = torch.nn.CrossEntropyLoss()
        begin = time.perf_counter()
        order, place = torch.randperm(len(x)), 0
        for _ in range(config.steps):
            if place + BATCH > len(x):
                order, place = torch.randperm(len(x)), 0
            chosen = order[place : place + BATCH]
            place += BATCH
            optimizer.zero_grad()
            loss_of(network(x[chosen]), y[chosen]).backward()
            optimizer.step()
        seconds = time.perf_counter() - begin
        return seconds, network[1].weight.detach().numpy()

    run(0)
    return run


@numba.njit(nogil=True)
def multiply(
    weights: Any, turned: Any, below: Any, by_sample: Any, delta: Any, out: Any, gradient: Any,
    steps: int, gate: Any, rank: int, members: int,
) -> None:  # fmt: skip
    """The three products of one layer, `steps` times, by one member of a team."""
    units, inputs = weights.shape
    first, last = share(units, rank, members)
    begin, end = share(inputs, rank, members)
    for _ in range(steps):
        product(weights[first:last], below, out[first:last])
        product(turned[begin:end], delta, below[begin:end])
        product(delta[first:last, : len(by_sample)], by_sample, gradient[first:last])
        meet(gate, members)


def products_run(width: int, dtype: str) -> Run:
    """The matrix products of as many steps and nothing else, on as many threads as a run takes."""
    config = make_config(width, dtype)
    team = Team(team_size(config, processors()))
    lanes = LINE // np.dtype(dtype).itemsize
    batch = -(-BATCH // lanes) * lanes
    layers = []
    for units, inputs in config.architecture.shapes:
        row = -(-inputs // ROW) * ROW
        shapes = [
            (units, row),
            (inputs, batch),
            (BATCH, row),
            (units, batch),
            (units, batch),
            (units, row),
        ]
        weights, *others = (np.zeros(shape, dtype) for shape in shapes)
        layers.append((weights[:, :inputs], weights[:, :inputs].T, *others))

    def run(seed: int) -> tuple[float, NDArray]:
        def work(rank: int) -> None:
            for arrays in layers:
                multiply(*arrays, config.steps, team.gate, rank, team.size)

        begin = time.perf_counter()
        team.call(work)
        return time.perf_counter() - begin, layers[0][5]

    run(0)
    return run


def blas_run(width: int, dtype: str) -> Run:
    """The same products by NumPy, on as many threads as its BLAS takes."""
    config = make_config(width, dtype)
    layers = []
    for units, inputs in config.architecture.shapes:
        shapes = [(units, inputs), (inputs, BATCH), (units, BATCH), (units, BATCH), (units, inputs)]
        layers.append([np.zeros(shape, dtype) for shape in shapes])

    def run(seed: int) -> tuple[float, NDArray]:
        begin = time.perf_counter()
        for _ in range(config.steps):
            for weights, below, delta, out, gradient in layers:
                np.matmul(weights, below, out=out)
                np.matmul(weights.T, delta, out=below)
                np.matmul(delta, below.T, out=gradient)
        return time.perf_counter() - begin, layers[0][4]

    run(0)
    return run


def batch_run(width: int, dtype: str, together: bool, threads: int | None = None) -> Run:
    """RUNS runs, lambdas x seeds, side by side or one at a time."""

    def run(seed: int) -> tuple[float, NDArray]:
        configs = [
            make_config(width, dtype, steps=BATCH_STEPS, lam=lam, seed=4 * seed + k)
            for lam in (0.0, 1e-5, 1e-4, 1e-3)
            for k in range(RUNS // 4)
        ]
        begin = time.perf_counter()
        if together:
            results = regdyn.train(configs, threads=threads)
        else:
            results = [regdyn.train([config], threads=threads)[0] for config in configs]
        return time.perf_counter() - begin, results[-1].network.gamma[0]

    run(0)
    return run


def against_torch(report: Report, rounds: int) -> None:
    report.write(
        "## regdyn over eager torch", "",
        f"Hidden layers {DEPTH}, batch {BATCH}. Times are of one step, all of it: drawing the batch, "
        "forward, backward, update; for regdyn also the test error at the end. The first weights are "
        "drawn before the clock starts in both.",
    )  # fmt: skip
    cases = [(width, dtype) for width in WANTED for dtype in DTYPES]
    makers: list[Callable[[int, str], Run]] = [
        lambda width, dtype: torch_run(width, dtype, fused=False),
        lambda width, dtype: torch_run(width, dtype, fused=True),
        products_run,
        blas_run,
    ]
    comparisons = [(regdyn_run(*case), make(*case)) for case in cases for make in makers]
    paired = take_turns(comparisons, rounds)
    rows = []
    for k, (width, dtype) in enumerate(cases):
        default, fused, products, blas = paired[len(makers) * k : len(makers) * (k + 1)]
        wanted = WANTED[width]
        what = f"width {width}, {dtype}: regdyn over torch's default Adam"
        rows.append([
            f"{width}", dtype,
            *(f"{1e3 * seconds / STEPS[width]:.3f}" for seconds in
              (default.seconds[0], default.seconds[1], fused.seconds[1])),
            f"{default.median:.2f}", default.spread, f"{fused.median:.2f}",
            f"{products.median:.0%}", f"{blas.median / products.median:.2f}",
            *report.want(what, f"≥ {wanted:g}", default.median >= wanted),
        ])  # fmt: skip
    report.table(
        ["width", "type", "regdyn, ms", "torch, ms", "torch fused, ms", "over torch",
         "least – greatest", "over fused", "share of products", "over BLAS", "wanted", "met"],
        rows,
    )  # fmt: skip
    report.write(
        "Share of products: the matrix products of a step alone, on the same threads, over the whole "
        "step; weights and gradients are then in the cache more often. Over BLAS: how many times as "
        "long the same products take NumPy, on all threads.",
        "",
    )


def batches(report: Report, rounds: int) -> None:
    report.write(
        "## A batch of runs over one at a time", "",
        f"{RUNS} runs (4 lambdas x 4 seeds) of {BATCH_STEPS} steps: seconds one at a time over seconds "
        "side by side. A run alone takes a second processor where that makes it faster, and leaves a "
        "batch so much less to gain: at most the number of processors over the gain.",
    )  # fmt: skip
    cases = [(width, dtype) for width in (64, 256) for dtype in DTYPES]
    comparisons = []
    for case in cases:
        alone = batch_run(*case, together=False)
        comparisons.append((batch_run(*case, together=True), alone))
        comparisons.append((alone, batch_run(*case, together=False, threads=1)))
    paired = take_turns(comparisons, rounds)
    rows = []
    for (width, dtype), pair, threads in zip(cases, paired[::2], paired[1::2]):
        what = f"width {width}, {dtype}: per run, a batch over one at a time"
        rows.append([
            f"{width}", dtype, *(f"{seconds:.2f}" for seconds in pair.seconds),
            f"{pair.median:.2f}", pair.spread, f"{threads.median:.2f}",
            f"{processors() / threads.median:.2f}",
            *report.want(what, f"≥ {WANTED_BATCH:g}", pair.median >= WANTED_BATCH),
        ])  # fmt: skip
    report.table(
        ["width", "type", "together, s", "one at a time, s", "ratio", "least – greatest",
         "gain of one run from threads", "most possible", "wanted", "met"],
        rows,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    report, others = Report(), Interference()
    report.write(
        "# Benchmark of training", "",
        f"- {cpu_name()}, {processors()} processors; torch has {torch.get_num_threads()} threads",
        f"- {versions()}",
        f"- medians of {options.rounds} pairs", "",
    )  # fmt: skip
    against_torch(report, options.rounds)
    batches(report, options.rounds)
    report.finish(others, options.out)


if __name__ == "__main__":
    main()
