"""From the options of `regdyn train` to its runs, whichever backend takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import make_decays, split
from regdyn.errors import InvalidParameter
from regdyn.parameters import check_choice, check_integer, check_number

if TYPE_CHECKING:
    from regdyn.nets.config import NetworkConfig
    from regdyn.nets.penalties import Penalty
    from regdyn.nets.pruning.config import Pruning
    from regdyn.nets.run_result import RunResult

MOST_RUNS = 1000
"""Runs of one command."""

BACKENDS: Mapping[str, Mapping[str, Any]] = {
    "numpy": {"width": "256", "depth": "2"},
    "torch": {
        "model": "basicnet", "data_dir": None, "flip": False, "crop": "0", "random_labels": False,
        "ensemble": "0", "start": None, "shuffle": False, "device": "auto", "precision": "auto",
        "checkpoint": None, "resume": False, "side_by_side": "8", "tensorboard": None,
        "workers": None, "scheduler": None, "executor": None,
    },
}  # fmt: skip
"""Options that a backend has for itself, with what they are if not given."""


@dataclass
class Run:
    """One of the runs that were asked for, and what became of it."""

    settings: dict[str, Any]
    """Arguments of the configuration."""

    config: NetworkConfig | None = None
    failed: str = ""
    result: RunResult | None = None

    @property
    def done(self) -> RunResult | None:
        """The result of a run that did not fail."""
        return None if self.failed else self.result

    @property
    def width(self) -> int | None:
        return int(self.settings["hidden"][0]) if "hidden" in self.settings else None

    @property
    def depth(self) -> int | None:
        return len(self.settings["hidden"]) if "hidden" in self.settings else None

    @property
    def model(self) -> str | None:
        return self.settings.get("model")

    @property
    def prune(self) -> str:
        return str(self.settings["prune"] or "none")

    @property
    def lam(self) -> str:
        regularization = self.settings["regularization"]
        return "–" if regularization == "none" else f"{self.settings['lam']:g}"

    @property
    def penalty(self) -> str:
        return str(self.settings["penalty"] or "none")

    def setting(self, name: str) -> str:
        """One of `COLUMNS` in words."""
        if name == "optimizer":
            return str(self.settings["optimizer"].name)
        if name in ("lam", "penalty", "width", "depth", "model", "prune"):
            return str(getattr(self, name))
        return str(self.settings[name])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, with the keys of a result where there is none."""
        if self.result is not None:
            return self.result.to_dict()
        from regdyn.dynamics.result import describe

        config = {name: describe(value) for name, value in self.settings.items()}
        return {"config": config, "failed": self.failed, "final": None}


COLUMNS = {"optimizer": "optimizer", "regularization": "decay", "lam": "lambda", "penalty": "penalty",
           "model": "model", "width": "width", "depth": "depth", "prune": "pruned", "batch": "batch",
           "seed": "seed"}  # fmt: skip
"""What runs may differ in, and its heading."""


def varying(runs: Sequence[Run]) -> list[str]:
    """Names in `COLUMNS` in which the runs differ."""
    return [name for name in COLUMNS if len({run.setting(name) for run in runs}) > 1]


def label(run: Run, runs: Sequence[Run]) -> str:
    """Optimizer and decay of a run, and whatever else tells it from the others."""
    words = f"{run.setting('optimizer')}, {run.settings['regularization']}"
    if run.settings["regularization"] != "none":
        words += f" {run.lam}"
    own = [name for name in varying(runs) if name not in ("optimizer", "regularization", "lam")]
    return ", ".join([words, *(f"{name} {run.setting(name)}" for name in own)])


def make_runs(options: dict[str, Any]) -> tuple[list[Run], tuple[str, ...]]:
    """A run for each combination of what was asked for, configured where that is possible.

    Also what the user should know of the data. Options of the backend that were not given get their
    defaults in `options`.
    """
    backend = check_choice("backend", options["backend"], BACKENDS)
    for name, own in BACKENDS.items():
        for option, default in own.items():
            if name == backend:
                options[option] = default if options[option] is None else options[option]
            elif options[option] not in (None, False):
                raise InvalidParameter(option, f"used with --backend {name}")
    if options["resume"] and options["checkpoint"] is None:
        raise InvalidParameter("resume", "used with --checkpoint")
    return (_torch_runs if backend == "torch" else _numpy_runs)(options)


def _numpy_runs(options: Mapping[str, Any]) -> tuple[list[Run], tuple[str, ...]]:
    from regdyn.nets.data import make_dataset
    from regdyn.nets.mlp import MAX_DEPTH, MAX_WIDTH
    from regdyn.nets.training import TrainConfig

    shared = _shared(options)
    widths = _integers("width", options["width"], 1, MAX_WIDTH)
    depths = _integers("depth", options["depth"], 1, MAX_DEPTH)
    data = make_dataset(options["data"])
    shared |= {"data": data, "norm": options["norm"] or TrainConfig.norm}
    networks = [{"hidden": (width,) * depth} for width, depth in product(widths, depths)]
    return _configured(TrainConfig, options, shared, networks), data.notes


def _torch_runs(options: Mapping[str, Any]) -> tuple[list[Run], tuple[str, ...]]:
    from regdyn.cnn.config import CnnConfig
    from regdyn.cnn.data import make_images

    shared = _shared(options)
    folder = options["data_dir"]
    data = make_images(options["data"], None if folder is None else Path(folder))
    if options["random_labels"]:
        data = data.with_random_labels(_seeds(options["seed"])[0])
    shared["data"] = data
    for name in ("norm", "flip", "crop", "ensemble", "start", "shuffle", "device", "precision"):
        shared[name] = options[name]
    networks = [{"model": model} for model in _models(options["model"])]
    return _configured(CnnConfig, options, shared, networks), data.notes


def _shared(options: Mapping[str, Any]) -> dict[str, Any]:
    """What all runs have in common on any backend."""
    from regdyn.dynamics.schedules import parse_schedule
    from regdyn.nets.config import MAX_STEPS, NetworkConfig

    steps = check_integer("steps", options["steps"], 1, MAX_STEPS)
    slope = check_number("slope", options["slope"], "[0, 1]")
    if slope != NetworkConfig.slope and options["activation"] != "leaky_relu":
        raise InvalidParameter("slope", "left out but for leaky_relu", slope)
    names = ("activation", "init", "dtype", "gamma0", "beta0", "gamma_lr", "beta_lr", "threshold")
    return {name: options[name] for name in names} | {
        "slope": slope,
        "steps": steps,
        "schedule": parse_schedule(options["schedule"], steps),
        "alpha": check_number("psbn_alpha", options["psbn_alpha"], "[0, inf)"),
    }


def _configured(
    make: type[NetworkConfig],
    options: Mapping[str, Any],
    shared: Mapping[str, Any],
    networks: Sequence[dict[str, Any]],
) -> list[Run]:
    """A run for each combination of optimizer, decay, penalty, network, pruning, batch and seed."""
    rules, regularizations, lams = make_decays(dict(options))
    # Without decay its strength makes no difference.
    decays = [
        {"regularization": regularization, "lam": lam}
        for regularization in regularizations
        for lam in (lams[:1] if regularization == "none" else lams)
    ]
    examples = len(shared["data"].y_train)
    penalties = _penalties(options["penalty"])
    prunings = _prunings(options["prune"])
    batches = _batches(options["batch"], examples)
    seeds = _seeds(options["seed"])
    choices: tuple[Sequence[Any], ...] = (
        rules, decays, penalties, networks, prunings, batches, seeds,
    )  # fmt: skip
    count = math.prod(map(len, choices))
    if count > MOST_RUNS:
        more = f"{MOST_RUNS} or more" if len(seeds) > MOST_RUNS else count
        raise InvalidParameter("seed", f"such that there are at most {MOST_RUNS} runs", more)
    runs, refusals = [], []
    for rule, decay, penalty, network, pruning, batch, seed in product(*choices):
        own = {"optimizer": rule, "penalty": penalty, "prune": pruning, "batch": batch, "seed": seed}
        own |= {**decay, **network}
        if options["every"] is not None:
            own["times"] = _times(options["every"], shared["steps"], max(1, examples // max(1, batch)))
        run = Run({**shared, **own})
        try:
            run.config = make(**run.settings)
        except InvalidParameter as error:
            if error.name == "alpha":  # of psBN: that of a rule was checked with it
                error = InvalidParameter("psbn_alpha", error.requirement, error.value)
            if error.name == "model":
                raise error from None
            run.failed = str(error)
            refusals.append(error)
        runs.append(run)
    if len(refusals) == len(runs):
        raise refusals[0]
    return runs


def _penalties(text: str) -> list[Penalty | None]:
    from regdyn.nets.penalties import make_penalty

    return list(dict.fromkeys(make_penalty(part) for part in split("penalty", text)))


def _times(every: str, steps: int, per_epoch: int) -> list[int]:
    """The start, every so many epochs, and the end."""
    epochs = check_integer("every", every, 1, 10**9)
    return [*range(0, steps, epochs * per_epoch), steps]


def _models(text: str) -> list[str]:
    """Models with commas between them, and between the settings of one: "vgg11:head=single,bias=1"."""
    models: list[str] = []
    for part in split("model", text):
        if "=" in part and ":" not in part and models:
            models[-1] += f",{part}"
        else:
            models.append(part)
    return models


def _prunings(texts: Sequence[str] | None) -> list[Pruning | None]:
    """Each once, None for a run without."""
    from regdyn.nets.pruning.config import make_pruning

    return list(dict.fromkeys(make_pruning(text) for text in texts or ["none"]))


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
