"""What the scripts of the papers' tables have in common: presets, runs, printed tables, their files.

A row of a table says how the paper trains. A preset says what stands for the paper's data and network,
and for how many steps; the schedule of the learning rate shrinks with them.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.stats

from regdyn.cli.options import progress_bar
from regdyn.cnn.data import Images, make_images
from regdyn.dynamics.result import provenance
from regdyn.dynamics.schedules import CosineRestarts, Schedule, Step
from regdyn.errors import InvalidParameter, MissingData
from regdyn.files import written_whole
from regdyn.parameters import check_integer

if TYPE_CHECKING:
    from regdyn.cnn.config import CnnConfig
    from regdyn.cnn.result import CnnResult
    from regdyn.nets.config import Progress, Snapshot

PUBLISHED = Path(__file__).parent / "published"

SIZES = ("smoke", "digits", "full")
"""How much of a table is run: a few rows in minutes, what two cores do in half an hour, all of it."""

SAID = (
    "smoke: a few rows in minutes; digits: what two cores do in half an hour; the others: all rows, as "
    "long as in the paper, with --data-dir"
)

LEAST, MOST = 20, 10**9
"""Steps of a run: at least one for each recorded time."""

DASH = "–"
LEVEL = 0.95
OPTIONS = ("preset", "data_dir", "seeds", "steps", "device", "out")

Settings = Mapping[str, Any]
"""How the paper trains: arguments of `CnnConfig`, but that data and model are the paper's and may stand
in a preset's `instead`, `steps` are the paper's, `schedule` is a function of their number or `rounds`
of half a cosine each stand for it (zhou2020, section 3.2), `times` are a function of the steps that are
run, and `random_labels` permutes the labels."""


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


class Measure(NamedTuple):
    """A column: how it is measured, None where it is not, and its digits after the point."""

    of: Callable[[CnnResult], float | None] | None
    digits: int = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a published table.

    Parameters
    ----------
    cells
        Its settings as they are printed, a text for each column on the left.
    published
        For each source, the published numbers as printed, by the heading of their column.
    settings
        How it is run; None for what cannot be run here.
    size
        The smallest of `SIZES` that runs it.
    """

    cells: Sequence[str]
    published: Mapping[str, Mapping[str, str]]
    settings: Settings | None
    size: str = "full"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A published table: its title, the columns on the left, what is measured, and its rows."""

    title: str
    left: Sequence[str]
    measures: Mapping[str, Measure]
    rows: Sequence[Row]


# Options, runs and files


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
        if "times" in own:
            own["times"] = own["times"](own["steps"])
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
        if error.name not in ("torch", "safetensors", "joblib"):
            raise
        _exit(f"{error.name} is not installed: pip install 'regdyn[torch]'", 3)
    except KeyboardInterrupt:
        _exit("interrupted; the same command goes on", 130)


def _exit(message: str, code: int) -> None:
    print("Error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)


# Tables


def rerun(file: str, doc: str | None, presets: Mapping[str, Preset], tables: Sequence[Table]) -> None:
    """The whole script: train what the preset runs, print the tables, save what was found.

    Exits with 2 for an option that cannot be used, 3 for missing data or a missing library.
    """
    with one_line_errors():
        script = Script(file, doc, presets)
        rows = [row for table in tables for row in table.rows if script.runs(row.size)]
        large_enough = [row.settings for row in rows if row.settings]
        begin = time.perf_counter()
        found = script.train(large_enough)
        seconds = time.perf_counter() - begin
        scale = describe_scale(script, large_enough, found, seconds)
        print(scale)
        numbers = []
        for table in tables:
            # Rows that need a larger preset may be the same run as one that was run.
            runs = [
                found.get(script.key(row.settings), []) if row.settings else [] for row in table.rows
            ]
            numbers.append(measured(table, runs))
            print("\n" + "\n".join(table_lines(table, numbers[-1], runs)))
        results = [run for runs in found.values() for run in runs]
        failures = [f"{r.label}, seed {r.config.seed}: {r.failed}" for r in results if r.failed]
        if failures:
            print("\nFailed, and not in the means: " + "; ".join(failures))
        path = script.save(
            scale=scale,
            seeds=script.seeds,
            tables=[_note(*pair) for pair in zip(tables, numbers)],
            runs=[run.to_dict() for run in results],
            seconds=round(seconds, 2),
        )
        print(path, file=sys.stderr)


Estimate = dict[str, Any]
"""Values of the runs, their mean, and half of its interval (None for one run)."""


def measured(table: Table, found: Sequence[Sequence[CnnResult]]) -> list[dict[str, Estimate | None]]:
    """For each row, what its runs say of each column; None where they say nothing."""
    return [
        {heading: _estimate(measure, runs) for heading, measure in table.measures.items()}
        for runs in found
    ]


def _estimate(measure: Measure, runs: Sequence[CnnResult]) -> Estimate | None:
    if measure.of is None:
        return None
    each = [measure.of(run) for run in runs if not run.failed]
    values = [float(value) for value in each if value is not None and math.isfinite(value)]
    if not values:
        return None
    mean, half = mean_and_half_width(values)
    return {"mean": mean, "half_width": half, "values": values}


def mean_and_half_width(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and half of Student's 95 % interval for it; None for a single value."""
    n = len(values)
    if n == 1:
        return values[0], None
    quantile = scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1)
    return float(np.mean(values)), float(quantile * np.std(values, ddof=1) / math.sqrt(n))


def describe_scale(
    script: Script, wanted: Sequence[Settings], found: Mapping[str, Sequence[CnnResult]], seconds: float
) -> str:
    """What was run, where and in what time, in a line."""
    results = [run for runs in found.values() for run in runs]
    devices = ", ".join(dict.fromkeys(run.config.device for run in results))
    took = f"{seconds:.0f} s, the runs themselves {sum(run.seconds for run in results):.0f} s"
    return "; ".join([describe_runs(script, wanted, found), devices, took])


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
        *(f"{name} {value}" for name, value in script.preset.changed.items() if name != "batch"),
        f"{script.seeds} seed{'s' * (script.seeds > 1)}",
    ]
    return "; ".join(parts)


def table_lines(
    table: Table, numbers: Sequence[Mapping[str, Estimate | None]], found: Sequence[Sequence[CnnResult]]
) -> list[str]:
    """A table as text: for each row a line for each source, and one for what was found here."""
    body: list[list[str]] = []
    for row, own, runs in zip(table.rows, numbers, found):
        named = {source: [cells.get(h, "") or DASH for h in table.measures]
                 for source, cells in row.published.items()}  # fmt: skip
        here = f"here ({runs[0].config.data_name})" if runs else "here"
        named[here] = [_show(own[heading], m.digits) for heading, m in table.measures.items()]
        for i, (source, cells) in enumerate(named.items()):
            body.append([*(cell if i == 0 else "" for cell in row.cells), source, *cells])
    texts = len(table.left) + 1
    grid = [[*table.left, "", *table.measures], *body]
    widths = [max(map(len, column)) for column in zip(*grid)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < texts else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in grid
    ]
    return [table.title, "", lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _show(estimate: Estimate | None, digits: int) -> str:
    if estimate is None:
        return DASH
    text = f"{estimate['mean']:.{digits}f}"
    half = estimate["half_width"]
    return text if half is None else f"{text} ± {half:.{digits}f}"


def _note(table: Table, numbers: Sequence[Mapping[str, Estimate | None]]) -> dict[str, Any]:
    """A table ready for JSON."""
    rows = [
        {"settings": dict(zip(table.left, row.cells)), "published": row.published, "here": own}
        for row, own in zip(table.rows, numbers)
    ]
    return {"title": table.title, "rows": rows}


# What the scripts write of rows and columns


def published(name: str) -> list[dict[str, str]]:
    """The rows of a published table, by the names of its columns."""
    with open(PUBLISHED / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def grouped(
    lines: Sequence[Mapping[str, str]], by: Sequence[str], columns: Mapping[str, str]
) -> dict[tuple[str, ...], dict[str, dict[str, str]]]:
    """Published lines that differ in their data set alone as one row: `Row.published` by settings.

    Parameters
    ----------
    lines
        Of `published`, with a column `dataset`.
    by
        The columns that make the settings.
    columns
        The columns with the numbers, by the heading under which they are printed.
    """
    rows: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for line in lines:
        key = tuple(line[name] for name in by)
        numbers = {heading: line[column] for heading, column in columns.items()}
        rows.setdefault(key, {})[f"paper ({line['dataset']})"] = numbers
    return rows


def by_scale(result: CnnResult) -> float | None:
    """Percent of the filters with |gamma| < 1e-3."""
    shares = result.total.by_scale
    return None if shares is None else 100 * shares[1e-3]


def by_activation(result: CnnResult) -> float | None:
    """Percent of the filters whose activation never exceeds 1e-12 on the training set."""
    shares = result.total.by_activation
    return None if shares is None else 100 * shares[1e-12]


def in_layer(name: str) -> Callable[[CnnResult], float | None]:
    """Percent of the filters of a layer with |gamma| < 1e-3."""

    def percent(result: CnnResult) -> float | None:
        shares = {layer.name: layer.by_scale for layer in result.layers}.get(name)
        return None if shares is None else 100 * shares[1e-3]

    return percent


def test_error(result: CnnResult) -> float:
    """In percent."""
    return 100 * result.error


def pruned_test_error(result: CnnResult) -> float:
    """In percent, without the filters that are dead by scale."""
    return 100 * result.error_after_removal


def parameters_pruned(result: CnnResult) -> float:
    """Percent of the weights of convolutions that go with the filters that are dead by scale."""
    return 100 * result.last.removed.convolutions


def train_loss(result: CnnResult) -> float:
    """Mean over the last twentieth of the steps, in nats."""
    return float(result.loss[-1])


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

DECAYS = {"l2": "l2", "wd": "paper"}
"""The paper's two decays by the names of `regdyn.optimizers.REGULARIZATIONS`."""

_SMALL = {"cifar": "digits", "basicnet": "basicnet:width=0.25"}

MEHTA_PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(size="smoke", instead=_SMALL, steps=4000),
    "digits": Preset(size="digits", instead=_SMALL, steps=10_000),
    "cifar10": Preset(size="full", instead={"cifar": "cifar10", "basicnet": "basicnet:width=1"}),
    "cifar100": Preset(size="full", instead={"cifar": "cifar100", "basicnet": "basicnet:width=1"}),
}

LAYERWISE_COLUMNS = {
    "train loss": "train_loss", "test loss": "test_loss", "test error": "test_error",
    **{f"C{i}": f"c{i}" for i in range(1, 8)}, "total": "total", "pruned": "params_pruned",
    "error pruned": "pruned_test_error",
}  # fmt: skip
"""Columns of the tables by layer, by heading: losses, percent of the filters dead by gamma, percent of
the weights of convolutions pruned, test errors."""

LAYERWISE = {
    "train loss": Measure(train_loss, 2), "test loss": Measure(None), "test error": Measure(test_error),
    **{f"C{i}": Measure(in_layer(f"C{i}"), 0) for i in range(1, 8)}, "total": Measure(by_scale, 0),
    "pruned": Measure(parameters_pruned, 0), "error pruned": Measure(pruned_test_error),
}  # fmt: skip
