"""`regdyn train`."""

from __future__ import annotations

import inspect
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import (
    check_outputs,
    command,
    make_decays,
    optimizer_options,
    option,
    output_options,
    plain_console,
    print_table,
    progress_bar,
    say_compiling,
    split,
)
from regdyn.errors import InvalidParameter
from regdyn.parameters import check_integer, check_number

if TYPE_CHECKING:
    from rich.console import Console

    from regdyn.nets.config import Snapshot
    from regdyn.nets.data import Dataset
    from regdyn.nets.result import TrainResult
    from regdyn.nets.sparsity import LayerSparsity
    from regdyn.nets.training import TrainConfig

MOST_RUNS = 1000
"""Runs of one command."""


def _options() -> list[inspect.Parameter]:
    return [
        *optimizer_options("1e-3"),
        option("digits", str, "--data", "digits; clean or cluttered; synthetic:KEY=VALUE,… with keys "
               "classes, overlap, clutter, n_train, n_test, size, seed; or a .npz file of x_train, "
               "y_train, x_test, y_test.", metavar="TEXT"),
        option("256", str, "--width", "Units of each hidden layer, >= 1; several with commas.",
               metavar="N"),
        option("2", str, "--depth", "Hidden layers, in [1, 100]; several with commas.", metavar="N"),
        option("relu", str, "--activation", "relu, leaky_relu, elu, tanh or linear.", metavar="NAME"),
        option("0.01", str, "--slope", "Slope of leaky_relu below 0, in [0, 1].", metavar="X"),
        option("batch", str, "--norm", "Before the activation: batch (normalisation) or none.",
               metavar="NAME"),
        option("0.0", str, "--psbn-alpha", "Constant that psBN (zhou2020) adds after the "
               "normalisation, >= 0.", metavar="X"),
        option("1.0", str, "--gamma0", "Start of every gamma.", metavar="X"),
        option("0.0", str, "--beta0", "Start of every beta.", metavar="X"),
        option("1.0", str, "--gamma-lr", "Factor on the learning rate of gamma, >= 0.", metavar="X"),
        option("1.0", str, "--beta-lr", "Factor on the learning rate of beta, >= 0.", metavar="X"),
        option("xavier", str, "--init", "Start of the weights: xavier or he.", metavar="NAME"),
        option("40", str, "--batch", "Samples of a step, at least 2 with batch normalisation; several "
               "with commas.", metavar="N"),
        option("6000", str, "--steps", "Steps of every run, >= 1.", metavar="N"),
        option("0", str, "--seed", "Of the initial weights and the order of the samples, in [0, 2^64); "
               "several with commas or as FROM:TO (0:5 for 0 to 4).", metavar="N"),
        option("float32", str, "--dtype", "float64 or float32.", metavar="NAME"),
        option("1e-3", str, "--threshold", "A unit with |gamma| below it counts as dead; above 0.",
               metavar="X"),
        *output_options("Write the runs to a .nc or .json file.",
                        "Draw gamma and beta over training and the universality of the units, a column "
                        "for each run, to a .png, .pdf or .svg file."),
    ]  # fmt: skip


@dataclass
class _Run:
    """One of the runs that were asked for, and what became of it."""

    settings: dict[str, Any]
    """Arguments of `TrainConfig`."""

    config: TrainConfig | None = None
    failed: str = ""
    result: TrainResult | None = None

    @property
    def done(self) -> TrainResult | None:
        """The result of a run that did not fail."""
        return None if self.failed else self.result

    @property
    def width(self) -> int:
        return int(self.settings["hidden"][0])

    @property
    def depth(self) -> int:
        return len(self.settings["hidden"])

    @property
    def lam(self) -> str:
        regularization = self.settings["regularization"]
        return "–" if regularization == "none" else f"{self.settings['lam']:g}"

    def setting(self, name: str) -> str:
        """One of `_COLUMNS` in words."""
        if name == "optimizer":
            return str(self.settings["optimizer"].name)
        if name in ("lam", "width", "depth"):
            return str(getattr(self, name))
        return str(self.settings[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with the keys of a result where there is none."""
        if self.result is not None:
            return self.result.to_dict()
        from regdyn.dynamics.result import describe

        config = {name: describe(value) for name, value in self.settings.items()}
        return {"config": config, "failed": self.failed, "final": None}


_COLUMNS = {"optimizer": "optimizer", "regularization": "decay", "lam": "lambda", "width": "width",
            "depth": "depth", "batch": "batch", "seed": "seed"}  # fmt: skip
"""What runs may differ in, and its heading."""


@command(_options)
def train(**options: Any) -> int:
    """Train a network and see which of its units die.

    Ends with 1 if a run fails. Several optimizers, decays, widths, depths, batches and seeds make a
    run for each combination.

    Example:

      regdyn train --opt adam,sgd --lam 1e-3 --width 32 --steps 500
    """
    from regdyn.nets.run_result import save_runs, training_format

    get = options.__getitem__
    suffix = check_outputs(options, training_format)
    runs, data = _runs(options)
    if get("plot") is not None:
        from regdyn.plots.training import MOST_RUNS as most

        if len(runs) > most:
            raise InvalidParameter("plot", f"used with at most {most} runs", len(runs))
    begin = time.perf_counter()
    _train(runs, options)
    seconds = time.perf_counter() - begin
    if len(runs) == 1 and runs[0].failed:
        asked = suffix is not None or get("plot") is not None
        end = "; no file was written" if asked else ""
        print(f"Error: {_label(runs[0], runs)}: {runs[0].failed}{end}", file=sys.stderr)
        if get("csv"):
            _print_csv(runs)
        elif get("json"):
            print(_json(runs))
        return 1

    if not get("quiet"):
        for note in data.notes:
            print(f"Note: {note}", file=sys.stderr)
    results = [run.result for run in runs if run.result is not None]
    if suffix == ".json":
        from regdyn.files import written_whole

        with written_whole("out", get("out"), get("force")) as temporary:
            temporary.write_text(_json(runs))
    elif suffix is not None:
        save_runs(results, get("out"), force=get("force"))
    if get("plot") is not None:
        _plot(runs, options)
    if get("json"):
        print(_json(runs))
    elif get("csv"):
        _print_csv(runs)
    elif not get("quiet"):
        console = plain_console()
        if len(runs) == 1:
            _print_layers(console, results[0])
        else:
            _print_runs(console, runs, seconds)
    failed = [run for run in runs if run.failed]
    if get("json") or get("csv") or get("quiet"):
        for run in failed:
            print(f"Warning: {_label(run, runs)}: {run.failed}", file=sys.stderr)
    return 1 if failed else 0


# From options to runs


def _integers(name: str, text: str, low: int, high: int) -> list[int]:
    return list(dict.fromkeys(check_integer(name, part, low, high) for part in split(name, text)))


def _batches(text: str, examples: int) -> list[int]:
    """Whole numbers of any size: a run with one that cannot be used fails alone."""
    try:
        return _integers("batch", text, -(10**12), 10**12)
    except InvalidParameter:
        raise InvalidParameter("batch", f"an integer in [1, {examples}]", text) from None


def _seeds(text: str) -> list[int]:
    """Whole numbers and ranges FROM:TO, whose end is left out."""
    seeds: list[int] = []
    for part in split("seed", text):
        first, colon, last = part.partition(":")
        begin = check_integer("seed", first, 0, 2**64 - 1)
        end = check_integer("seed", last, 0, 2**64 - 1) if colon else begin + 1
        if end <= begin:
            raise InvalidParameter("seed", "FROM:TO with FROM below TO", part)
        # Of a range that is far too long, enough to find the runs too many.
        seeds += range(begin, min(end, begin + MOST_RUNS + 1))
    return list(dict.fromkeys(seeds))


def _runs(options: Mapping[str, Any]) -> tuple[list[_Run], Dataset]:
    """A run for each combination of what was asked for, configured where that is possible."""
    from regdyn.dynamics.schedules import parse_schedule
    from regdyn.nets.config import MAX_STEPS
    from regdyn.nets.data import make_dataset
    from regdyn.nets.mlp import MAX_DEPTH, MAX_WIDTH
    from regdyn.nets.training import TrainConfig

    rules, regularizations, lams = make_decays(dict(options))
    # Without decay its strength makes no difference.
    decays = [
        (regularization, lam)
        for regularization in regularizations
        for lam in (lams[:1] if regularization == "none" else lams)
    ]
    steps = check_integer("steps", options["steps"], 1, MAX_STEPS)
    widths = _integers("width", options["width"], 1, MAX_WIDTH)
    depths = _integers("depth", options["depth"], 1, MAX_DEPTH)
    data = make_dataset(options["data"])
    batches = _batches(options["batch"], len(data.y_train))
    seeds = _seeds(options["seed"])
    varied = (rules, decays, widths, depths, batches, seeds)
    count = 1
    for values in varied:
        count *= len(values)
    if count > MOST_RUNS:
        more = f"{MOST_RUNS} or more" if len(seeds) > MOST_RUNS else count
        raise InvalidParameter("seed", f"such that there are at most {MOST_RUNS} runs", more)
    slope = check_number("slope", options["slope"], "[0, 1]")
    if slope != TrainConfig.slope and options["activation"] != "leaky_relu":
        raise InvalidParameter("slope", "left out but for leaky_relu", slope)
    shared = {
        name: options[name]
        for name in ("activation", "norm", "init", "dtype", "slope", "gamma0", "beta0", "gamma_lr",
                     "beta_lr", "threshold")
    }  # fmt: skip
    shared |= {
        "data": data,
        "steps": steps,
        "schedule": parse_schedule(options["schedule"], steps),
        "alpha": check_number("psbn_alpha", options["psbn_alpha"], "[0, inf)"),
    }
    runs, refusals = [], []
    for rule, (regularization, lam), width, depth, batch, seed in product(*varied):
        own = {"optimizer": rule, "regularization": regularization, "lam": lam, "batch": batch,
               "hidden": (width,) * depth, "seed": seed}  # fmt: skip
        run = _Run(own | shared)
        try:
            run.config = TrainConfig(**run.settings)
        except InvalidParameter as error:
            run.failed = str(error)
            refusals.append(error)
        runs.append(run)
    if len(refusals) == len(runs):
        raise refusals[0]
    return runs, data


def _train(runs: Sequence[_Run], options: Mapping[str, Any]) -> None:
    """Train those that could be configured, as one batch."""
    from regdyn.nets.training import train as run_all

    able = [run for run in runs if run.config is not None]
    configs = [run.config for run in able if run.config is not None]
    labels = [_label(run, runs) for run in able]
    reached = [0] * len(configs)
    total = sum(config.steps for config in configs)

    def rate(speed: float) -> str:
        return f"{speed:,.0f} steps/s"

    with progress_bar(total, options["quiet"], "training", rate) as (advance, say):

        def report(at: Snapshot) -> None:
            done, reached[at.run] = at.step - reached[at.run], at.step
            numbers = f"loss {at.loss:.2g} error {at.test_error:.1%} dead {at.sparsity:.1%}"
            # Above all the numbers: a narrow terminal cuts the end.
            advance(done, f"{numbers} ({labels[at.run]})" if len(runs) > 1 else numbers)

        results = run_all(
            configs,
            threads=options["threads"],
            progress=report,
            notify_compile=partial(say_compiling, say, "training"),
        )
    for run, result in zip(able, results):
        run.result, run.failed = result, result.failed


def _varying(runs: Sequence[_Run]) -> list[str]:
    """Names in `_COLUMNS` in which the runs differ."""
    return [name for name in _COLUMNS if len({run.setting(name) for run in runs}) > 1]


def _label(run: _Run, runs: Sequence[_Run]) -> str:
    """Optimizer and decay of a run, and whatever else tells it from the others."""
    words = f"{run.setting('optimizer')}, {run.settings['regularization']}"
    if run.settings["regularization"] != "none":
        words += f" {run.lam}"
    rest = [name for name in _varying(runs) if name in ("width", "depth", "batch", "seed")]
    return ", ".join([words, *(f"{name} {run.setting(name)}" for name in rest)])


# From results to words


def _json(runs: Sequence[_Run]) -> str:
    return json.dumps({"results": [run.to_dict() for run in runs]}, indent=1)


def _plot(runs: Sequence[_Run], options: Mapping[str, Any]) -> None:
    from regdyn.plots import save_training

    results = [run.done for run in runs if run.done is not None]
    if results:
        save_training(results, options["plot"], options["force"])
    if len(results) < len(runs):
        drawn = "the runs that failed are not drawn" if results else "no run is left to be drawn"
        print(f"Warning: {drawn}", file=sys.stderr)


def _print_csv(runs: Sequence[_Run]) -> None:
    """One row for each run; the measures of sparsity are over all hidden layers."""
    import csv

    rows = [_csv_row(run) for run in runs]
    writer = csv.DictWriter(sys.stdout, [*rows[0]], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _csv_row(run: _Run) -> dict[str, Any]:
    """The same columns for every run; None where a number is undefined."""
    settings, result = run.settings, run.done
    row: dict[str, Any] = {
        "optimizer": run.setting("optimizer"),
        "regularization": settings["regularization"],
        "lam": settings["lam"],
        "lr": settings["optimizer"].lr,
        "data": settings["data"].name,
        "width": run.width,
        "depth": run.depth,
        **{name: settings[name] for name in ("activation", "norm", "batch", "steps", "seed")},
        "failed": run.failed,
    }
    names = ("loss", "test_error", "train_error", "dead", "share_removed", "error_after_removal",
             "seconds")  # fmt: skip
    numbers: tuple[float | None, ...] = (None,) * len(names)
    if result is not None:
        numbers = (
            float(result.loss[-1]), result.error, result.train_error, result.sparsity,
            result.share_removed, result.error_after_removal, result.seconds,
        )  # fmt: skip
    return row | dict(zip(names, numbers)) | _measures(None if result is None else result.total)


def _measures(layer: LayerSparsity | None) -> dict[str, float | None]:
    from regdyn.nets.sparsity import ACTIVATION_THRESHOLDS, SCALE_THRESHOLDS

    scale = getattr(layer, "by_scale", None) or {}
    activation = getattr(layer, "by_activation", None) or {}
    row = {f"dead_by_scale_{limit:g}": scale.get(limit) for limit in SCALE_THRESHOLDS}
    row |= {f"dead_by_activation_{limit:g}": activation.get(limit) for limit in ACTIVATION_THRESHOLDS}
    row["dead_by_norm"] = getattr(layer, "by_norm", None)
    for name in ("universality", "active_predicted", "active_measured", "expected_activation"):
        row[name] = getattr(layer, name, None)
    return row


def _describe(result: TrainResult, varying: Sequence[str] = ()) -> Iterator[str]:
    """The configuration in words, but for what varies."""
    config = result.config
    yield f"{config.dataset}"
    widths = config.hidden if len(set(config.hidden)) > 1 else config.hidden[:1]
    words = []
    if "width" not in varying and "depth" not in varying:
        words.append(f"{len(config.hidden)} x {'-'.join(map(str, widths))} units")
    elif "width" not in varying:
        words.append(f"{widths[0]} units a layer")
    elif "depth" not in varying:
        words.append(f"{len(config.hidden)} hidden layers")
    words += [
        config.activation if config.activation != "leaky_relu" else f"leaky_relu {config.slope:g}",
        "batch normalisation" if config.architecture.normalized else "no normalisation",
    ]
    if config.alpha:
        words.append(f"psBN alpha {config.alpha:g}")
    for name, usual in (("gamma0", 1), ("beta0", 0), ("gamma_lr", 1), ("beta_lr", 1)):
        value = getattr(config, name)
        if value != usual:
            words.append(f"{name} {value:g}")
    words.append(config.init)
    yield ", ".join(words)
    words = [f"batch {config.batch}"] if "batch" not in varying else []
    words += [f"{config.steps} steps", str(config.schedule), config.dtype]
    words += [f"seed {config.seed}"] if "seed" not in varying else []
    yield ", ".join(words)


def _print_layers(console: Console, result: TrainResult) -> None:
    """Every measure of sparsity for each hidden layer and all of them, then the errors."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    config = result.config
    lines = [f"{result.label}: {config.rule}", *_describe(result)]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
    layers = [*result.layers, result.total] if len(result.layers) > 1 else [*result.layers]
    columns = {name: column for name, column in _layer_columns(layers).items() if any(column)}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("hidden\nlayer", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for i, layer in enumerate(layers):
        if layer.name == "total":
            table.add_section()
        cells = (column[i] or "–" for column in columns.values())
        table.add_row(layer.name.removeprefix("layer "), *cells)
    console.print(
        "Share of the units that are dead by |gamma|, by their greatest activation, by the norm of "
        "their weights;\nmeans of universality, of the share of samples with a positive activation and "
        "its prediction, of |E[BN]|",
        highlight=False,
        soft_wrap=True,
    )
    print_table(console, table)
    dead = (
        f"|gamma| < {config.threshold:g}"
        if config.architecture.normalized
        else "by the norm of their weights"
    )
    text = [
        f"Test error {result.error:.2%}, training error {result.train_error:.2%}, loss "
        f"{result.loss[-1]:.3g}.",
        f"Dead ({dead}): {result.sparsity:.1%} of the units. Without them the network has "
        f"{result.share_removed:.1%} fewer parameters and a test error of "
        f"{result.error_after_removal:.2%}.",
        f"{result.seconds:.2f} s, {config.steps / result.seconds:,.0f} steps/s.",
    ]
    console.print("\n".join(text), highlight=False, soft_wrap=True)


def _layer_columns(layers: Sequence[LayerSparsity]) -> dict[str, list[str]]:
    """Heading and cells of each measure; empty where it is undefined."""
    from regdyn.nets.sparsity import NORM_THRESHOLD

    def percent(value: float | None) -> str:
        return "" if value is None else f"{value:.1%}"

    columns = {"units": [str(layer.units) for layer in layers]}
    scales = {key for layer in layers for key in layer.by_scale or ()}
    peaks = {key for layer in layers for key in layer.by_activation or ()}
    for key in sorted(scales, reverse=True):
        cells = [percent((layer.by_scale or {}).get(key)) for layer in layers]
        columns[f"|gamma|\n< {key:g}"] = cells
    for key in sorted(peaks):
        cells = [percent((layer.by_activation or {}).get(key)) for layer in layers]
        columns[f"peak\n< {key:g}"] = cells
    columns[f"norm\n< {NORM_THRESHOLD:g}"] = [percent(layer.by_norm) for layer in layers]
    columns["univer-\nsality"] = [percent(layer.universality) for layer in layers]
    columns["active,\nmeasured"] = [percent(layer.active_measured) for layer in layers]
    columns["Phi(beta/\n|gamma|)"] = [percent(layer.active_predicted) for layer in layers]
    columns["E[BN]"] = [
        "" if layer.expected_activation is None else f"{layer.expected_activation:.3g}"
        for layer in layers
    ]
    return columns


def _print_runs(console: Console, runs: Sequence[_Run], seconds: float) -> None:
    """A row for each run, or for each combination of settings with means over the seeds."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    varying = _varying(runs)
    over_seeds = "seed" in varying
    shown = ["optimizer", "regularization", "lam"]
    shown += [name for name in varying if name in ("width", "depth", "batch")]
    groups: dict[tuple[str, ...], list[_Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.setting(name) for name in shown), []).append(run)
    results = [run.result for run in runs if run.result is not None]
    console.print("\n".join(_describe(results[0], varying)), highlight=False, soft_wrap=True)

    failing = any(run.failed for run in runs)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in shown:
        justify: Any = "left" if name in ("optimizer", "regularization") else "right"
        table.add_column(_COLUMNS[name], no_wrap=True, justify=justify)
    headings = ["loss", "test error", "dead", "removed", "error without them"]
    for heading in (["seeds"] if over_seeds else []) + headings:
        table.add_column(heading, justify="right", no_wrap=True)
    if failing:
        table.add_column("failed", max_width=60)
    for names, group in groups.items():
        done = [run.done for run in group if run.done is not None]
        cells = [*names]
        if over_seeds:
            cells.append(f"{len(done)}" if len(done) == len(group) else f"{len(done)} of {len(group)}")
        cells += _cells(done)
        if failing:
            reasons = list(dict.fromkeys(run.failed for run in group if run.failed))
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            cells.append(reasons[0] + more if reasons else "")
        table.add_row(*cells)
    print_table(console, table)
    lines = [_legend(results[0], over_seeds)]
    steps = sum(result.config.steps for result in results if not result.failed)
    lines.append(f"{len(runs)} runs, {seconds:.1f} s, {steps / seconds:,.0f} steps/s in all.")
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _legend(result: TrainResult, over_seeds: bool) -> str:
    dead = (
        f"with |gamma| < {result.config.threshold:g}"
        if result.config.architecture.normalized
        else "dead by the norm of their weights"
    )
    spread = "; means over the seeds ± standard error" if over_seeds else ""
    return (
        f"Dead: share of the hidden units {dead}; removed: share of the parameters that goes with "
        f"them{spread}."
    )


def _cells(results: Sequence[TrainResult]) -> list[str]:
    """Loss, test error, dead units, removed parameters and error without them."""
    if not results:
        return ["–"] * 5
    return [
        f"{sum(float(result.loss[-1]) for result in results) / len(results):.3g}",
        _percent([result.error for result in results], 2),
        _percent([result.sparsity for result in results], 1),
        _percent([result.share_removed for result in results], 1),
        _percent([result.error_after_removal for result in results], 2),
    ]


def _percent(shares: Sequence[float], digits: int) -> str:
    """A mean in percent and, of several, its standard error."""
    from statistics import mean, stdev

    if len(shares) == 1:
        return f"{shares[0]:.{digits}%}"
    error = stdev(shares) / len(shares) ** 0.5
    return f"{100 * mean(shares):.{digits}f} ± {100 * error:.{digits}f} %"
