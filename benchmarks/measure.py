"""Paired timing on a machine that others use too, and the report made of it."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import ArrayLike, NDArray

Outcome = tuple[float, NDArray]
"""Seconds, and theta of every trajectory after the last step."""

Run = Callable[[int], Outcome]
"""One run with a given seed, compiled before."""

PAUSE = 0.02
"""Seconds between two runs: the idle threads of OpenMP and XLA spin for a while before they sleep."""

KEPT = 2**16
"""Final weights of a run that are kept for the comparison of results."""


def processors() -> int:
    """Logical processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Paired:
    """Runs of A and B that took turns."""

    a: list[Outcome]
    b: list[Outcome]

    @property
    def ratios(self) -> list[float]:
        """Seconds of B over seconds of A, pair by pair: how many times as fast A is."""
        return [b[0] / a[0] for a, b in zip(self.a, self.b)]

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    @property
    def spread(self) -> str:
        return f"{min(self.ratios):.3g} – {max(self.ratios):.3g}"

    @property
    def seconds(self) -> tuple[float, float]:
        """Median seconds of A and of B."""
        return (
            statistics.median(seconds for seconds, _ in self.a),
            statistics.median(seconds for seconds, _ in self.b),
        )

    def agree(self) -> bool:
        """Do A and B end with the same mean and std of theta, within 6 standard errors?"""
        a, b = (np.concatenate([theta for _, theta in runs]) for runs in (self.a, self.b))
        error = math.sqrt(np.var(a) / len(a) + np.var(b) / len(b))
        kurtosis = np.mean((a - a.mean()) ** 4) / np.var(a) ** 2
        log_error = math.sqrt((kurtosis - 1) / 4 * (1 / len(a) + 1 / len(b)))
        return bool(
            abs(a.mean() - b.mean()) < 6 * error
            and abs(math.log(np.std(a) / np.std(b))) < 6 * log_error
        )


def take_turns(comparisons: Sequence[tuple[Run, Run]], rounds: int) -> list[Paired]:
    """Run A B for every comparison, and all of that again in every round, each with its own seed.

    The rounds matter: a machine that slows down for a minute then slows all the comparisons.
    """
    paired = [Paired([], []) for _ in comparisons]
    for seed in range(rounds):
        for (a, b), kept in zip(comparisons, paired):
            for run, outcomes in ((a, kept.a), (b, kept.b)):
                time.sleep(PAUSE)
                seconds, theta = run(seed)
                outcomes.append((seconds, theta[:KEPT].copy()))
    return paired


def fastest(groups: Sequence[Sequence[Run]], rounds: int) -> list[int]:
    """Index of the fastest run in each group, by its median seconds over the rounds."""
    seconds: list[list[list[float]]] = [[[] for _ in group] for group in groups]
    for seed in range(rounds):
        for group, kept in zip(groups, seconds):
            for run, times in zip(group, kept):
                time.sleep(PAUSE)
                times.append(run(seed)[0])
    medians = [[statistics.median(times) for times in kept] for kept in seconds]
    return [of_group.index(min(of_group)) for of_group in medians]


def power_law(sizes: ArrayLike, seconds: ArrayLike) -> tuple[float, float]:
    """Exponent of seconds ~ sizes^p and its standard error, by least squares on the logarithms."""
    x, y = np.log(sizes), np.log(seconds)
    x = x - x.mean()
    exponent = float(x @ y / (x @ x))
    residuals = y - y.mean() - exponent * x
    return exponent, math.sqrt(float(residuals @ residuals) / (len(x) - 2) / float(x @ x))


def cpu_name() -> str:
    """The processor as the operating system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class Interference:
    """What other programs and the hypervisor take of the processors from now on."""

    def __init__(self) -> None:
        self._before = self._times()

    @staticmethod
    def _times() -> tuple[float, float, float]:
        machine, own = psutil.cpu_times(), os.times()
        # Linux counts the time of guests twice; a virtual machine without guests of its own has none.
        total = sum(machine)
        return total, total - machine.idle - getattr(machine, "iowait", 0.0), sum(own[:4])

    def share(self) -> float:
        total, busy, own = (b - a for a, b in zip(self._before, self._times()))
        return max(busy - own, 0.0) / total


def versions() -> str:
    """Versions of Python and of everything that is measured."""
    found = [f"python {platform.python_version()}"]
    for package in ("regdyn", "numpy", "numba", "jax", "optax", "torch"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


@dataclass
class Report:
    """Markdown, printed as it grows, and the wants that it has judged."""

    text: list[str] = field(default_factory=list)
    wants: list[tuple[str, bool]] = field(default_factory=list)

    def write(self, *lines: str) -> None:
        self.text.extend(lines)
        print(*lines, sep="\n", flush=True)

    def want(self, what: str, wanted: str, met: bool) -> list[str]:
        """The last two cells of a row: what is wanted, and whether it is so."""
        self.wants.append((f"{what} ({wanted})", met))
        return [wanted, "yes" if met else "**no**"]

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        def line(cells: Sequence[str]) -> str:
            return f"| {' | '.join(cells)} |"

        self.write("", line(header), line(["---"] * len(header)), *map(line, rows), "")

    def conclude(self) -> None:
        missed = [what for what, met in self.wants if not met]
        self.write(
            "## Wants",
            "",
            *[f"- {'met' if met else '**not met**'}: {what}" for what, met in self.wants],
            "",
            f"{len(self.wants) - len(missed)} of {len(self.wants)} wants are met.",
        )

    def finish(self, others: Interference, out: Path | None) -> None:
        """The conclusion, what others took of the processors, and all of it to a file."""
        self.conclude()
        self.write(
            "", f"Other programs and the hypervisor had {others.share():.0%} of the processors' time."
        )
        if out is not None:
            out.write_text("\n".join(self.text) + "\n", encoding="utf-8")
