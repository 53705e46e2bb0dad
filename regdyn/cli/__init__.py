"""The command line: parse, call, print.

Nothing heavy is imported before a command runs, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from regdyn import __version__
from regdyn.cli.check import check
from regdyn.cli.inspect import inspect
from regdyn.cli.options import SHORT
from regdyn.cli.plot import plot
from regdyn.cli.predict import predict
from regdyn.cli.prune import prune
from regdyn.cli.simulate import simulate
from regdyn.cli.sweep import sweep
from regdyn.cli.train import train
from regdyn.errors import (
    CheckFailed,
    Interrupted,
    InvalidParameter,
    MissingData,
    OutsideDomain,
    WorkerLost,
    missing_library,
)

# click.ClickException or, in a typer that carries its own click, that one's.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]

# Options whose name is not the parameter's with dashes.
_FLAGS = {
    **{name: f"--{short}" for name, short in SHORT.items()},
    "claim": "CLAIM", "file": "FILE", "hidden": "--width", "store": "STORE",
}  # fmt: skip

INTERRUPTED = 130

app = typer.Typer(
    name="regdyn",
    add_completion=False,
    # Help drawn with rich starts at half the speed.
    rich_markup_mode=None,
)
app.command("simulate")(simulate)
app.command("sweep")(sweep)
app.command("plot")(plot)
app.command("predict")(predict)
app.command("train")(train)
app.command("inspect")(inspect)
app.command("prune")(prune)
app.command("check")(check)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 fine, 1 a check or a run failed, 2 usage or bad input, 3 a missing library or data set, 130
    interrupted.
    """
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        return int(code or 0)
    except InvalidParameter as error:
        name = _FLAGS.get(error.name, "--" + error.name.replace("_", "-"))
        return _fail(error.describe(name), 2)
    except OutsideDomain as error:
        return _fail(str(error), 2)
    except MissingData as error:
        return _fail(str(error), 3)
    except Interrupted as error:
        return _fail(str(error), INTERRUPTED)
    except (CheckFailed, WorkerLost) as error:
        return _fail(str(error), 1)
    except OSError as error:
        # Of the standard output: what concerns files is reported where they are written.
        return _fail(f"the output cannot be written ({error.strerror or error})", 1)
    except _UsageError as error:
        return _fail(error.format_message(), getattr(error, "exit_code", 2))  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        return _fail(missing_library(error), 3)
    except MemoryError:
        return _fail("not enough memory: use fewer --trajectories, a smaller --keep or --width", 2)
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


def script() -> None:
    """Entry point of the installed command."""
    raise SystemExit(main())
