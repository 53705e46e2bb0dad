"""The command line: parse, call, print.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from regdyn import __version__
from regdyn.errors import InvalidParameter
from regdyn.optimizers import OPTIMIZERS, REGULARIZATIONS, Optimizer, make_optimizer
from regdyn.parameters import check_choice, check_integer, check_number

if TYPE_CHECKING:
    from regdyn.dynamics.noise import Noise
    from regdyn.dynamics.result import ScalarResult

# click.ClickException or, in a typer that carries its own click, that one's.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]

# Options whose name is not the parameter's with dashes.
_FLAGS = {"optimizer": "--opt", "regularization": "--reg"}

INTERRUPTED = 130

app = typer.Typer(
    name="regdyn",
    add_completion=False,
    # Help drawn with rich starts at half the speed.
    rich_markup_mode=None,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 fine, 1 a check failed, 2 usage or bad input, 3 a missing library, 130 interrupted.
    """
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return int(code or 0)
    except InvalidParameter as error:
        name = _FLAGS.get(error.name, "--" + error.name.replace("_", "-"))
        return _fail(error.describe(name), 2)
    except OSError as error:
        # Of the standard output: what concerns files is reported where they are written.
        return _fail(f"the output cannot be written ({error.strerror or error})", 1)
    except _UsageError as error:
        return _fail(error.format_message(), getattr(error, "exit_code", 2))  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        return _fail(f"{error.name} is not installed: pip install {error.name}", 3)
    except MemoryError:
        return _fail("not enough memory: use fewer --trajectories or a smaller --keep", 2)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted, no file was written", INTERRUPTED)


def _fail(message: str, code: int) -> int:
    print("Error: " + " ".join(message.split()), file=sys.stderr)
    return code


def _show_version(value: bool) -> None:
    if value:
        print(f"regdyn {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """What an optimizer's decay does to weights that see little gradient.

    Example:

      regdyn simulate --opt adam --lam 1e-4
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


def _option(
    default: Any, kind: Any, flag: str, text: str, metavar: str | None = None
) -> inspect.Parameter:
    """One option of `simulate`, as an entry of its signature.

    Numbers arrive as text and are read where they are checked, so that a typing error and a value out
    of range get the same line.
    """
    name = flag.split("/")[0].removeprefix("--").replace("-", "_")
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, typer.Option(flag, help=text, metavar=metavar)],
    )


def _rule_parameters() -> dict[str, list[tuple[type[Optimizer], dataclasses.Field[Any]]]]:
    """Every hyperparameter of any rule but the learning rate, and the rules that have it."""
    found: dict[str, list[tuple[type[Optimizer], dataclasses.Field[Any]]]] = {}
    for rule in OPTIMIZERS.values():
        for field in dataclasses.fields(rule):
            if field.name != "lr":
                found.setdefault(field.name, []).append((rule, field))
    return found


def _rule_options() -> list[inspect.Parameter]:
    """Options for the hyperparameters, from the fields of the rules: a new rule needs no line here."""
    options = []
    for name, owners in _rule_parameters().items():
        first = owners[0][1]
        by_default: dict[Any, list[str]] = {}
        for rule, field in owners:
            by_default.setdefault(field.default, []).append(rule.name)
        defaults = "; ".join(
            f"{', '.join(rules)} {'on' if d is True else 'off' if d is False else format(d, 'g')}"
            for d, rules in by_default.items()
        )
        flag = "--" + name.replace("_", "-")
        if isinstance(first.default, bool):
            flag += "/--no-" + name.replace("_", "-")
            options.append(_option(None, bool | None, flag, f"{first.metadata['doc']} ({defaults})"))
        else:
            text = f"{first.metadata['doc']}, in {first.metadata['interval']} ({defaults})"
            options.append(_option(None, str | None, flag, text, "X"))
    return options


def _simulate_options() -> list[inspect.Parameter]:
    lrs = "; ".join(f"{name} {make_optimizer(name).lr:g}" for name in OPTIMIZERS)
    noises = "gaussian, gated, student-t, trace or none"
    return [
        _option("adam", str, "--opt", f"{', '.join(OPTIMIZERS)}; several with commas, or all.",
                metavar="NAMES"),
        _option("1e-4", str, "--lam", "Strength of the decay, >= 0; several with commas.",
                metavar="VALUES"),
        _option("l2", str, "--reg", "Placement of the decay: none, l2 (in the gradient), decoupled "
                "(AdamW), paper (mehta2019); several with commas.", metavar="NAMES"),
        _option(None, str | None, "--lr", f"Learning rate, >= 0 ({lrs}).", metavar="X"),
        _option("constant", str, "--schedule", "constant; step:B1,B2,…[:FACTOR] (0.1) after steps B1, "
                "B2, …; cosine[:FINAL] (0) over all steps; restarts:PERIOD[:GROWTH] (1), whole numbers;"
                " or a .npy file with a factor per step, the last one held.", metavar="TEXT"),
        *_rule_options(),
        _option("10000", str, "--steps", "Steps of every trajectory, >= 1.", metavar="N"),
        _option("4096", str, "--trajectories", "Size of the ensemble, >= 1.", metavar="N"),
        _option("1.0", str, "--theta0", "Start of the weight.", metavar="X"),
        _option(None, str | None, "--noise", f"Gradient model: {noises} (gaussian).",
                metavar="NAME"),
        _option(None, str | None, "--sigma", "Std of the gradient noise after the burn-in, >= 0 "
                "(1e-5), or a .npy file with a std per step, the last one held (and no burn-in).",
                metavar="X"),
        _option(None, str | None, "--burn-in-sigma", "Std of the gradient noise at first, >= 0 (1e-3).",
                metavar="X"),
        _option(None, str | None, "--burn-in-steps", "Steps of the burn-in (100); 0 for none.",
                metavar="N"),
        _option(None, str | None, "--gate-probability", "Share of steps in which a gated gradient "
                "arrives, in [0, 1] (0.1).", metavar="P"),
        _option(None, str | None, "--dof", "Degrees of freedom of Student's t, above 2 (5).",
                metavar="X"),
        _option(None, str | None, "--trace", "Recorded gradients: a .npy file of shape (steps,) or "
                "(steps, trajectories).", metavar="FILE"),
        _option("0.0", str, "--signal", "Strength h of a loss gradient h (theta - target).",
                metavar="H"),
        _option("0.0", str, "--target", "Target of that gradient.", metavar="X"),
        _option("1e-3", str, "--threshold", "A weight below it counts as dead; above 0.", metavar="X"),
        _option("float64", str, "--dtype", "float64 or float32.", metavar="NAME"),
        _option("0", str, "--seed", "Key of the random streams, in [0, 2^64).", metavar="N"),
        _option("0", str, "--keep", "Whole trajectories to keep in a .nc file.", metavar="N"),
        _option(None, str | None, "--threads", "Threads (all processors).", metavar="N"),
        _option(False, bool, "--json", "Print JSON instead of a table."),
        _option(False, bool, "--csv", "Print CSV instead of a table."),
        _option(None, Path | None, "--out", "Write the results to a .nc, .json or .csv file.",
                metavar="FILE"),
        _option(None, Path | None, "--plot", "Draw the decay to a .png, .pdf or .svg file.",
                metavar="FILE"),
        _option(False, bool, "--force", "Overwrite existing files."),
        _option(False, bool, "--quiet", "No table, no progress."),
    ]  # fmt: skip


def _simulate(**options: Any) -> None:
    """Simulate the decay of one weight under low-gradient noise.

    Example:

      regdyn simulate --opt adam,sgd --lam 1e-4 --steps 2000 --trajectories 512
    """
    from regdyn.dynamics.result import save_results, table_format
    from regdyn.files import check_target

    get = options.__getitem__
    if get("json") and get("csv"):
        raise InvalidParameter("json", "used without --csv")
    form = None
    if get("out") is not None:
        form = table_format(get("out"))
        check_target("out", get("out"), get("force"))
    if get("plot") is not None:
        from regdyn.plots import plot_format, save_plot

        plot_format(get("plot"))
        check_target("plot", get("plot"), get("force"))

    configs = _configs(options)
    if configs[0].keep and form != ".nc":
        raise InvalidParameter("keep", "used with --out FILE.nc, where the trajectories go")
    results = _run(configs, options["threads"], options["quiet"])
    if get("out") is not None:
        save_results(results, get("out"), force=get("force"))
    if get("plot") is not None:
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


_simulate.__signature__ = inspect.Signature(_simulate_options())  # type: ignore[attr-defined]
_simulate.__annotations__ = {p.name: p.annotation for p in _simulate_options()}
app.command("simulate")(_simulate)


def _configs(options: dict[str, Any]) -> list[Any]:
    """One `ScalarConfig` for each optimizer, placement and lambda that was asked for."""
    from regdyn.dynamics.noise import Signal
    from regdyn.dynamics.scalar import ScalarConfig
    from regdyn.dynamics.schedules import parse_schedule

    names = _split("optimizer", options["opt"])
    names = list(OPTIMIZERS) if names == ["all"] else names
    for name in names:
        check_choice("optimizer", name, [*OPTIMIZERS, "all"])
    regularizations = _split("regularization", options["reg"])
    for name in regularizations:
        check_choice("regularization", name, REGULARIZATIONS)
    lams = [check_number("lam", text, "[0, inf)") for text in _split("lam", options["lam"])]
    steps = check_integer("steps", options["steps"], 1, 10**12)
    shared = {
        name: options[name] for name in ("trajectories", "theta0", "threshold", "dtype", "seed", "keep")
    }
    shared |= {
        "steps": steps,
        "schedule": parse_schedule(options["schedule"], steps),
        "noise": _noise(options),
        "signal": Signal(options["signal"], options["target"]),
    }
    rules = _rules(names, options)
    return [
        ScalarConfig(optimizer=rule, regularization=regularization, lam=lam, **shared)
        for rule, regularization, lam in product(rules, regularizations, lams)
    ]


def _split(name: str, text: str) -> list[str]:
    parts = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise InvalidParameter(name, "given at least one value", repr(text))
    return parts


def _rules(names: list[str], options: dict[str, Any]) -> list[Optimizer]:
    """The optimizers with the hyperparameters that were given, each to the rules that have it."""
    given = {name: options[name] for name in ("lr", *_rule_parameters()) if options[name] is not None}
    for name in given:
        if not any(name in OPTIMIZERS[rule].parameter_names() for rule in names):
            having = ", ".join(rule.name for rule, _ in _rule_parameters()[name])
            raise InvalidParameter(name, f"used with an optimizer that has it ({having})", names[0])
    return [
        OPTIMIZERS[rule](**{k: v for k, v in given.items() if k in OPTIMIZERS[rule].parameter_names()})
        for rule in names
    ]


_DRAWN = ("gaussian", "gated", "student-t")
_NOISE_OPTIONS = {
    "sigma": _DRAWN,
    "burn_in_sigma": _DRAWN,
    "burn_in_steps": _DRAWN,
    "gate_probability": ("gated",),
    "dof": ("student-t",),
    "trace": ("trace",),
}
"""Options of the gradient models, and the models that take them."""


def _noise(options: dict[str, Any]) -> Noise:
    from regdyn.dynamics import noise

    trace = options["trace"]
    default = "gaussian" if trace is None else "trace"
    kind = check_choice("noise", options["noise"] or default, noise.NOISES)
    for name, kinds in _NOISE_OPTIONS.items():
        if options[name] is not None and kind not in kinds:
            raise InvalidParameter(name, f"used with --noise {' or '.join(kinds)}", f"--noise {kind}")
    if kind == "none":
        return noise.NoNoise()
    if kind == "trace":
        if trace is None:
            raise InvalidParameter("trace", "given with --noise trace: a .npy file")
        return noise.Trace.load(trace)
    given = {name: options[name] for name in _NOISE_OPTIONS if options[name] is not None}
    sigma: noise.Stds
    if given.get("sigma", "").endswith(".npy"):
        from regdyn.files import load_numbers

        for name in ("burn_in_sigma", "burn_in_steps"):
            if name in given:
                raise InvalidParameter(name, "used with a number for --sigma", given["sigma"])
        sigma = noise.StdTable(load_numbers("sigma", given["sigma"]))
    else:
        names = {"sigma": "late", "burn_in_sigma": "early", "burn_in_steps": "steps"}
        sigma = noise.BurnIn(**{names[name]: given[name] for name in names if name in given})
    if kind == "gated":
        return noise.Gated(given.get("gate_probability", noise.Gated.p), sigma)
    if kind == "student-t":
        return noise.StudentT(given.get("dof", noise.StudentT.dof), sigma)
    return noise.Gaussian(sigma)


def _run(configs: list[Any], threads: str | None, quiet: bool) -> list[ScalarResult]:
    results = []
    total = sum(config.steps * config.trajectories for config in configs)
    with _progress(total, quiet) as (advance, say):
        for config in configs:

            def compiling(name: str = config.optimizer.name) -> None:
                say(f"Compiling the {name} kernel, once for this machine (about 10 s) …")

            results.append(config.run(threads=threads, progress=advance, notify_compile=compiling))
    return results


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[tuple[Callable[[int], None], Callable[[str], None]]]:
    """A progress bar on a terminal's stderr, and a way to say something above it."""
    if quiet:
        yield lambda done: None, lambda text: None
        return
    if not sys.stderr.isatty():
        yield lambda done: None, lambda text: print(text, file=sys.stderr)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("simulating"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task("", total=total, rate="")

        def advance(done: int) -> None:
            bar.update(task, advance=done)
            speed = bar.tasks[0].speed
            if speed:
                bar.update(task, rate=f"{speed / 1e6:.0f} million trajectory-steps/s")

        yield advance, lambda text: bar.console.print(text)


def _print_tables(results: list[ScalarResult]) -> None:
    from rich.console import Console

    # Piped output has no width of its own; 80 columns would cut the tables.
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(width=None if on_terminal else 120)
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


def script() -> None:
    """Entry point of the installed command."""
    raise SystemExit(main())
