"""What does `SparsityMonitor` cost a training loop?

    python benchmarks/monitor.py [--out FILE.md] [--rounds N] [--device auto|cpu|cuda]

The same loop (zero_grad, forward, backward, Adam with L2) without the monitor, with its defaults, with
activations, and with activations and TensorBoard files. The four train twins and take turns, each time
in another order: step by step on a processor, 100 steps at a time on a GPU, where a step waits for
nothing. A round is 100 steps of each, the last of which is recorded; on a processor the 99 others count
by their median, so that what other programs do to single steps does not. As a control, the last one
against the first again, now with a record at every step: a cost that the benchmark must see.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Interference, Paired, Report, cpu_name, processors, versions
from torch import Tensor, nn
from torch.nn import functional as F

from regdyn.cnn import CnnConfig, Setting, make_model
from regdyn.doctor import SparsityMonitor
from regdyn.doctor.monitor import EVERY

BATCH, CLASSES, ROUNDS, WARM_UP = 32, 10, 5, 5
MODELS = {"basicnet:width=0.25": "BasicNet, a quarter as wide", "resnet20": "ResNet-20"}
TURN = {"cpu": 1, "cuda": EVERY}
WANTED = 1.02
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "activations": {"activations": True},
    "activations, TensorBoard": {"activations": True, "tensorboard": True},
}
CONTROL: dict[str, dict[str, Any]] = {
    "control": {"activations": True, "tensorboard": True, "every": 1},
}
PLAIN = "without"


@dataclass
class Loop:
    """A training that goes on for a while when it is its turn."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    batches: list[tuple[Tensor, Tensor]]
    done: int = 0

    def turn(self, steps: int, wait: Callable[[], None]) -> float:
        """Seconds of so many steps."""
        wait()
        begin = time.perf_counter()
        for _ in range(steps):
            x, y = self.batches[self.done % len(self.batches)]
            self.done += 1
            self.optimizer.zero_grad()
            F.cross_entropy(self.model(x), y).backward()
            self.optimizer.step()
        wait()
        return time.perf_counter() - begin

    def state(self) -> Tensor:
        return torch.cat([p.detach().flatten().cpu() for p in self.model.parameters()])


def make_loop(text: str, device: str) -> Loop:
    torch.manual_seed(0)
    model = make_model(text, Setting(channels=3, size=(32, 32), n_classes=CLASSES)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), weight_decay=1e-4)
    generator = torch.Generator().manual_seed(1)
    batches = [
        (
            torch.randn(BATCH, 3, 32, 32, generator=generator).to(device),
            torch.randint(CLASSES, (BATCH,), generator=generator).to(device),
        )
        for _ in range(8)
    ]
    return Loop(model, optimizer, batches)


@dataclass
class Comparison:
    """The plain loop and others with monitors, in turns."""

    loops: dict[str, Loop]
    monitors: dict[str, SparsityMonitor]
    paired: dict[str, Paired]

    @property
    def same(self) -> bool:
        """Whether all have come to the same weights."""
        first, *rest = (loop.state() for loop in self.loops.values())
        return all(torch.equal(first, each) for each in rest)


def compare(
    text: str, device: str, rounds: int, all_settings: dict[str, dict[str, Any]], folder: Path
) -> Comparison:
    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    loops = {name: make_loop(text, device) for name in (PLAIN, *all_settings)}
    for loop in loops.values():
        loop.turn(WARM_UP, wait)
    monitors = {}
    for name, settings in all_settings.items():
        place = {"tensorboard": folder / f"{text} {name}".replace(":", "")}
        given = settings | (place if "tensorboard" in settings else {})
        monitors[name] = SparsityMonitor(loops[name].model, loops[name].optimizer, **given)
    paired, order = {name: Paired([], []) for name in all_settings}, random.Random(0)
    for _ in range(rounds):
        turns: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(EVERY // TURN[device]):
            for name in order.sample([*loops], len(loops)):
                turns[name].append(loops[name].turn(TURN[device], wait))
        seconds = {name: undisturbed(times) for name, times in turns.items()}
        for name, pair in paired.items():
            pair.a.append((seconds[PLAIN], np.empty(0)))
            pair.b.append((seconds[name], np.empty(0)))
    return Comparison(loops, monitors, paired)


def undisturbed(turns: list[float]) -> float:
    """Seconds of a round from those of its turns, in the last of which there is a record."""
    *others, last = turns
    return last + (len(others) * statistics.median(others) if others else 0.0)


def measure(report: Report, text: str, device: str, rounds: int, folder: Path) -> None:
    network = MODELS[text]
    found = compare(text, device, rounds, SETTINGS, folder)
    last = found.monitors["defaults"].readings[-1]
    step = found.paired["defaults"].seconds[0] / EVERY
    report.write(
        f"## {network}: {len(last.layers)} batch normalisations, {last.units} filters", "",
        f"A step takes {1e3 * step:.3g} ms without the monitor. Last three columns: the monitor's own "
        "code alone, without what watching activations adds to a forward pass.",
    )  # fmt: skip
    rows = []
    for name, pair in found.paired.items():
        wanted = report.want(
            f"{network}, {name}: {pair.median:.4f}", f"≤ {WANTED:g}", pair.median <= WANTED
        )
        record, between = own_time(found.monitors[name])
        share = (record / EVERY + between) / step
        rows.append([name, f"{pair.median:.4f}", pair.spread, *wanted, f"{1e3 * record:,.1f}",
                     f"{1e6 * between:.2g}", f"{share:.3%}"])  # fmt: skip
        found.monitors[name].close()
    header = ["monitor", "time with over without", "least – greatest", "wanted", "met",
              "a record, ms", "another step, µs", "both over the steps' time"]  # fmt: skip
    report.table(header, rows)
    report.want(f"{network}: the same bits with and without", "all weights equal", found.same)
    control = compare(text, device, 1, CONTROL, folder)
    ((name, pair),) = control.paired.items()
    control.monitors[name].close()
    report.write(f"Control: with all of it at every step {pair.median:.2f}.", "")
    report.want(f"{network}, control: {pair.median:.2f}", f"> {WANTED:g}", pair.median > WANTED)


def own_time(monitor: SparsityMonitor, repeats: int = 200) -> tuple[float, float]:
    """Seconds that the monitor itself takes for a record and for another step."""

    def each(count: int) -> float:
        begin = time.perf_counter()
        for _ in range(count):
            monitor._advance()
        return (time.perf_counter() - begin) / count

    every = monitor.every
    monitor.every = 2**50
    between = each(100 * repeats)
    monitor.every = 1
    record = each(repeats)
    monitor.every = every
    return record, between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.md")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    device = CnnConfig(device=options.device).device
    report, others = Report(), Interference()
    gpu = [f"- {torch.cuda.get_device_name()}"] if device == "cuda" else []
    report.write(
        "# Benchmark of the monitor", "",
        "`python benchmarks/monitor.py --out docs/benchmark_monitor.md`", "", *gpu,
        f"- {cpu_name()}, {processors()} processors; torch has {torch.get_num_threads()} threads",
        f"- {versions()}",
        f"- batches of {BATCH} images of 32x32 pixels, Adam with L2, a record every {EVERY} steps",
        f"- medians of {options.rounds} rounds of {EVERY} steps, in turns "
        f"{'step by step; those without a record by their median' * (device == 'cpu')}"
        f"{f'of {EVERY} steps' * (device == 'cuda')}", "",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for text in MODELS:
            measure(report, text, device, options.rounds, Path(folder))
    report.finish(others, options.out)


if __name__ == "__main__":
    main()
