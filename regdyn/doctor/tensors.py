"""The tensors of a trained network from whatever file they are in; nothing there is ever run."""

from __future__ import annotations

import argparse
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from regdyn.cnn import checkpoints
from regdyn.errors import InvalidParameter

WANTED = (
    "a .safetensors file, a file of torch.save with weights alone, or a checkpoint folder of regdyn"
)

_PREFERRED = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
"""Where training scripts keep the weights, the ones to be preferred first."""

_OTHERS = re.compile(r"optim|sched|scaler|callback|loop|hyper|config|args", re.IGNORECASE)
"""Names under which a training script keeps what is no network."""

_DEPTH = 3
"""Dictionaries inside each other in which weights are looked for."""

# Holds attributes and no code; timm's checkpoints keep the arguments of the training in one.
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]


@dataclass(frozen=True, eq=False)
class SavedTensors:
    """The tensors of a network as they lay in a file, and what else the file says.

    Attributes
    ----------
    path
        Of the file or folder.
    tensors
        Parameters and buffers by their names in the network, on the processor, in their own types;
        "module." of data parallel training and "_orig_mod." of `torch.compile` are taken off.
    part
        Where in the file they were, such as "state_dict"; "" for a file of nothing else.
    others
        Parts of the file that hold tensors too and were not taken.
    ordered
        Whether they come in the order of the file, else by name, since safetensors keep none.
    config
        Of a checkpoint of regdyn: what was trained, as `regdyn.dynamics.result.describe` puts it.
    optimizer
        Of such a checkpoint: what the optimizer remembers, by the number of the parameter and its name.
    notes
        What a reader should know, a sentence each.
    """

    path: Path
    tensors: dict[str, Tensor]
    part: str = ""
    others: tuple[str, ...] = ()
    ordered: bool = True
    config: dict[str, Any] | None = None
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_tensors(
    path: str | os.PathLike[str], part: str | None = None, name: str = "file"
) -> SavedTensors:
    """Read the tensors of a network without running anything that the file holds.

    What kind of file it is shows in its first bytes, whatever it is called. Files of torch are read
    with `torch.load(weights_only=True)`, to the processor, wherever their tensors were.

    Parameters
    ----------
    path
        Safetensors, a file of `torch.save` (.pt, .pth, .ckpt, .pth.tar, .bin), or the folder that
        `regdyn train --checkpoint` writes.
    part
        Which part of the file to take, such as "model_ema"; where None, the first that there is of the
        names that are usual ("state_dict", "model", …), else the one with most tensors.
    name
        Of the parameter that errors speak of.

    Raises
    ------
    InvalidParameter
        For `name`: no such file, no checkpoint, damage, pickled objects beside tensors (named as torch
        names them), no tensors, tensors without numbers (on the device meta); for "part": none of that
        name.
    """
    place = Path(path)
    if place.is_file() and place.name.startswith(("checkpoint.", "step-")):
        # A file of a checkpoint of regdyn: the folder says more.
        place = place.parent if checkpoints.exists(place.parent) else place
    if place.is_dir():
        saved = _from_regdyn(place, name)
        found = dict(_candidates(saved.tensors))
    else:
        content, ordered = _read(place, name)
        saved = SavedTensors(place, {}, ordered=ordered)
        found = dict(_candidates(content))
    if not found:
        raise _unusable(name, place, "holds no tensors by name")
    taken = _choice(found, part)
    tensors, renamed = _plain_names(_only_tensors(found[taken]))
    if not tensors:
        raise _unusable(name, place, "holds no tensors by name")
    _check_numbers(tensors, place, name)
    others = tuple(each for each in found if each != taken)
    notes = list(saved.notes)
    if others:
        more = ", ".join(each or "tensors at its top" for each in others)
        where = taken or "its top"
        notes.append(f"The weights are those of {where}; the file also has {more} (--part)")
    if renamed:
        notes.append(f"Taken off the names: {renamed}")
    plain = {key: _plain(value) for key, value in tensors.items()}
    return replace(saved, tensors=plain, part=taken, others=others, notes=tuple(notes))


# Files


def _from_regdyn(folder: Path, name: str) -> SavedTensors:
    kept = checkpoints.load(folder, name)
    config = kept.about.get("config")
    if not isinstance(config, dict):
        raise _unusable(name, folder, f"has no configuration in {checkpoints.INDEX}")
    failed = kept.about.get("failed")
    notes = (f"This training failed: {failed}",) if failed else ()
    tensors = _in_order(kept.part("model"))
    state = kept.part("optimizer")
    return SavedTensors(
        folder, tensors, ordered=False, config=config, optimizer=state, notes=notes
    )  # fmt: skip


def _read(path: Path, name: str) -> tuple[Any, bool]:
    """What the file holds, tensors, numbers, text and containers of these, and if it has an order."""
    try:
        with open(path, "rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InvalidParameter(name, WANTED, f"{path} ({error.strerror})") from None
    try:
        # A zip of torch.save, or the bare pickles of its older versions.
        if head.startswith((b"PK", b"\x80")):
            with warnings.catch_warnings(), torch.serialization.safe_globals(_HARMLESS):
                warnings.simplefilter("ignore")  # of types of storage that are on their way out
                return torch.load(path, map_location="cpu", weights_only=True), True
        # The length of a header in JSON, then the header.
        if head[8:] == b"{":
            return _in_order(load_file(path)), False
    except MemoryError:
        raise
    except SafetensorError as error:
        raise _unusable(name, path, f"is damaged or cut short ({error})") from None
    except Exception as error:
        # Damage shows as whatever torch's readers of zips and pickles raise where they meet it.
        raise _unusable(name, path, _reason(error)) from None
    raise _unusable(name, path, "is empty" if not head else "is no checkpoint")


def _in_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By name, numbers in it by their value: safetensors keep no order."""

    def key(name: str) -> list[int | str]:
        # Text and numbers in turn, so that none is compared with the other.
        return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]

    return {name: tensors[name] for name in sorted(tensors, key=key)}


def _reason(error: Exception) -> str:
    """Why torch did not read a file, from its message, which advises to trust it."""
    message = str(error)
    named = re.search(r"GLOBAL (\S+)|(?:function|Trying to instantiate) (\S+)", message)
    if named:
        what = named.group(1) or named.group(2)
        kind = "a whole module" if what.startswith("torch.nn.") else "pickled code or objects"
        return f"holds {kind} ({what}) and was not unpickled; save model.state_dict() alone"
    if "TorchScript" in message:
        return "holds code of TorchScript and was not run; save model.state_dict() alone"
    if "Weights only load failed" in message:
        found = re.search(r"WeightsUnpickler error:\s*([^\n]+)", message)
        detail = f" ({found.group(1).strip()})" if found else ""
        return f"is damaged or a pickle that may hold code, and was not unpickled{detail}"
    return f"is damaged, cut short or no checkpoint ({type(error).__name__})"


def _unusable(name: str, path: Path, why: str) -> InvalidParameter:
    return InvalidParameter(name, WANTED, f"{path}, which {why}")


# What of it is the network


def _candidates(value: Any, at: str = "", depth: int = 0) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """The dictionaries of tensors in what a file holds, with where they are."""
    if not isinstance(value, Mapping):
        return
    if any(each.ndim > 0 for each in _only_tensors(value).values()):
        yield at, value
    for key, below in value.items() if depth < _DEPTH else ():
        if isinstance(key, str) and not _OTHERS.search(key):
            yield from _candidates(below, f"{at}.{key}" if at else key, depth + 1)


def _only_tensors(value: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _choice(found: Mapping[str, Mapping[Any, Any]], part: str | None) -> str:
    if part is not None:
        if part in found:
            return part
        known = ", ".join(each for each in found if each) or "none"
        raise InvalidParameter("part", f"a part of the file that holds tensors ({known})", part)
    for wanted in _PREFERRED:
        for at in found:
            if at.split(".")[-1] == wanted:
                return at
    return max(found, key=lambda at: len(_only_tensors(found[at])))


def _plain_names(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Names as in the network itself, and what was taken off them."""
    taken = []
    # Left by an average of weights beside those it wraps as "module".
    rest = {key: value for key, value in tensors.items() if key != "n_averaged"}
    compiled = {key: re.sub(r"(^|\.)_orig_mod\.", r"\1", key) for key in rest}
    if any(key != plain for key, plain in compiled.items()):
        taken.append("_orig_mod")
    names = list(compiled.values())
    # A part of the network may be called module too: of all names or of none.
    while names and all(name.startswith("module.") for name in names):
        names = [name.removeprefix("module.") for name in names]
        if "module" not in taken:
            taken.append("module")
    if len(set(names)) < len(names):
        return tensors, ""
    return dict(zip(names, rest.values())), " and ".join(taken)


def _check_numbers(tensors: Mapping[str, Tensor], path: Path, name: str) -> None:
    empty = [key for key, value in tensors.items() if value.device.type == "meta"]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise _unusable(name, path, f"has no numbers for {empty[0]}{more} (device meta)")


def _plain(tensor: Tensor) -> Tensor:
    """Neither quantized nor sparse, and without a gradient."""
    value = tensor.detach()
    if value.is_quantized:
        value = value.dequantize()
    return value.to_dense() if value.layout != torch.strided else value
