"""`regdyn train`."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import (
    check_outputs,
    command,
    executor_options,
    optimizer_options,
    option,
    output_options,
    plain_console,
    progress_bar,
    say_compiling,
)
from regdyn.cli.train_runs import Run, label, make_runs
from regdyn.cli.train_tables import print_csv, print_layers, print_runs, to_json
from regdyn.errors import Interrupted, InvalidParameter
from regdyn.parameters import check_integer

if TYPE_CHECKING:
    from regdyn.cli.options import Say
    from regdyn.executors import Executor
    from regdyn.nets.config import Progress, Snapshot
    from regdyn.nets.run_result import RunResult


def _options() -> list[inspect.Parameter]:
    return [
        *optimizer_options("1e-3"),
        option("numpy", str, "--backend", "numpy (fully connected networks) or torch (the papers' "
               "convolutional ones, with the extra torch).", metavar="NAME"),
        option("digits", str, "--data", "digits; clean or cluttered; synthetic:KEY=VALUE,… with keys "
               "classes, overlap, clutter, n_train, n_test, size, seed; or a .npz file of x_train, "
               "y_train, x_test, y_test. With torch also objects and objects-cluttered, with keys "
               "size, n_train, n_test, seed, and, from --data-dir, cifar10, cifar100, mnist.",
               metavar="TEXT"),
        option(None, str | None, "--width", "Units of each hidden layer, >= 1 (256); several with "
               "commas.", metavar="N"),
        option(None, str | None, "--depth", "Hidden layers, in [1, 100] (2); several with commas.",
               metavar="N"),
        *_torch_network_options(),
        option("relu", str, "--activation", "relu, leaky_relu, elu, tanh or linear; with torch also "
               "sigmoid.", metavar="NAME"),
        option("0.01", str, "--slope", "Slope of leaky_relu below 0, in [0, 1].", metavar="X"),
        option(None, str | None, "--norm", "Before the activation: batch (normalisation), none or, "
               "with torch, instance (batch; none for conv4).", metavar="NAME"),
        option("0.0", str, "--psbn-alpha", "Constant that psBN (zhou2020) adds after the "
               "normalisation, >= 0.", metavar="X"),
        option("1.0", str, "--gamma0", "Start of every gamma.", metavar="X"),
        option("0.0", str, "--beta0", "Start of every beta.", metavar="X"),
        option("1.0", str, "--gamma-lr", "Factor on the learning rate of gamma, >= 0.", metavar="X"),
        option("1.0", str, "--beta-lr", "Factor on the learning rate of beta, >= 0.", metavar="X"),
        option("xavier", str, "--init", "Start of the weights: xavier or he.", metavar="NAME"),
        option("none", str, "--penalty", "Added to the loss: slimming:STRENGTH (L1 norm of gamma), "
               "group-lasso:STRENGTH (norms of the units' weights) or none; STRENGTH >= 0; several "
               "with commas.", metavar="TEXT"),
        option("40", str, "--batch", "Samples of a step, at least 2 with batch normalisation; several "
               "with commas.", metavar="N"),
        option("6000", str, "--steps", "Steps of every run, >= 1.", metavar="N"),
        option(None, str | None, "--every", "Epochs between two recorded times (50 times in all, 20 "
               "with torch).", metavar="N"),
        option("0", str, "--seed", "Of the initial weights and the order of the samples, in [0, 2^64); "
               "several with commas or as FROM:TO (0:5 for 0 to 4).", metavar="N"),
        option("float32", str, "--dtype", "float64 or float32.", metavar="NAME"),
        option(None, list[str] | None, "--prune", "Prune while training: smallest, random, largest, or "
               "decile0 to decile9, with settings: largest:fraction=0.5,start=STEP,end=STEP,retrain=N. "
               "Keys: what=units|weights, importance=ebn|l1|l2|gamma, fraction or flops (shares that "
               "go), scope=layer|global, layers=NAME+NAME or last4, start, end, retrain (steps between "
               "events) or rate (share that goes at each), noise=zeroing|gaussian with hold=STEPS in "
               "place of removal. Repeat it for a run with each; none is a run without.",
               metavar="TEXT"),
        option("1e-3", str, "--threshold", "A unit with |gamma| below it counts as dead; above 0.",
               metavar="X"),
        *_torch_run_options(),
        *executor_options("runs of torch"),
        *output_options("Write the runs to a .nc or .json file.",
                        "Draw gamma and beta over training, of three layers at most, and the "
                        "universality of their units, a column for each run, to a .png, .pdf or .svg "
                        "file."),
    ]  # fmt: skip


def _torch_network_options() -> list[inspect.Parameter]:
    """Networks of the torch backend and what it does to the images."""
    return [
        option(None, str | None, "--model", "torch: basicnet, vgg11, vgg16, vgg19, resnet18, resnet20, "
               "resnet56, resnet110, conv4 or mlp, with settings: basicnet:width=0.25 (1, 0.5), "
               "vgg11:head=single,bias=1,dropout=1, mlp:width=N,depth=N,dropout=P (basicnet); several "
               "with commas.", metavar="TEXT"),
        option(None, Path | None, "--data-dir", "torch: folder with the published archives of cifar10, "
               "cifar100 and mnist.", metavar="DIR"),
        option(False, bool, "--flip", "torch: mirror training images at random."),
        option(None, str | None, "--crop", "torch: shift training images by up to so many pixels (0).",
               metavar="N"),
        option(False, bool, "--random-labels", "torch: give the training images each other's labels."),
    ]  # fmt: skip


def _torch_run_options() -> list[inspect.Parameter]:
    """Where a run of the torch backend begins, is computed and is kept."""
    return [
        option(None, Path | None, "--start", "torch: begin with the network of a checkpoint.",
               metavar="DIR"),
        option(False, bool, "--shuffle", "torch: shuffle that network inside each tensor."),
        option(None, str | None, "--ensemble", "torch: average the last so many snapshots, one at the "
               "end of each round of --schedule restarts:PERIOD (0).", metavar="N"),
        option(None, str | None, "--device", "torch: auto, cpu or cuda (auto).", metavar="NAME"),
        option(None, str | None, "--precision", "torch: auto, full or bfloat16 (auto: bfloat16 on a "
               "GPU).", metavar="NAME"),
        option(None, str | None, "--side-by-side", "torch: runs that share a GPU, >= 1 (8).",
               metavar="N"),
        option(None, Path | None, "--checkpoint", "torch: keep a checkpoint in this folder, of several "
               "runs in its folders run_0, run_1, …", metavar="DIR"),
        option(False, bool, "--resume", "torch: go on from the checkpoints that are there."),
        option(None, Path | None, "--tensorboard", "torch: write TensorBoard files to this folder.",
               metavar="DIR"),
    ]  # fmt: skip


@command(_options)
def train(**options: Any) -> int:
    """Train a network and see which of its units die.

    Ends with 1 if a run fails. Several optimizers, decays, penalties, networks, prunings, batches and
    seeds make a run for each combination.

    Example:

      regdyn train --opt adam,sgd --lam 1e-3 --width 32 --steps 500

      regdyn train --backend torch --model basicnet:width=0.25 --steps 200

      regdyn train --prune none --prune smallest --prune largest:rate=0.25 --width 32 --steps 500
    """
    from regdyn.nets.run_result import save_runs, training_format

    get = options.__getitem__
    suffix = check_outputs(options, training_format)
    runs, notes = make_runs(options)
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
        print(f"Error: {label(runs[0], runs)}: {runs[0].failed}{end}", file=sys.stderr)
        if get("csv"):
            print_csv(runs)
        elif get("json"):
            print(to_json(runs))
        return 1

    if not get("quiet"):
        for note in notes:
            print(f"Note: {note}", file=sys.stderr)
    results = [run.result for run in runs if run.result is not None]
    if suffix == ".json":
        from regdyn.files import written_whole

        with written_whole("out", get("out"), get("force")) as temporary:
            temporary.write_text(to_json(runs))
    elif suffix is not None:
        save_runs(results, get("out"), force=get("force"))
    if get("plot") is not None:
        _draw(runs, options)
    if get("json"):
        print(to_json(runs))
    elif get("csv"):
        print_csv(runs)
    elif not get("quiet"):
        console = plain_console()
        if len(runs) == 1:
            print_layers(console, runs[0])
        else:
            print_runs(console, runs, seconds)
    failed = [run for run in runs if run.failed]
    if get("json") or get("csv") or get("quiet"):
        for run in failed:
            print(f"Warning: {label(run, runs)}: {run.failed}", file=sys.stderr)
    return 1 if failed else 0


def _train(runs: Sequence[Run], options: Mapping[str, Any]) -> None:
    """Train those that could be configured, as one batch."""
    able = [run for run in runs if run.config is not None]
    configs = [run.config for run in able if run.config is not None]
    labels = [label(run, runs) for run in able]
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

        by_backend = _by_torch if options["backend"] == "torch" else _by_numpy
        results = by_backend(configs, options, report, say)
    for run, result in zip(able, results):
        run.result, run.failed = result, result.failed


def _by_numpy(
    configs: Sequence[Any], options: Mapping[str, Any], report: Progress, say: Say
) -> Sequence[RunResult]:
    from regdyn.nets.training import train

    say_so = partial(say_compiling, say, "training")
    return train(configs, threads=options["threads"], progress=report, notify_compile=say_so)


def _by_torch(
    configs: Sequence[Any], options: Mapping[str, Any], report: Progress, say: Say
) -> Sequence[RunResult]:
    from regdyn.cnn.training import ignore, train

    watch = ignore
    if options["tensorboard"] is not None:
        from regdyn.cnn.tensorboard import Board

        watch = Board(configs, options["tensorboard"], options["resume"], options["force"])
    side_by_side = check_integer("side_by_side", options["side_by_side"], 1, 1000)
    try:
        with _executor(options) as executor:
            return train(
                configs,
                threads=options["threads"],
                progress=report,
                checkpoint=options["checkpoint"],
                resume=options["resume"],
                force=options["force"],
                side_by_side=side_by_side,
                watch=watch,
                executor=executor,
            )
    except KeyboardInterrupt:
        if options["checkpoint"] is None:
            raise
        place = options["checkpoint"]
        raise Interrupted(f"interrupted; with --resume the same command goes on from {place}") from None


def _executor(options: Mapping[str, Any]) -> AbstractContextManager[Executor | None]:
    """Whom the runs were given to, None for nobody in particular."""
    asked = {name: options[name] for name in ("workers", "scheduler")}
    if options["executor"] is None and not any(asked.values()):
        return nullcontext()
    from regdyn.executors import make_executor

    return make_executor(options["executor"], threads=options["threads"], **asked)


def _draw(runs: Sequence[Run], options: Mapping[str, Any]) -> None:
    from regdyn.plots import save_training

    results = [run.done for run in runs if run.done is not None]
    if results:
        save_training(results, options["plot"], options["force"])
    if len(results) < len(runs):
        drawn = "the runs that failed are not drawn" if results else "no run is left to be drawn"
        print(f"Warning: {drawn}", file=sys.stderr)
