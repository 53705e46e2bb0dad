"""`regdyn simulate`."""

from __future__ import annotations

import inspect
import sys
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import (
    check_outputs,
    command,
    make_decays,
    option,
    output_options,
    plain_console,
    progress_bar,
    say_compiling,
    std_options,
    weight_options,
)
from regdyn.errors import InvalidParameter
from regdyn.parameters import check_integer

if TYPE_CHECKING:
    from regdyn.dynamics.result import ScalarResult
    from regdyn.dynamics.scalar import ScalarConfig


def _options() -> list[inspect.Parameter]:
    noises = "gaussian, gated, student-t, trace or none"
    return [
        *weight_options(),
        option("10000", str, "--steps", "Steps of every trajectory, >= 1.", metavar="N"),
        option("4096", str, "--trajectories", "Size of the ensemble, >= 1.", metavar="N"),
        option(None, str | None, "--noise", f"Gradient model: {noises} (gaussian).",
               metavar="NAME"),
        *std_options(),
        option(None, str | None, "--gate-probability", "Share of steps in which a gated gradient "
               "arrives, in [0, 1] (0.1).", metavar="P"),
        option(None, str | None, "--dof", "Degrees of freedom of Student's t, above 2 (5).",
               metavar="X"),
        option(None, str | None, "--trace", "Recorded gradients: a .npy file of shape (steps,) or "
               "(steps, trajectories).", metavar="FILE"),
        option("0.0", str, "--signal", "Strength h of a loss gradient h (theta - target).",
               metavar="H"),
        option("0.0", str, "--target", "Target of that gradient.", metavar="X"),
        option("float64", str, "--dtype", "float64 or float32.", metavar="NAME"),
        option("0", str, "--seed", "Key of the random streams, in [0, 2^64).", metavar="N"),
        option("0", str, "--keep", "Whole trajectories to keep in a .nc file.", metavar="N"),
        *output_options("Write the results to a .nc, .json or .csv file.",
                        "Draw the decay to a .png, .pdf or .svg file."),
    ]  # fmt: skip


@command(_options)
def simulate(**options: Any) -> None:
    """Simulate the decay of one weight under low-gradient noise.

    Example:

      regdyn simulate --opt adam,sgd --lam 1e-4 --steps 2000 --trajectories 512
    """
    from regdyn.dynamics.result import save_results, table_format

    get = options.__getitem__
    form = check_outputs(options, table_format)
    configs = _configs(options)
    if configs[0].keep and form != ".nc":
        raise InvalidParameter("keep", "used with --out FILE.nc, where the trajectories go")
    results = _run(configs, options["threads"], options["quiet"])
    if get("out") is not None:
        save_results(results, get("out"), force=get("force"))
    if get("plot") is not None:
        from regdyn.plots import save_plot

        save_plot(results, get("plot"), force=get("force"))
    if get("json"):
        import json

        print(json.dumps({"results": [result.to_dict() for result in results]}, indent=1))
    elif get("csv"):
        import csv

        from regdyn.dynamics.result import CSV_COLUMNS, csv_rows

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        writer.writerows(csv_rows(results))
    elif not get("quiet"):
        _print_tables(results)
    if get("json") or get("csv") or get("quiet"):
        for result in results:
            for sentence in result.warnings():
                print(f"Warning: {result.label}: {sentence}", file=sys.stderr)


def _configs(options: dict[str, Any]) -> list[ScalarConfig]:
    """One configuration for each optimizer, placement and lambda that was asked for."""
    from regdyn.dynamics.noise import Signal, make_noise
    from regdyn.dynamics.scalar import ScalarConfig
    from regdyn.dynamics.schedules import parse_schedule

    rules, regularizations, lams = make_decays(options)
    steps = check_integer("steps", options["steps"], 1, 10**12)
    shared = {
        name: options[name] for name in ("trajectories", "theta0", "threshold", "dtype", "seed", "keep")
    }
    shared |= {
        "steps": steps,
        "schedule": parse_schedule(options["schedule"], steps),
        "noise": make_noise(options["noise"], options),
        "signal": Signal(options["signal"], options["target"]),
    }
    return [
        ScalarConfig(optimizer=rule, regularization=regularization, lam=lam, **shared)
        for rule, regularization, lam in product(rules, regularizations, lams)
    ]


def _run(configs: list[Any], threads: str | None, quiet: bool) -> list[ScalarResult]:
    results = []
    total = sum(config.steps * config.trajectories for config in configs)
    with progress_bar(total, quiet) as (advance, say):
        for config in configs:
            compiling = partial(say_compiling, say, config.rule.name)
            results.append(config.run(threads=threads, progress=advance, notify_compile=compiling))
    return results


def _print_tables(results: list[ScalarResult]) -> None:
    console = plain_console()
    if len(results) == 1:
        _print_decay(console, results[0])
    else:
        _print_summary(console, results)


def _describe_ensemble(result: ScalarResult) -> str:
    config = result.config
    return (
        f"{config.trajectories} trajectories x {config.steps} steps, theta0 {config.theta0:g}, "
        f"{config.dtype}, seed {config.seed}"
    )


def _describe_gradients(result: ScalarResult) -> str:
    config = result.config
    signal = f", {config.signal}" if config.signal.strength else ""
    return f"{config.schedule}, {config.noise}{signal}"


def _print_decay(console: Any, result: ScalarResult) -> None:
    from rich.table import Table

    levels = (0.05, 0.5, 0.95)
    quantiles = result.quantiles(levels)
    console.print(
        f"{result.label}: {_describe_ensemble(result)}\n"
        f"{result.config.optimizer}, {_describe_gradients(result)}",
        highlight=False,
    )
    table = Table()
    for heading in ("step", "mean theta", "std theta", "5 % |theta|", "median |theta|", "95 % |theta|"):
        table.add_column(heading, justify="right")
    shown = _rows_to_show(result.times)
    for row in shown:
        table.add_row(
            str(result.times[row]),
            f"{result.mean[row]:.4g}",
            f"{result.std[row]:.3g}",
            *(_magnitude(q) for q in quantiles[row]),
        )
    console.print(table)
    console.print("\n".join(_passage(result)), highlight=False)


def _rows_to_show(times: Any) -> list[int]:
    """About three rows per decade, with the first and the last."""
    wanted = {0, int(times[-1])}
    wanted |= {digit * 10**power for power in range(13) for digit in (1, 2, 5)}
    return [row for row, t in enumerate(times.tolist()) if t in wanted]


def _magnitude(value: float) -> str:
    from regdyn.dynamics.observables import HIGH, LOW

    return f"< {LOW:g}" if value <= LOW else f"> {HIGH:g}" if value >= HIGH else f"{value:.3g}"


def _steps(value: float) -> str:
    return "never" if value == float("inf") else f"{value:.0f}"


def _passage(result: ScalarResult) -> list[str]:
    low, median, high = (result.first_passage_quantile(q) for q in (0.05, 0.5, 0.95))
    lines = [
        f"First step with |theta| < {result.config.threshold:g}: median {_steps(median)}, "
        f"5-95 % {_steps(low)} to {_steps(high)}; {result.share_passed:.1%} of the trajectories "
        f"pass, and all together spend {result.share_below:.1%} of the time below.",
        f"{result.seconds:.2f} s, {result.trajectory_steps_per_second / 1e6:.0f} million "
        "trajectory-steps per second.",
    ]
    return lines + [f"Warning: {sentence}." for sentence in result.warnings()]


def _print_summary(console: Any, results: list[ScalarResult]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    threshold = results[0].config.threshold
    console.print(
        f"{_describe_ensemble(results[0])}\n{_describe_gradients(results[0])}\n"
        "theta after the last step (mean, median |theta|); median first step below "
        f"{threshold:g}, share that got there, share of time below",
        highlight=False,
    )
    table = Table(box=SIMPLE_HEAD)
    for heading in ("optimizer", "decay"):
        table.add_column(heading, no_wrap=True)
    for heading in ("lambda", "mean", "median", "passage", "passed", "below"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        config = result.config
        table.add_row(
            config.optimizer.name,  # type: ignore[union-attr]
            config.regularization,
            f"{config.lam:g}",
            f"{result.mean[-1]:.3g}",
            _magnitude(result.quantiles([0.5])[-1, 0]),
            _steps(result.first_passage_quantile()),
            f"{result.share_passed:.1%}",
            f"{result.share_below:.1%}",
        )
    console.print(table)
    for result in results:
        for sentence in result.warnings():
            console.print(f"Warning: {result.label}: {sentence}.", highlight=False)
