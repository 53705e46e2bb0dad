"""`regdyn prune`."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regdyn.cli.options import (
    command,
    image_options,
    network_options,
    option,
    plain_console,
    print_table,
    progress_bar,
)
from regdyn.errors import CheckFailed, InvalidParameter, MissingData
from regdyn.parameters import check_integer, check_number

if TYPE_CHECKING:
    from rich.console import Console

    from regdyn.cnn.images import Images
    from regdyn.doctor.effect import Effect
    from regdyn.doctor.inputs import Inputs
    from regdyn.doctor.opening import Opened
    from regdyn.doctor.slimming import Slimmed

MAX_SAMPLES = 10**5
MAX_LENGTH = 10**5
MAX_SEED = 2**63 - 1


def _options() -> list[inspect.Parameter]:
    return [
        *network_options("not for networks of regdyn"),
        option(None, Path | None, "--out", "Write the slim network to this file of safetensors "
               "(required).", metavar="FILE"),
        option("1e-3", str, "--threshold", "A filter is dead with |gamma| below it; >= 0.",
               metavar="X"),
        option("1e-3", str, "--norm-threshold", "One without normalisation is dead with an L2 norm of "
               "its weights below it; >= 0.", metavar="X"),
        option("1e-2", str, "--tolerance", "How far the outputs may move, of the greatest one; >= 0. "
               "Beyond that no file is written.", metavar="X"),
        *image_options("Compare on these test images (a checkpoint's own, where they are here)"),
        option(None, str | None, "--input", "Compare on random inputs, standard normal, of this shape: "
               "3x32x32 (channels, rows, columns).", metavar="SHAPE"),
        option("64", str, "--samples", "Random inputs, in [1, 100000].", metavar="N"),
        option("32", str, "--batch", "Inputs at a time; latency is that of so many; in [1, 4096].",
               metavar="N"),
        option("1", str, "--threads", "Threads of torch where latency is measured, in [1, 1024].",
               metavar="N"),
        option("0", str, "--seed", "Of the random inputs.", metavar="N"),
        option(False, bool, "--json", "Print JSON instead of tables."),
        option(False, bool, "--force", "Overwrite an existing file."),
        option(False, bool, "--quiet", "No tables, no notes, no progress."),
    ]  # fmt: skip


@command(_options)
def prune(**options: Any) -> int:
    """Remove the dead filters of a trained network for real, without changing what it computes.

    What the slim network computes is what the original does with its dead filters at zero. The
    constants that these pass on go into biases and running means; at zero-padded borders one dead
    filter of a layer stays to carry them for all. Where the same channel is summed with a living one
    it stays. Reported: the difference of the outputs, test errors, parameters, FLOPs (two for each
    multiplication and addition in convolutions and matrix products) and measured latency.

    The file holds ordinary layers: regdyn.doctor.load_slim puts it into the network that your code
    builds. If nothing is dead, it holds the network as it was. Needs the extra prune.

    Ends with 1, without a file, if the outputs move by more than the tolerance.

    Example:

      regdyn prune runs/adam --out slim.safetensors

      regdyn prune net.pt --model package.module:factory --input 3x32x32 --out slim.safetensors
    """
    get = options.__getitem__
    target = _target(get("file"), get("out"), get("force"))
    limit = check_number("tolerance", get("tolerance"), "[0, inf)")
    threads = check_integer("threads", get("threads"), 1, 1024)
    seed = check_integer("seed", get("seed"), 0, MAX_SEED)
    count = check_integer("samples", get("samples"), 1, MAX_SAMPLES)
    batch = check_integer("batch", get("batch"), 1, 4096)
    from regdyn.doctor.effect import measure_effect
    from regdyn.doctor.opening import open_network
    from regdyn.doctor.slim_file import save_slim
    from regdyn.doctor.slimming import slim

    opened = open_network(get("file"), get("model"), get("part"))
    inputs, notes = _inputs(opened, options, count, batch, seed)
    with progress_bar(inputs.samples, get("quiet"), "comparing", _rate) as (advance, _):
        slimmed = slim(
            opened.model,
            inputs.first,
            threshold=get("threshold"),
            norm_threshold=get("norm_threshold"),
            seed=seed,
        )
        effect = measure_effect(opened.model, slimmed, inputs, threads=threads, progress=advance)
    notes = [*opened.notes, *notes, *slimmed.notes]
    if not slimmed.removed:
        notes.append("No filter can be removed: the slim network is the network as it was")
    shown = {
        "file": str(get("file")),
        "threshold": float(get("threshold")),
        "norm_threshold": float(get("norm_threshold")),
        "tolerance": limit,
        "compared_on": inputs.words,
        **effect.to_dict(),
        **slimmed.to_dict(),
        "notes": notes,
    }
    written = effect.difference <= limit
    if written:
        about = {**opened.about, "data": opened.data, "input": list(inputs.first.shape[1:]), **shown}
        save_slim(slimmed.model, target, about, force=get("force"))
    if not get("quiet"):
        for note in notes:
            print(f"Note: {note}", file=sys.stderr)
    if get("json"):
        import json

        print(json.dumps({**shown, "out": str(target) if written else None}, indent=1))
    elif not get("quiet"):
        _print(plain_console(), slimmed, effect, inputs.words)
    if not written:
        raise CheckFailed(
            f"the outputs move by {effect.difference:.2g} of the greatest, more than --tolerance "
            f"{limit:g}, and no file was written: a lower --threshold removes less"
        )
    return 0


def _target(file: Path, out: Path | None, force: bool) -> Path:
    from regdyn.files import check_target

    if out is None:
        raise InvalidParameter("out", "given, the file that the slim network goes to")
    if out.exists() and file.exists() and out.samefile(file):
        raise InvalidParameter("out", "another file than FILE, which stays as it is", out)
    return check_target("out", out, force)


def _inputs(
    opened: Opened, options: dict[str, Any], samples: int, batch: int, seed: int
) -> tuple[Inputs, list[str]]:
    """What the networks are compared on, and why it is not the data of the checkpoint."""
    from regdyn.doctor.inputs import random_inputs, test_images

    if options["data"] is not None and options["input"] is not None:
        raise InvalidParameter("input", "used without --data, whose images have a shape")
    notes: list[str] = []
    images = _images(opened, options, notes)
    if images is not None:
        normalize = options["normalize"]
        return test_images(images, opened.model, batch, normalize=normalize), notes
    if not options["normalize"]:
        raise InvalidParameter("no_normalize", "used with images")
    shape = opened.shape if options["input"] is None else _shape(options["input"])
    if shape is None:
        wanted = "given, the shape of the network's inputs such as 3x32x32, or --data"
        raise InvalidParameter("input", wanted)
    return random_inputs(shape, opened.model, samples, batch, seed), notes


def _images(opened: Opened, options: dict[str, Any], notes: list[str]) -> Images | None:
    """The images asked for, else those of the checkpoint where they can be made."""
    from regdyn.cnn.data import make_images

    if options["data"] is not None:
        return make_images(options["data"], options["data_dir"])
    if options["input"] is not None or opened.data is None:
        return None
    try:
        images = make_images(opened.data, options["data_dir"])
        if (images.channels, *images.size) == opened.shape:
            return images
        reason = "now of another size"
    except (InvalidParameter, MissingData):
        reason = "not here"
    notes.append(f"The network's own data, {opened.data}, are {reason}: --data compares on others")
    return None


def _shape(text: str) -> tuple[int, ...]:
    parts = text.lower().replace("×", "x").split("x")
    if not 1 <= len(parts) <= 4 or not all(part.strip().isdecimal() for part in parts):
        raise InvalidParameter("input", "a shape of one to four lengths such as 3x32x32", text)
    return tuple(check_integer("input", part.strip(), 1, MAX_LENGTH) for part in parts)


def _rate(speed: float) -> str:
    return f"{speed:,.0f} inputs/s"


# Tables


def _print(console: Console, slimmed: Slimmed, effect: Effect, words: str) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    left = sum(layer.after for layer in slimmed.layers)
    say(
        f"{slimmed.removed} filters removed, {left} left (outputs included). Difference of the outputs "
        f"on {words}, of the "
        f"greatest output: {effect.difference:.2g} from the network as it was, "
        f"{effect.difference_from_zeroed:.2g} from it with its dead filters at zero."
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", no_wrap=True)
    for heading in ("filters", "dead", "removed", "as constants", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    concerned = [layer for layer in slimmed.layers if layer.marked.any() or layer.removed.any()]
    for layer in concerned:
        marked, removed, constant = (
            int(mask.sum()) for mask in (layer.marked, layer.removed, layer.constant)
        )
        numbers = (layer.before, marked, removed, constant, layer.after)
        table.add_row(layer.name, *map(str, numbers))
    if concerned:
        print_table(console, table)
    others = len(slimmed.layers) - len(concerned)
    if others:
        say(f"{others} layer{'s' * (others > 1)} without dead filters.")

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("before", "after", "after / before"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in ("parameters", "flops"):
        old, new = getattr(effect.before, name), getattr(effect.after, name)
        label = "parameters" if name == "parameters" else "FLOPs per sample"
        table.add_row(label, f"{old:,}", f"{new:,}", f"{new / old:.3f}" if old else "–")
    latency = effect.latency
    low, middle, high = (1 / ratio for ratio in reversed(latency.speedup))
    table.add_row(
        f"ms for a batch of {latency.batch}", _milliseconds(latency.before),
        _milliseconds(latency.after), f"{middle:.3f} ({low:.3f} – {high:.3f})",
    )  # fmt: skip
    if effect.error_before is not None and effect.error_after is not None:
        table.add_row("test error", f"{effect.error_before:.2%}", f"{effect.error_after:.2%}", "")
    print_table(console, table)
    plural = "s" * (latency.threads > 1)
    say(
        f"Latency on {latency.threads} thread{plural}, {latency.pairs} pairs in turns: medians and "
        "quartiles. FLOPs are two for each multiplication and addition."
    )


def _milliseconds(seconds: tuple[float, float, float]) -> str:
    low, middle, high = (1e3 * each for each in seconds)
    return f"{middle:.3g} ({low:.3g} – {high:.3g})"
