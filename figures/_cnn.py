"""What the scripts of the papers' tables and figures of trained networks share: presets, runs, files.

A script says how the paper trains. A preset says what stands for the paper's data and network, and for
how many steps; the schedule of the learning rate shrinks with them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import progress_bar
from regdyn.cnn.data import make_images
from regdyn.cnn.images import Images
from regdyn.dynamics.result import provenance
from regdyn.dynamics.schedules import CosineRestarts, Schedule, Step
from regdyn.errors import EXTRAS, InvalidParameter, MissingData, missing_library
from regdyn.files import written_whole
from regdyn.parameters import check_integer

if TYPE_CHECKING:
    from regdyn.cnn.config import CnnConfig
    from regdyn.cnn.result import CnnResult
    from regdyn.nets.config import Progress, Snapshot

SIZES = ("smoke", "digits", "full")
"""How much of a table is run: a few rows in minutes, what two cores do in half an hour, all of it."""

SAID = (
    "smoke: a few rows in minutes; digits: what two cores do in half an hour; the others: all rows, as "
    "long as in the paper, with --data-dir"
)

LEAST, MOST = 20, 10**9
"""Steps of a run: at least one for each recorded time."""

OPTIONS = ("preset", "data_dir", "seeds", "steps", "device", "out")

Settings = Mapping[str, Any]
"""How the paper trains: arguments of `CnnConfig`, but that data and model are the paper's and may stand
in a preset's `instead`, `steps` are the paper's, `schedule` is a function of their number or `rounds`
of half a cosine each stand for it (zhou2020, section 3.2), `times` and `prune` are functions of the
steps that are run, and `random_labels` permutes the labels."""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How large the runs of a script are.

    Parameters
    ----------
    size
        Which rows are run: those for which it is large enough.
    instead
        What stands for the paper's data and networks; where not in it, they are themselves.
    steps
        Of every run; the paper's where None.
    changed
        Settings that replace those of the rows that have them.
    """

    size: str
    instead: Mapping[str, str]
    steps: int | None = None
    changed: Settings = field(default_factory=dict)


class Script:
    """One script: its options and its files.

    Parameters
    ----------
    file, doc
        `__file__` and `__doc__` of the script.
    presets
        What --preset may be; the first one is the default.

    Raises
    ------
    InvalidParameter
        For an option that cannot be used.
    """

    def __init__(self, file: str, doc: str | None, presets: Mapping[str, Preset]) -> None:
        name = Path(file).stem
        assert doc is not None
        parser = argparse.ArgumentParser(prog=f"{name}.py", description=doc.splitlines()[0])
        parser.add_argument("--preset", choices=list(presets), default=next(iter(presets)), help=SAID)
        parser.add_argument("--data-dir", type=Path, metavar="DIR", help="with the published archives")
        parser.add_argument("--seeds", default=3, metavar="N", help="runs of every row")
        parser.add_argument("--steps", metavar="N", help="of every run, in place of the preset's")
        parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
        parser.add_argument("--out", type=Path, default=Path(file).parent / "out", metavar="DIR")
        parser.add_argument("--fresh", action="store_true", help="forget the runs that are there")
        options = parser.parse_args()
        self.name = f"{name}-{options.preset}"
        self.preset = presets[options.preset]
        self.seeds = check_integer("seeds", options.seeds, 1, 1000)
        steps = self.preset.steps if options.steps is None else options.steps
        self.steps = None if steps is None else check_integer("steps", steps, LEAST, MOST)
        self._source = f"figures/{name}.py"
        self._data_dir: Path | None = options.data_dir
        self._device: str = options.device
        self._out: Path = options.out
        self._fresh: bool = options.fresh

    def runs(self, size: str) -> bool:
        """Whether the preset runs a row that needs this size."""
        return SIZES.index(size) <= SIZES.index(self.preset.size)

    def own(self, settings: Settings) -> dict[str, Any]:
        """The paper's settings as the preset has them."""
        own = {name: self.preset.changed.get(name, value) for name, value in settings.items()}
        for name in ("data", "model"):
            own[name] = self.preset.instead.get(own[name], own[name])
        steps = self.steps or own["steps"]
        if "rounds" in own:
            rounds = own.pop("rounds")
            own |= {"steps": steps - steps % rounds, "schedule": CosineRestarts(steps // rounds)}
        else:
            own |= {"steps": steps, "schedule": own["schedule"](steps)}
        for name in ("times", "prune"):
            if name in own:
                own[name] = own[name](own["steps"])
        if own["data"] == "digits":  # a mirrored digit is none, and 8x8 pixels are too few to shift
            own |= {"flip": False, "crop": 0}
        return own

    def key(self, settings: Settings) -> str:
        """The same for settings that are the same run under the preset."""
        return repr(sorted(self.own(settings).items()))

    def train(self, wanted: Sequence[Settings]) -> dict[str, list[CnnResult]]:
        """By `key`, a run for each seed of each of these settings.

        All go side by side. Their checkpoints are kept, and runs whose checkpoints are there go on.
        """
        from regdyn.cnn.training import train

        folder = self._out / self.name
        if self._fresh:
            shutil.rmtree(folder, ignore_errors=True)
        try:
            self._out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidParameter("out", "a folder", f"{self._out} ({error.strerror})") from None
        distinct = {self.key(settings): self.own(settings) for settings in wanted}
        # Seeds outside, so that with more of them a run keeps its folder.
        configs = [self._config(own, seed) for seed in range(self.seeds) for own in distinct.values()]
        with _progress(configs) as progress:
            results = train(configs, checkpoint=folder, resume=True, progress=progress)
        return {key: results[i :: len(distinct)] for i, key in enumerate(distinct)}

    def _config(self, own: Settings, seed: int) -> CnnConfig:
        from regdyn.cnn.config import CnnConfig

        rest = {name: value for name, value in own.items() if name != "random_labels"}
        images = load(own["data"], self._data_dir, own.get("random_labels", False))
        return CnnConfig(**rest | {"data": images, "seed": seed, "device": self._device})

    def save(self, **about: Any) -> Path:
        """Write a note of what was run and found."""
        path = self._out / f"{self.name}.json"
        note = {"script": self._source, "preset": self.name.rpartition("-")[2], **about, **provenance()}
        with written_whole("out", path, force=True) as temporary:
            temporary.write_text(json.dumps(note, indent=1, allow_nan=False) + "\n")
        return path


@cache
def load(data: str, folder: Path | None, random_labels: bool) -> Images:
    """The images that several runs share."""
    images = make_images(data, folder)
    return images.with_random_labels(0) if random_labels else images


@contextmanager
def _progress(configs: Sequence[CnnConfig]) -> Iterator[Progress]:
    """On stderr: a bar on a terminal, and a line for each run that comes to its end."""
    reached = [0] * len(configs)
    ended: set[int] = set()

    def rate(speed: float) -> str:
        return f"{speed:,.0f} steps/s"

    with progress_bar(sum(config.steps for config in configs), False, "training", rate) as (bar, say):

        def report(at: Snapshot) -> None:
            bar(at.step - reached[at.run])
            reached[at.run] = at.step
            config = configs[at.run]
            if at.step == config.steps:
                ended.add(at.run)
                what = f"{config.model}, {config.rule.name}, {config.regularization} {config.lam:g}"
                found = f"error {at.test_error:.1%}, dead {at.sparsity:.1%}"
                say(f"{len(ended)} of {len(configs)} ({what}, seed {config.seed}): {found}")

        yield report


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Errors that a user can cause become a line on stderr and an exit code."""
    try:
        yield
    except InvalidParameter as error:
        flag = "--" + error.name.replace("_", "-")
        hint = " (--fresh starts anew)" if error.name == "checkpoint" else ""
        _exit(error.describe(flag if error.name in OPTIONS else error.name) + hint, 2)
    except MissingData as error:
        _exit(str(error), 3)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        _exit(missing_library(error), 3)
    except KeyboardInterrupt:
        _exit("interrupted; the same command goes on", 130)


def _exit(message: str, code: int) -> None:
    print("Error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


def describe_runs(
    script: Script, wanted: Sequence[Settings], found: Mapping[str, Sequence[CnnResult]]
) -> str:
    """What was run, in a line."""
    configs = [run.config for runs in found.values() for run in runs]

    def either(values: Sequence[Any]) -> str:
        return ", ".join(str(value) for value in dict.fromkeys(values))

    def span(values: Sequence[int]) -> str:
        low, high = min(values), max(values)
        return f"{low:,}" if low == high else f"{low:,} … {high:,}"

    parts = [
        either([config.data_name for config in configs]),
        either([config.model for config in configs]),
        f"{span([c.steps for c in configs])} of the paper's {span([s['steps'] for s in wanted])} steps",
        f"batch {either(sorted({config.batch for config in configs}))}",
    ]
    if "lam" in script.preset.changed:
        parts.append(f"lambda {script.preset.changed['lam']:g}")
    parts.append(f"{script.seeds} seed{'s' * (script.seeds > 1)}")
    return "; ".join(parts)


# Schedules


def tenth_at_the_end(steps: int) -> Schedule:
    """A tenth of the learning rate for the last 75 of 325 epochs (mehta2019, section 2.1)."""
    return Step((steps * 250 // 325,))


def halved(times: int) -> Callable[[int], Schedule]:
    """The learning rate halved so many times, after equal parts (yaguchi2018, Table I)."""
    return lambda steps: Step(tuple(steps * i // (times + 1) for i in range(1, times + 1)), 0.5)


# mehta2019

MEHTA: Settings = {
    "data": "cifar", "model": "basicnet", "batch": 40, "flip": True, "steps": 325 * 1250,
    "schedule": tenth_at_the_end,
}  # fmt: skip
"""Section 2.1: 325 epochs of 50,000 images in batches of 40, mirrored at random."""

_SMALL = {"cifar": "digits", "basicnet": "basicnet:width=0.25"}

MEHTA_PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size="smoke", instead=_SMALL, steps=4000),
    "digits": Preset(size="digits", instead=_SMALL, steps=10_000),
    "cifar10": Preset(size="full", instead={"cifar": "cifar10", "basicnet": "basicnet:width=1"}),
    "cifar100": Preset(size="full", instead={"cifar": "cifar100", "basicnet": "basicnet:width=1"}),
}
