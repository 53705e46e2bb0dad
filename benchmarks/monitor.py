"""What does `SparsityMonitor` cost a training loop?

    python benchmarks/monitor.py [--out FILE.md] [--rounds N] [--device auto|cpu|cuda]

The same loop (zero_grad, forward, backward, Adam with L2) without the monitor, with its defaults, with
activations, and with activations and TensorBoard files. The four train twins and take turns: step by
step on a processor, 100 steps at a time on a GPU, where a step waits for nothing. A round is 100 steps
of each, one of which is recorded.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def measure(report: Report, text: str, device: str, rounds: int, folder: Path) -> None:
    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    plain, others = make_loop(text, device), {name: make_loop(text, device) for name in SETTINGS}
    for loop in (plain, *others.values()):
        loop.turn(WARM_UP, wait)
    monitors = {}
    for name, settings in SETTINGS.items():
        given = dict(settings)
        if "tensorboard" in given:
            given["tensorboard"] = folder / text.replace(":", "_")
        loop = others[name]
        monitors[name] = SparsityMonitor(loop.model, loop.optimizer, **given)
    paired = {name: Paired([], []) for name in SETTINGS}
    for _ in range(rounds):
        seconds = dict.fromkeys(("", *SETTINGS), 0.0)
        for _ in range(EVERY // TURN[device]):
            for name, loop in {"": plain, **others}.items():
                seconds[name] += loop.turn(TURN[device], wait)
        for name, pair in paired.items():
            pair.a.append((seconds[""], plain.state().numpy()))
            pair.b.append((seconds[name], others[name].state().numpy()))
    filters = sum(layer.units for layer in monitors["defaults"].readings[-1].layers)
    step = paired["defaults"].seconds[0] / EVERY
    report.write(
        f"## {MODELS[text]}: {len(monitors['defaults'].layer_names)} batch normalisations, "
        f"{filters} filters", "",
        f"A step takes {1e3 * step:.3g} ms without the monitor.",
    )  # fmt: skip
    rows = []
    for name, pair in paired.items():
        same = all(torch.equal(plain.state(), loop.state()) for loop in others.values())
        wanted = report.want(f"{MODELS[text]}, {name}: {pair.median:.4f}", f"≤ {WANTED:g}",
                             pair.median <= WANTED)  # fmt: skip
        record, between = own_time(monitors[name])
        share = (record / EVERY + between) / step
        rows.append([name, f"{pair.median:.4f}", pair.spread, *wanted, f"{1e3 * record:.2g}",
                     f"{1e6 * between:.2g}", f"{share:.3%}"])  # fmt: skip
        monitors[name].close()
    header = ["monitor", "time with over without", "least – greatest", "wanted", "met",
              "a record, ms", "another step, µs", "both, share of a step"]  # fmt: skip
    report.table(header, rows)
    report.want(f"{MODELS[text]}: the same bits with and without", "all weights equal", same)


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
        f"{'step by step' if device == 'cpu' else f'of {EVERY} steps'}", "",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for text in MODELS:
            measure(report, text, device, options.rounds, Path(folder))
    report.conclude()
    report.write(
        "", f"Other programs and the hypervisor had {others.share():.0%} of the processors' time."
    )
    if options.out is not None:
        options.out.write_text("\n".join(report.text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
