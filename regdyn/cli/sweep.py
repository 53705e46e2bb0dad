"""`regdyn sweep`."""

from __future__ import annotations

import inspect
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import (
    SHORT,
    command,
    executor_options,
    optimizer_names,
    option,
    parameter,
    plain_console,
    print_table,
    progress_bar,
    rule_options,
    say_compiling,
    split,
)
from regdyn.errors import Interrupted, InvalidParameter, WorkerLost
from regdyn.optimizers import OPTIMIZERS, REGULARIZATIONS
from regdyn.parameters import check_choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regdyn.sweeps.plan import Plan
    from regdyn.sweeps.result import Sweep
    from regdyn.sweeps.store import Store

_VALUES = "VALUES"
_NAMES = "NAMES"


def _options() -> list[inspect.Parameter]:
    return [
        option("scalar", str, "--system", "scalar (one weight) or neuron (one BN+ReLU unit).",
               metavar="NAME"),
        option(None, str | None, "--opt", f"{', '.join(OPTIMIZERS)}; several with commas, or all "
               "(adam; neuron: sgd).", metavar=_NAMES),
        option(None, str | None, "--reg", "Placement of the decay: none, l2, decoupled, paper; several "
               "with commas (l2).", metavar=_NAMES),
        option(None, str | None, "--lam", "Strength of the decay, >= 0 (1e-4; neuron: 0). VALUES, here "
               "and below, are numbers with commas, FROM:TO:N and FROM:TO:logN, such as "
               "0,1e-7:1e-1:log61.", metavar=_VALUES),
        option(None, str | None, "--lr", "Learning rate, >= 0 (each optimizer's own).",
               metavar=_VALUES),
        option(None, str | None, "--schedule", "constant, step:B1,B2,…[:FACTOR], cosine[:FINAL], "
               "restarts:PERIOD[:GROWTH] or a .npy file; several with commas (constant).",
               metavar=_NAMES),
        *rule_options(),
        option(None, str | None, "--steps", "Steps of every trajectory, >= 1 (10000).",
               metavar=_VALUES),
        option(None, str | None, "--trajectories", "Trajectories of a point, >= 1 (64).",
               metavar=_VALUES),
        option(None, str | None, "--threshold", "Below it a weight, or the activation probability of a "
               "unit, counts as dead; above 0 (1e-3).", metavar=_VALUES),
        option(None, str | None, "--dtype", "float64, float32 or both (float64).", metavar=_NAMES),
        option(None, str | None, "--seed", "Key of the random streams, also FROM:TO (0).",
               metavar=_VALUES),
        *_weight_options(),
        *_unit_options(),
        option(None, list[str] | None, "--zip", "Parameters that take their values together instead of "
               "each with each, such as lam,sigma; may be given again.", metavar="NAMES"),
        option(None, str | None, "--times", "Recorded steps (0; 1, 2, 5 of each decade; the last).",
               metavar=_VALUES),
        option(None, str | None, "--chunk", "Points that are written together, about (a few seconds of "
               "work).", metavar="N"),
        option(None, str | None, "--refine", "Spend trajectories where the map needs them until the "
               "median passage is known to this share of it, in (0, 1].", metavar="X"),
        option(None, str | None, "--most-trajectories", "Of a point with --refine (4096).",
               metavar="N"),
        *executor_options("points"),
        option(None, str | None, "--threads", "Threads of this process (all processors).", metavar="N"),
        option(..., Path, "--out", "The store, a folder that ends in .zarr. One that holds part of "
               "the same sweep is completed.", metavar="DIR"),
        option(None, Path | None, "--plot", "Draw the map to a .png, .pdf or .svg file; regdyn plot "
               "can do more.", metavar="FILE"),
        option(False, bool, "--json", "Print JSON instead of a table."),
        option(False, bool, "--force", "Replace the store of another sweep, and an existing picture."),
        option(False, bool, "--quiet", "No table, no progress."),
    ]  # fmt: skip


def _weight_options() -> list[inspect.Parameter]:
    """Of the scalar system alone."""
    return [
        option(None, str | None, "--theta0", "scalar: start of the weight (1).", metavar=_VALUES),
        option(None, str | None, "--noise", "scalar: gradient model gaussian, gated, student-t, trace "
               "or none; several with commas (gaussian).", metavar=_NAMES),
        option(None, str | None, "--sigma", "scalar: std of the gradient noise after the burn-in, >= 0 "
               "(1e-5), or a .npy file with a std per step (and no burn-in).", metavar=_VALUES),
        option(None, str | None, "--burn-in-sigma", "scalar: std of the gradient noise at first, >= 0 "
               "(1e-3).", metavar=_VALUES),
        option(None, str | None, "--burn-in-steps", "scalar: steps of the burn-in (100); 0 for none.",
               metavar=_VALUES),
        option(None, str | None, "--gate-probability", "scalar: share of steps in which a gated "
               "gradient arrives, in [0, 1] (0.1).", metavar=_VALUES),
        option(None, str | None, "--dof", "scalar: degrees of freedom of Student's t, above 2 (5).",
               metavar=_VALUES),
        option(None, str | None, "--trace", "scalar: recorded gradients, a .npy file of shape (steps,) "
               "or (steps, trajectories).", metavar="FILE"),
        option(None, str | None, "--signal", "scalar: strength h of a loss gradient h (theta - target) "
               "(0).", metavar=_VALUES),
        option(None, str | None, "--target", "scalar: target of that gradient (0).", metavar=_VALUES),
    ]  # fmt: skip


def _unit_options() -> list[inspect.Parameter]:
    """Of the neuron system alone."""
    return [
        option(None, str | None, "--gamma0", "neuron: start of gamma (1).", metavar=_VALUES),
        option(None, str | None, "--beta0", "neuron: start of beta (0).", metavar=_VALUES),
        option(None, str | None, "--c", "neuron: std of dL/dy of one sample, >= 0 (1).",
               metavar=_VALUES),
        option(None, str | None, "--batch", "neuron: samples of a step, >= 1 (1).", metavar=_VALUES),
        option(None, str | None, "--psbn-alpha", "neuron: shift of psBN, >= 0 (0).", metavar=_VALUES),
        option(None, bool | None, "--antithetic/--no-antithetic", "neuron: pairs of opposite gradients "
               "(off)."),
    ]  # fmt: skip


_WORDS = ("optimizer", "regularization", "schedule", "noise", "dtype")
"""Axes of words come first, and in this order."""

_LAST = ("lam", "sigma", "c")
"""Axes that come last: those of the usual picture."""


@command(_options)
def sweep(**options: Any) -> None:
    """Simulate a grid of parameters: for which of them does an idle weight die, and when?

    Every option with several values is an axis. The same command completes a store that was
    interrupted.

    Example:

      regdyn sweep --lam 1e-5:1e-1:log9 --sigma 1e-6:1e-4:log5 --out map.zarr
    """
    from regdyn.executors import make_executor
    from regdyn.sweeps.result import Sweep
    from regdyn.sweeps.run import complete
    from regdyn.sweeps.store import open_store

    if options["plot"] is not None:
        from regdyn.files import check_target
        from regdyn.plots import plot_format

        plot_format(options["plot"])
        check_target("plot", options["plot"], options["force"])
    plan = _plan(options)
    if options["plot"] is not None:
        _check_drawable(plan)
    executor = make_executor(
        options["executor"], workers=options["workers"], scheduler=options["scheduler"],
        threads=options["threads"],
    )  # fmt: skip
    with executor:
        store = open_store(options["out"], plan, options["force"])
        missing = store.missing()
        refined = plan.precision is not None
        left = None if refined else sum(map(plan.chunk_trajectory_steps, missing))
        whole = len(plan.chunks) - len(missing)
        with store.locked(), progress_bar(left, options["quiet"], "sweeping") as (advance, say):
            if not options["quiet"]:
                say(_announcement(plan, whole, executor.description))

            def progress(done: int, chunks: int) -> None:
                nonlocal whole
                whole = chunks
                advance(done, "" if refined else f"{chunks}/{len(plan.chunks)} chunks")

            try:
                complete(store, plan, executor, progress, partial(say_compiling, say))
            except KeyboardInterrupt:
                raise Interrupted(f"interrupted; {_how_to_resume(store, whole)}") from None
            except WorkerLost as error:
                raise WorkerLost(f"{error}; {_how_to_resume(store, whole)}") from None
    result = Sweep(store.path)
    if options["plot"] is not None:
        try:
            result.save_plot(options["plot"], force=options["force"])
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted; regdyn plot draws {store.path}, which is whole") from None
    if options["json"]:
        print(json.dumps(_summary(result), indent=1))
    elif not options["quiet"]:
        _print(result)


def _check_drawable(plan: Plan) -> None:
    """Before anything is simulated: a map needs an axis of numbers, and few panels."""
    from regdyn.plots.maps import MOST_PANELS, lay_out

    try:
        lay_out([axis.values for axis in plan.grid.axes])
    except InvalidParameter as error:
        if error.name == "x":
            raise InvalidParameter("plot", "used with an axis of numbers") from None
        wanted = f"used where at most {MOST_PANELS} panels are left (regdyn plot --at holds axes)"
        raise InvalidParameter("plot", wanted, error.value) from None


def _announcement(plan: Plan, whole: int, workers: str) -> str:
    shape = " x ".join(f"{len(axis)} {axis.dim}" for axis in plan.grid.axes) or "1 point"
    if plan.precision is not None:
        return f"{shape}, refined to {plan.precision:g}; {workers}"
    there = f", {whole} of them there" if whole else ""
    chunks = f"{len(plan.chunks)} chunk{'s' if len(plan.chunks) > 1 else ''}{there}"
    return f"{shape}: {plan.trajectory_steps:.3g} trajectory-steps in {chunks}; {workers}"


def _how_to_resume(store: Store, whole: int) -> str:
    chunks = f"{whole} of {len(store.plan.chunks)} chunks are"
    if store.plan.precision is not None:
        chunks = "the points that have been simulated are"
    return f"{chunks} in {store.path}, and the same command goes on from them"


def _plan(options: dict[str, Any]) -> Plan:
    """What was asked for: an axis for each option with several values."""
    from regdyn.sweeps.axes import parse_numbers
    from regdyn.sweeps.plan import make_plan
    from regdyn.sweeps.systems import SYSTEMS

    system = check_choice("system", options["system"], SYSTEMS)
    names = dict.fromkeys(name for each in SYSTEMS.values() for name in each.parameters)
    groups = [[parameter(name) for name in split("zip", group)] for group in options["zip"] or ()]
    together = {name for group in groups for name in group}
    values = {}
    for name in names:
        given = options[SHORT.get(name, name)]
        if given is not None:
            listed = _read(name, given)
            values[name] = listed if name in together else list(dict.fromkeys(listed))
    axes = {name: listed for name, listed in values.items() if len(listed) > 1}
    fixed = {name: listed[0] for name, listed in values.items() if name not in axes}
    times = options["times"]
    return make_plan(
        {name: axes[name] for name in sorted(axes, key=_place)},
        system=system,
        zip=groups,
        times=None if times is None else parse_numbers("times", times, whole=True),
        chunk=options["chunk"],
        refine=options["refine"],
        most_trajectories=options["most_trajectories"],
        **fixed,
    )


def _place(name: str) -> int:
    """Where an axis comes among the others."""
    if name in _WORDS:
        return _WORDS.index(name)
    return len(_WORDS) + 1 + _LAST.index(name) if name in _LAST else len(_WORDS)


def _read(name: str, given: Any) -> Sequence[Any]:
    """The values of an option."""
    from regdyn.sweeps.axes import parse_numbers
    from regdyn.sweeps.systems import WHOLE, WORDS

    if name == "optimizer":
        return optimizer_names(given, repeated=True)
    if name == "schedule":
        return _schedules(given)
    if isinstance(given, bool) or name == "trace" or str(given).endswith(".npy"):
        return [given]
    if name in WORDS:
        words = split(name, given, repeated=True)
        if name == "regularization":
            for word in words:
                check_choice(name, word, REGULARIZATIONS)
        return words
    return parse_numbers(name, given, whole=name in WHOLE)


def _schedules(text: str) -> list[str]:
    """Schedules with commas between them, and between the steps of one: "step:100,200,cosine"."""
    schedules: list[str] = []
    for part in split("schedule", text, repeated=True):
        if schedules and schedules[-1].startswith("step:") and part[0].isdigit():
            schedules[-1] += f",{part}"
        else:
            schedules.append(part)
    return schedules


def _summary(result: Sweep) -> dict[str, Any]:
    """What a map shows at a glance, a row for each combination of words."""
    return {
        "out": str(result.path),
        "points": result.points,
        "simulated": result.simulated,
        "rows": result.summary(),
        "sessions": result.sessions,
    }


def _print(result: Sweep) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = plain_console()
    console.print(repr(result), highlight=False)
    rows = result.summary()
    words = [name for name in rows[0] if name not in _SUMMARY_COLUMNS]
    table = Table(box=SIMPLE_HEAD)
    for heading in words:
        table.add_column(heading, no_wrap=True)
    for heading in _SUMMARY_COLUMNS.values():
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(str(row[name]) for name in words),
            str(row["points"]),
            f"{row['share_dying']:.1%}",
            "never" if row["earliest"] is None else f"{row['earliest']:.0f}",
            f"{row['share_below']:.1%}",
            f"{row['diverged']:.1%}",
        )
    print_table(console, table)
    if not sys.stdout.isatty():
        return
    console.print(f"regdyn plot {result.path} draws it.", highlight=False)


_SUMMARY_COLUMNS = {
    "points": "points",
    "share_dying": "median passes at",
    "earliest": "first at step",
    "share_below": "time below",
    "diverged": "diverged",
}
