"""How fast is regdyn, next to what else could do its work and to what the processor allows?

    python benchmarks/ensemble.py [--quick] [--out FILE.md]

Every comparison is a ratio of two programs that take turns on one machine, because other users of the
machine slow both: medians of the ratios of neighbours, with the least and the greatest. Compilation is
left out everywhere but in the section on start-up. Nothing fails because of a slow run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from measure import (
    Interference,
    Paired,
    Report,
    Run,
    cpu_name,
    fastest,
    power_law,
    processors,
    take_turns,
    versions,
)
from numpy.typing import NDArray
from peers import (
    LAM,
    RULES,
    TUNED,
    competitors,
    limit_instructions,
    limit_variant,
    optax_variant,
    regdyn_run,
)

SIZES = ((4096, 2000), (65_536, 200), (1 << 20, 20))
"""Trajectories and steps, about 10 million trajectory-steps each."""

TIE = 1.1
"""Sizes at which a competitor's throughput differs by less than this factor are equally good."""

OPTAX_TIMES = 8.0

RULE_SHARE = 0.7
THREADS_TIMES = 1.8
EXPONENT_ERROR = 0.05
MEMORY_MIB = 50.0
HELP_TIMES = 15.0
FIRST_SECONDS, SECOND_SECONDS = 20.0, 2.0


def size_text(trajectories: int, steps: int) -> str:
    return f"{trajectories:,} × {steps:,}"


def million(trajectories: int, steps: int, seconds: float) -> str:
    """Million trajectory-steps per second."""
    return f"{trajectories * steps / seconds / 1e6:.3g}"


def progress(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)


def head(report: Report, quick: bool) -> None:
    now = datetime.now(UTC)
    report.write(
        f"# Ensemble benchmark{' (quick)' if quick else ''}",
        "",
        f"- {cpu_name()}, {processors()} logical processors; load average {os.getloadavg()[0]:.2f} "
        "before the start",
        f"- {versions()}",
        f"- {now:%Y-%m-%d %H:%M} UTC",
        "",
    )


LIMIT = "limit: the update alone"
BEST = "best float64 competitor"

WANTED = {BEST: (18.0, 9.0), LIMIT: (0.5, 0.28)}
"""The goal of regdyn's Adam over each at its best size, and what it must not fall below."""


@dataclass(frozen=True)
class Entry:
    """A competitor at one size, in its fastest variant."""

    peer: str
    variant: str
    trajectories: int
    steps: int
    paired: Paired

    @property
    def rate(self) -> float:
        return self.trajectories * self.steps / self.paired.seconds[1]

    @property
    def size(self) -> str:
        return size_text(self.trajectories, self.steps)


def measure_throughput(quick: bool) -> list[Entry]:
    """Every competitor at every size in turns with regdyn."""
    sizes = SIZES[:2] if quick else SIZES
    keys, groups = [], []
    for peer, variants in (competitors() | {LIMIT: [limit_variant(processors())]}).items():
        for size in sizes:
            progress(f"compiling {peer} for {size_text(*size)}")
            keys.append((peer, [variant.label for variant in variants], *size))
            groups.append([variant.make(*size) for variant in variants])
    progress("choosing the fastest variants")
    chosen = fastest(groups, 1 if quick else 3)
    progress("competitors")
    paired = take_turns(
        [
            (regdyn_run(trajectories, steps), group[i])
            for (_, _, trajectories, steps), group, i in zip(keys, groups, chosen)
        ],
        3 if quick else 7,
    )
    return [
        Entry(peer, labels[i], trajectories, steps, pair)
        for (peer, labels, trajectories, steps), i, pair in zip(keys, chosen, paired)
    ]


def best_size(entries: list[Entry]) -> Entry:
    """Where a competitor is fastest; of equally good sizes the one with the most steps."""
    top = max(entry.rate for entry in entries)
    return max((entry for entry in entries if entry.rate * TIE >= top), key=lambda entry: entry.steps)


def throughput(report: Report, quick: bool) -> Entry | None:
    """Section 1. Returns optax at its best size."""
    entries = measure_throughput(quick)
    best = {
        peer: best_size([entry for entry in entries if entry.peer == peer])
        for peer in dict.fromkeys(entry.peer for entry in entries)
    }
    report.write(
        "## 1. Throughput",
        "",
        f"Adam with L2 (λ = {LAM:g}) on one weight under Gaussian noise, float64; million "
        "trajectory-steps per second with the noise, which only the limit does not draw.",
        "Each competitor as its documentation has it, and tuned: with cache-sized slices, threads, "
        "several devices or a faster generator, whichever is best. All hand over the final weights; "
        "regdyn also counts first passage and time below the threshold at every step.",
    )
    report.table(
        ["competitor", "variant", "trajectories × steps", "competitor", "regdyn",
         "regdyn / competitor", "min – max"],
        [
            [
                f"{entry.peer} (its best)" if entry is best[entry.peer] else entry.peer,
                entry.variant, entry.size,
                million(entry.trajectories, entry.steps, entry.paired.seconds[1]),
                million(entry.trajectories, entry.steps, entry.paired.seconds[0]),
                f"{entry.paired.median:.3g}", entry.paired.spread,
            ]
            for entry in entries
        ],
    )  # fmt: skip
    plain = [best[peer] for peer in best if peer != LIMIT and not peer.endswith(TUNED)]
    top = max(plain, key=lambda entry: entry.rate)
    rows = []
    for name, entry in [(BEST, top), *best.items()]:
        cells = ["", ""]
        if name in WANTED:
            (goal, floor), median = WANTED[name], entry.paired.median
            cells = report.want(f"Adam over {name}", f"≥ {goal:g} (at least {floor:g})", median >= goal)
        shown = f"{name}: {top.peer}" if name == BEST else name
        rows.append([shown, entry.size, f"{entry.paired.median:.3g}", entry.paired.spread, *cells])
    report.write(
        f"At the best size of each; of sizes within {TIE - 1:.0%} of each other the one with the most "
        "steps:"
    )
    report.table(
        ["regdyn over", "trajectories × steps", "ratio", "min – max", "wanted", "met"], rows
    )  # fmt: skip
    other = [f"{e.peer} at {e.size}" for e in entries if e.peer != LIMIT and not e.paired.agree()]
    report.write(
        f"- The limit is compiled to {limit_instructions()}; the ratio to it is the share of the time "
        "that regdyn's update alone would need.",
        f"- **Other results than regdyn: {', '.join(other)}.**"
        if other
        else "- All end with the same mean and std of θ, within 6 standard errors.",
        "",
    )
    return best.get("optax")


def optimizers(report: Report, quick: bool, optax: Entry | None) -> None:
    """Section 2, at the size and in the variant at which optax is best."""
    trajectories, steps = (optax.trajectories, optax.steps) if optax else SIZES[1]
    rounds = 3 if quick else 7
    ours = {name: regdyn_run(trajectories, steps, rule) for name, rule in RULES.items()}
    theirs: dict[str, Run] = {}
    if optax:
        generator, devices = optax.variant.split(", ")
        for name in RULES:
            progress(f"compiling optax's {name}")
            variant = optax_variant(generator, int(devices.split()[0]), name)
            theirs[name] = variant.make(trajectories, steps)
    progress("optimizers")
    paired = take_turns(
        [(ours[name], ours["adam"]) for name in RULES]
        + [(ours[name], theirs[name]) for name in theirs],
        rounds,
    )
    over_adam, over_optax = paired[: len(RULES)], dict(zip(theirs, paired[len(RULES) :]))
    rows = []
    for name, pair in zip(RULES, over_adam):
        cells = [name, million(trajectories, steps, pair.seconds[0]), f"{pair.median:.2f}", pair.spread]
        if name == "adam":
            cells += ["", ""]
        else:
            met = pair.median >= RULE_SHARE
            cells += report.want(f"{name} over Adam", f"≥ {RULE_SHARE:g}", met)
        if name in over_optax:
            pair = over_optax[name]
            met = pair.median >= OPTAX_TIMES
            cells += [million(trajectories, steps, pair.seconds[1]), f"{pair.median:.3g}", pair.spread]
            # Adam is judged in section 1.
            cells += (
                ["", ""]
                if name == "adam"
                else report.want(f"{name} over optax's {name}", f"≥ {OPTAX_TIMES:g}", met)
            )
        else:
            cells += [""] * 5
        rows.append(cells)
    variant_text = f"optax ({optax.variant})" if optax else "optax (not installed)"
    report.write(
        "## 2. Optimizers",
        "",
        f"At {size_text(trajectories, steps)}, million trajectory-steps per second; {variant_text} "
        "with the same hyperparameters and add_decayed_weights before the rule.",
    )
    report.table(
        ["rule", "regdyn", "over regdyn's Adam", "min – max", "wanted", "met", "optax",
         "regdyn / optax", "min – max", "wanted", "met"],
        rows,
    )  # fmt: skip
    other = [name for name, pair in over_optax.items() if not pair.agree()]
    report.write(
        f"**Other results than optax: {', '.join(other)}.**"
        if other
        else "Each ends with the same mean and std of θ as its namesake, within 6 standard errors.",
        "",
    )


def both_at_once(trajectories: int, steps: int, count: int) -> Run:
    """`count` independent runs side by side, one thread each."""
    parts = [regdyn_run(trajectories // count, steps, threads=1) for _ in range(count)]
    pool = ThreadPoolExecutor(count)

    def run(seed: int) -> tuple[float, NDArray]:
        begin = time.perf_counter()
        outcomes = list(pool.map(lambda part: part(seed), parts))
        seconds = time.perf_counter() - begin
        return seconds, np.concatenate([theta for _, theta in outcomes])

    return run


def threads(report: Report, quick: bool) -> None:
    """Section 3."""
    report.write("## 3. Two threads over one", "")
    if processors() < 2:
        report.write("Only one processor here: not measured.", "")
        return
    progress("threads")
    trajectories, steps = 65_536, 200 if quick else 500
    one = regdyn_run(trajectories, steps, threads=1)
    bare_two, bare_one = (limit_variant(k).make(trajectories, steps) for k in (2, 1))
    two, apart, bare = take_turns(
        [
            (regdyn_run(trajectories, steps, threads=2), one),
            (both_at_once(trajectories, steps, 2), one),
            (bare_two, bare_one),
        ],
        5 if quick else 15,
    )
    met = two.median >= THREADS_TIMES
    report.write(
        f"At {size_text(trajectories, steps)}. The last two rows say what a second processor gives."
    )
    report.table(
        ["what", "ratio", "min – max", "wanted", "met"],
        [
            ["regdyn, threads=2 over threads=1", f"{two.median:.2f}", two.spread,
             *report.want("two threads over one", f"≥ {THREADS_TIMES:g}", met)],
            ["two independent runs of regdyn at once over one after the other",
             f"{apart.median:.2f}", apart.spread, "", ""],
            [f"{LIMIT}, two threads over one", f"{bare.median:.2f}", bare.spread, "", ""],
        ],
    )  # fmt: skip
    if bare.median < 1.5:
        report.write(
            "Roots and divisions gain little from the second processor: the two are hyperthreads of "
            "one core and share its divider, or other programs keep one of them busy.",
            "",
        )


def linearity(report: Report, quick: bool) -> None:
    """Section 4."""
    progress("linearity")
    rounds, points, base_steps = (2, 4, 500) if quick else (3, 7, 2000)
    sweeps = {
        "trajectories": [(round(4096 * 10**e), base_steps) for e in np.linspace(0, 2, points)],
        "steps": [(4096, round(base_steps * 10**e)) for e in np.linspace(0, 2, points)],
    }
    rows = []
    for name, sizes in sweeps.items():
        seconds = np.empty((rounds, points))
        runs = [regdyn_run(*size) for size in sizes]
        for i in range(rounds):
            # Up and down in turn, so that a drift of the machine does not look like an exponent.
            for j in range(points)[:: 1 if i % 2 == 0 else -1]:
                seconds[i, j] = runs[j](i)[0]
        varied = [size[0 if name == "trajectories" else 1] for size in sizes]
        exponent, error = power_law(varied, np.median(seconds, axis=0))
        met = abs(exponent - 1) <= EXPONENT_ERROR
        rows.append([
            name, f"{varied[0]:,} – {varied[-1]:,}", f"{exponent:.3f}", f"{error:.3f}",
            *report.want(f"exponent in {name}", f"1 ± {EXPONENT_ERROR:g}", met),
        ])  # fmt: skip
    report.write(
        "## 4. Linearity",
        "",
        f"seconds ~ size^p over two decades, {points} sizes, median of {rounds} rounds each.",
    )
    report.table(["size", "range", "exponent p", "standard error", "wanted", "met"], rows)


def environment(**more: str) -> dict[str, str]:
    """Of a user's process: allowed to keep the bytecode of what it imports."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | more


def wall(command: list[str], env: dict[str, str]) -> float:
    """Seconds of a whole process, which must succeed."""
    begin = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


# ru_maxrss starts at the size of the process that called exec, here one with jax and torch in it.
_PEAK = """
import resource, sys, regdyn
steps, trajectories = map(int, sys.argv[1:])
regdyn.simulate("adam", steps=steps, trajectories=trajectories)
try:
    status = open("/proc/self/status").read()
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
except OSError:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
"""


def memory(report: Report, quick: bool) -> None:
    """Section 5."""
    trajectories, steps = 100_000, 100_000
    report.write("## 5. Peak memory", "")
    if quick:
        report.write("Not measured under --quick.", "")
        return
    progress("memory, half a minute to two")

    def peak(steps: int) -> float:
        command = [sys.executable, "-c", _PEAK, str(steps), str(trajectories)]
        return float(subprocess.run(command, env=environment(), check=True, capture_output=True).stdout)

    short, long = peak(1), peak(steps)
    met = long - short <= MEMORY_MIB
    report.write(f"Of a process with {trajectories:,} trajectories, in MiB.")
    report.table(
        ["1 step", f"{steps:,} steps", "difference", "wanted", "met"],
        [[f"{short:.0f}", f"{long:.0f}", f"{long - short:.1f}",
          *report.want("memory independent of steps", f"≤ {MEMORY_MIB:g} MiB", met)]],
    )  # fmt: skip


_HEAVY = ("numba", "torch", "matplotlib", "xarray")

_LOADED = f"import sys, regdyn; print(*[name for name in {_HEAVY} if name in sys.modules])"


def start_up(report: Report, quick: bool) -> None:
    """Section 6."""
    progress("start-up")
    module = [sys.executable, "-m", "regdyn"]
    env = environment()
    rows = []

    def bare(_: int) -> tuple[float, NDArray]:
        return wall([sys.executable, "-c", "pass"], env), np.empty(0)

    def show_help(_: int) -> tuple[float, NDArray]:
        return wall([*module, "--help"], env), np.empty(0)

    has_command = subprocess.run([*module, "--help"], env=env, capture_output=True).returncode == 0
    if has_command:
        # A is the empty process, so that the ratio is how many times as long --help takes.
        (paired,) = take_turns([(bare, show_help)], 5 if quick else 15)
        times = f"{paired.median:.1f} ({paired.spread})"
        met = paired.median <= HELP_TIMES
        rows.append([
            "`regdyn --help` over `python -c pass`", times,
            *report.want("--help over an empty process", f"≤ {HELP_TIMES:g}", met),
        ])  # fmt: skip
    else:
        rows.append(["`regdyn --help` over `python -c pass`", "the command line does not run", "", ""])

    loaded = subprocess.run([sys.executable, "-c", _LOADED], env=env, check=True, capture_output=True)
    found = loaded.stdout.decode().split()
    rows.append([
        f"of {', '.join(_HEAVY)}, `import regdyn` loads", ", ".join(found) or "none",
        *report.want("import regdyn loads nothing heavy", "none", not found),
    ])  # fmt: skip

    size = ["--steps", "2000", "--trajectories", "256"]
    if has_command:
        simulate = [*module, "simulate", "--opt", "adam", *size, "--quiet"]
    else:
        code = "import regdyn; regdyn.simulate('adam', steps=2000, trajectories=256)"
        simulate = [sys.executable, "-c", code]
    with tempfile.TemporaryDirectory() as folder:
        seconds = [wall(simulate, environment(REGDYN_CACHE_DIR=folder)) for _ in range(4)]
    first, second = seconds[0], statistics.median(seconds[1:])
    rows.append([
        "first simulate with an empty cache, whole process", f"{first:.1f} s",
        *report.want("first simulate", f"< {FIRST_SECONDS:g} s", first < FIRST_SECONDS),
    ])  # fmt: skip
    rows.append([
        "the processes after it", f"{second:.2f} s ({min(seconds[1:]):.2f} – {max(seconds[1:]):.2f})",
        *report.want("second simulate", f"< {SECOND_SECONDS:g} s", second < SECOND_SECONDS),
    ])  # fmt: skip
    report.write("## 6. Start-up")
    report.table(["what", "measured", "wanted", "met"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, no memory section")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.md", help="also write the report to this file"
    )
    arguments = parser.parse_args()
    quick, report = arguments.quick, Report()
    begin, interference = time.perf_counter(), Interference()
    head(report, quick)
    regdyn_run(256, 10)(0)
    optimizers(report, quick, throughput(report, quick))
    threads(report, quick)
    linearity(report, quick)
    memory(report, quick)
    start_up(report, quick)
    report.conclude()
    report.write(
        "",
        f"Took {time.perf_counter() - begin:.0f} s, in which other programs and the hypervisor had "
        f"{interference.share():.0%} of the processors' time.",
    )
    if arguments.out:
        arguments.out.write_text("\n".join(report.text) + "\n")


if __name__ == "__main__":
    main()
