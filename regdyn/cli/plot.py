"""`regdyn plot`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from regdyn.cli.options import command, option, parameter
from regdyn.errors import InvalidParameter


def _options() -> list[inspect.Parameter]:
    store = inspect.Parameter(
        "store",
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        annotation=Annotated[
            Path, typer.Argument(help="What regdyn sweep wrote, whole or in part.", metavar="STORE")
        ],
    )
    return [
        store,
        option("passage", str, "--what", "passage (median first step below the threshold), below "
               "(share of time below) or spread (std after the last step).", metavar="NAME"),
        option(None, str | None, "--x", "Axis of numbers along x (lam, if there).", metavar="NAME"),
        option(None, str | None, "--y", "Axis of numbers along y (sigma, if there).", metavar="NAME"),
        option(None, list[str] | None, "--at", "Hold an axis at a value, the nearest of its numbers; "
               "may be given again.", metavar="NAME=VALUE"),
        option(None, str | None, "--training", "Steps at which to draw the lines of equal passage (the "
               "papers' lengths of a training that the map reaches, else its last step).",
               metavar="VALUES"),
        option(True, bool, "--theory/--no-theory", "The predicted lines, dashed, which take a second "
               "or two a panel."),
        option(None, str | None, "--title", "A title.", metavar="TEXT"),
        option(None, Path | None, "--out", "The picture, .png, .pdf or .svg (STORE's name with .png, "
               "here).", metavar="FILE"),
        option(False, bool, "--force", "Overwrite an existing file."),
        option(False, bool, "--quiet", "Do not print the name of the picture."),
    ]  # fmt: skip


@command(_options)
def plot(**options: Any) -> None:
    """Draw a sweep: where in its grid does a weight die, and when?

    A panel for each combination of what is not on its two axes; with one axis of numbers, curves.

    Example:

      regdyn plot map.zarr --training 1000,10000
    """
    from regdyn.files import check_target
    from regdyn.plots import plot_format
    from regdyn.sweeps.axes import parse_numbers
    from regdyn.sweeps.result import Sweep

    sweep = Sweep(options["store"])
    target = options["out"] or Path(sweep.path.resolve().with_suffix(".png").name)
    if not target.is_dir():
        plot_format(target, "out")
    check_target("out", target, options["force"])
    training = options["training"]
    lengths = None
    if training is not None:
        numbers = parse_numbers("training", training, whole=True)
        if min(numbers) < 1 or any(number % 1 for number in numbers):
            raise InvalidParameter("training", "steps >= 1", training)
        lengths = [int(number) for number in numbers]
    sweep.save_plot(
        target, force=options["force"], theory=options["theory"], what=options["what"],
        x=options["x"] and parameter(options["x"]), y=options["y"] and parameter(options["y"]),
        at=_held(options["at"] or []), training=lengths,
        title=options["title"],
    )  # fmt: skip
    if sweep.simulated + sweep.interpolated < sweep.points:
        print(f"Note: {sweep.simulated} of {sweep.points} points are there yet", file=sys.stderr)
    if not options["quiet"]:
        print(target)


def _held(texts: list[str]) -> dict[str, str]:
    held: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise InvalidParameter("at", "NAME=VALUE", text)
        held[parameter(name)] = value
    return held
