"""Options that several commands share, and how their texts become objects."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from regdyn.errors import InvalidParameter
from regdyn.optimizers import (
    OPTIMIZERS,
    REGULARIZATIONS,
    Optimizer,
    make_optimizer,
    make_optimizers,
    rule_parameters,
)
from regdyn.parameters import check_choice, check_number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def option(
    default: Any, kind: Any, flag: str, text: str, metavar: str | None = None
) -> inspect.Parameter:
    """One option of a command, as an entry of its signature.

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


def command(parameters: Callable[[], list[inspect.Parameter]]) -> Callable[[Callable], Callable]:
    """Give a function of keyword arguments the signature that typer reads."""

    def give(function: Callable) -> Callable:
        signature = inspect.Signature(parameters())
        function.__signature__ = signature  # type: ignore[attr-defined]
        function.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return function

    return give


def optimizer_options(lam: str) -> list[inspect.Parameter]:
    """The optimizer, its decay, of default strength `lam`, and its schedule."""
    several = "; several with commas"
    lrs = "; ".join(f"{name} {make_optimizer(name).lr:g}" for name in OPTIMIZERS)
    return [
        option("adam", str, "--opt", f"{', '.join(OPTIMIZERS)}{several}, or all.", metavar="NAMES"),
        option(lam, str, "--lam", f"Strength of the decay, >= 0{several}.", metavar="VALUES"),
        option("l2", str, "--reg", "Placement of the decay: none, l2 (in the gradient), decoupled "
               f"(AdamW), paper (mehta2019){several}.", metavar="NAMES"),
        option(None, str | None, "--lr", f"Learning rate, >= 0 ({lrs}).", metavar="X"),
        option("constant", str, "--schedule", "constant; step:B1,B2,…[:FACTOR] (0.1) after steps B1, "
               "B2, …; cosine[:FINAL] (0) over all steps; restarts:PERIOD[:GROWTH] (1), whole numbers;"
               " or a .npy file with a factor per step, the last one held.", metavar="TEXT"),
        *rule_options(),
    ]  # fmt: skip


def weight_options() -> list[inspect.Parameter]:
    """What the weight, its optimizer and its decay are."""
    return [
        *optimizer_options("1e-4"),
        option("1.0", str, "--theta0", "Start of the weight.", metavar="X"),
        option("1e-3", str, "--threshold", "A weight below it counts as dead; above 0.", metavar="X"),
    ]  # fmt: skip


def std_options() -> list[inspect.Parameter]:
    """Std of the gradient noise."""
    return [
        option(None, str | None, "--sigma", "Std of the gradient noise after the burn-in, >= 0 "
               "(1e-5), or a .npy file with a std per step, the last one held (and no burn-in).",
               metavar="X"),
        option(None, str | None, "--burn-in-sigma", "Std of the gradient noise at first, >= 0 (1e-3).",
               metavar="X"),
        option(None, str | None, "--burn-in-steps", "Steps of the burn-in (100); 0 for none.",
               metavar="N"),
    ]  # fmt: skip


def network_options(model: str) -> list[inspect.Parameter]:
    """A file with the weights of a network, and what builds it; `model` says when it is needed."""
    text = (
        "A .safetensors file, a .pt, .pth or .ckpt file of torch with weights alone (code in it is "
        "never run), or the folder of regdyn train --checkpoint."
    )
    file = inspect.Parameter(
        "file",
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        annotation=Annotated[Path, typer.Argument(help=text, metavar="FILE")],
    )
    return [
        file,
        option(None, str | None, "--part", "Part of a file that holds several networks, such as "
               "model_ema.", metavar="NAME"),
        option(None, str | None, "--model", "What builds the network: package.module:factory, your own "
               f"code, imported and called without arguments ({model}).", metavar="TEXT"),
    ]  # fmt: skip


def image_options(purpose: str) -> list[inspect.Parameter]:
    """Images for a network; `purpose` begins the sentence that says what with."""
    return [
        option(None, str | None, "--data", f"{purpose}: digits, objects, cifar10, … as for regdyn "
               "train, or a .npz file of x_train, y_train, x_test, y_test.", metavar="TEXT"),
        option(None, Path | None, "--data-dir", "Folder with the published archives of cifar10, "
               "cifar100 and mnist.", metavar="DIR"),
        option(True, bool, "--normalize/--no-normalize", "Give the images with mean 0 and std 1 in "
               "each channel, or as they are."),
    ]  # fmt: skip


def executor_options(several: str) -> list[inspect.Parameter]:
    """Who does the work, of which there are `several`."""
    return [
        option(None, str | None, "--workers", f"Do {several} in N processes of this machine, by "
               "default those of a dask cluster.", metavar="N"),
        option(None, str | None, "--scheduler", f"Do {several} on the workers of this dask "
               "scheduler, such as tcp://node1:8786.", metavar="ADDRESS"),
        option(None, str | None, "--executor", "threads (of this process), loky (processes of joblib) "
               "or dask (dask with --workers or --scheduler, else threads).", metavar="NAME"),
    ]  # fmt: skip


def output_options(out: str, plot: str) -> list[inspect.Parameter]:
    """Where the results go; `out` and `plot` say what the files show."""
    return [
        option(None, str | None, "--threads", "Threads (all processors).", metavar="N"),
        option(False, bool, "--json", "Print JSON instead of a table."),
        option(False, bool, "--csv", "Print CSV instead of a table."),
        option(None, Path | None, "--out", out, metavar="FILE"),
        option(None, Path | None, "--plot", plot, metavar="FILE"),
        option(False, bool, "--force", "Overwrite existing files."),
        option(False, bool, "--quiet", "No table, no progress."),
    ]


def check_outputs(options: dict[str, Any], out_format: Callable[[Path], str]) -> str | None:
    """Whether the files of `output_options` can be written; the suffix of --out by `out_format`."""
    from regdyn.files import check_target

    if options["json"] and options["csv"]:
        raise InvalidParameter("json", "used without --csv")
    suffix = None
    if options["out"] is not None:
        suffix = out_format(options["out"])
        check_target("out", options["out"], options["force"])
    if options["plot"] is not None:
        from regdyn.plots import plot_format

        plot_format(options["plot"])
        check_target("plot", options["plot"], options["force"])
    return suffix


def rule_options() -> list[inspect.Parameter]:
    """Options for the hyperparameters, from the fields of the rules: a new rule needs no line here."""
    options = []
    for name, owners in rule_parameters().items():
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
            options.append(option(None, bool | None, flag, f"{first.metadata['doc']} ({defaults})"))
        else:
            text = f"{first.metadata['doc']}, in {first.metadata['interval']} ({defaults})"
            options.append(option(None, str | None, flag, text, "X"))
    return options


SHORT = {"optimizer": "opt", "regularization": "reg"}
"""Parameters whose option has a shorter name."""


def parameter(text: str) -> str:
    """The parameter that is meant by the name of it or of its option."""
    name = text.replace("-", "_")
    return next((long for long, short in SHORT.items() if name == short), name)


def split(name: str, text: str, repeated: bool = False) -> list[str]:
    """The words between commas, each once unless they may be `repeated`."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InvalidParameter(name, "given at least one value", repr(text))
    return parts if repeated else list(dict.fromkeys(parts))


class Advance(Protocol):
    """Told how much was done since the last call, and what to show of it."""

    def __call__(self, done: int, status: str = "", /) -> None: ...


Say = Callable[[str], None]


def say_compiling(say: Say, optimizer: str) -> None:
    """Why nothing seems to happen the first time."""
    say(f"Compiling the {optimizer} kernel, once for this machine (about 15 s) …")


def _million_trajectory_steps(speed: float) -> str:
    return f"{speed / 1e6:.0f} million trajectory-steps/s"


@contextmanager
def progress_bar(
    total: int | None,
    quiet: bool,
    doing: str = "simulating",
    rate: Callable[[float], str] = _million_trajectory_steps,
) -> Iterator[tuple[Advance, Say]]:
    """A progress bar on a terminal's stderr, and a way to say something above it.

    Without a `total` it shows the rate alone.
    """
    if quiet:
        yield lambda done, status="", /: None, lambda text: None
        return
    if not sys.stderr.isatty():
        yield lambda done, status="", /: None, lambda text: print(text, file=sys.stderr)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.table import Column

    # What is left of the line is for the status, whose end is cut where it is too long.
    rest = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    with Progress(
        TextColumn(doing),
        BarColumn(12),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[status]}", markup=False, table_column=rest),
        console=Console(stderr=True),
        expand=True,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=total, rate="", status="")

        def advance(done: int, status: str = "", /) -> None:
            bar.update(task, advance=done, status=status)
            speed = bar.tasks[0].speed
            if speed:
                bar.update(task, rate=rate(speed))

        yield advance, lambda text: bar.console.print(text)


def optimizer_names(text: str, repeated: bool = False) -> list[str]:
    """The optimizers in a list, each once unless they may be `repeated`, or all of them."""
    names = split("optimizer", text, repeated)
    names = list(OPTIMIZERS) if names == ["all"] else names
    for name in names:
        check_choice("optimizer", name, [*OPTIMIZERS, "all"])
    return names


def make_decays(options: dict[str, Any]) -> tuple[list[Optimizer], list[str], list[float]]:
    """Optimizers, placements and strengths of the decay that were asked for."""
    names = optimizer_names(options["opt"])
    regularizations = split("regularization", options["reg"])
    for name in regularizations:
        check_choice("regularization", name, REGULARIZATIONS)
    lams = [check_number("lam", text, "[0, inf)") for text in split("lam", options["lam"])]
    return make_optimizers(names, options), regularizations, lams


def print_table(console: Console, table: Table) -> None:
    """Print a table at its own width: a number that is cut to fit a narrow terminal misleads."""
    from rich.measure import Measurement

    wanted = Measurement.get(console, console.options.update(max_width=400), table).maximum
    console.width = max(console.width, wanted)
    console.print(table)


def plain_console() -> Console:
    """A console on the standard output; piped, it has no width of its own and 80 columns cut tables."""
    from rich.console import Console

    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return Console(width=None if on_terminal else 120)
