"""Checkpoints: tensors as safetensors, everything else as JSON, replaced whole or not at all.

A folder holds `checkpoint.json` and the file of tensors that it names. A new checkpoint writes its
tensors under a new name first and then replaces the JSON, so that a kill at any moment leaves one of
the two whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from regdyn.errors import InvalidParameter
from regdyn.files import written_whole

FORMAT = 1
INDEX = "checkpoint.json"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a run needs to go on.

    Attributes
    ----------
    tensors
        By name: "model.…" are the parameters and buffers of the network.
    about
        Plain JSON: "config", "step" and what else the run wants.
    """

    tensors: dict[str, Tensor]
    about: dict[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose name starts with `prefix` and a dot, without it."""
        start = f"{prefix}."
        return {
            name.removeprefix(start): value
            for name, value in self.tensors.items()
            if name.startswith(start)
        }


def exists(folder: Path) -> bool:
    """Whether the folder holds a checkpoint."""
    return (folder / INDEX).exists()


def save(folder: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a checkpoint in place of the one in `folder`, which is made if need be.

    Raises
    ------
    InvalidParameter
        For a place that cannot be written; the old checkpoint is then still there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        got = f"{folder} ({error.strerror})"
        raise InvalidParameter("checkpoint", "a folder that can be written", got) from None
    name = f"step-{int(about['step']):09d}.safetensors"
    with written_whole("checkpoint", folder / name, force=True) as temporary:
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        write_tensors(plain, temporary)
        digest = _sha256(temporary)
    index = {"format": FORMAT, "tensors": name, "sha256": digest, **about}
    with written_whole("checkpoint", folder / INDEX, force=True) as temporary:
        temporary.write_text(json.dumps(index, indent=1) + "\n")
    for other in folder.glob("step-*.safetensors"):
        if other.name != name:
            other.unlink(missing_ok=True)


def write_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a file of safetensors; OSError where that fails."""
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from None


def load(folder: str | os.PathLike[str], name: str = "checkpoint") -> Checkpoint:
    """The checkpoint in `folder`; nothing in it can be code.

    Raises
    ------
    InvalidParameter
        For the parameter `name`: no folder with a checkpoint, a file of pickled objects, or damage.
    """
    place = Path(folder)
    wanted = "a folder with a checkpoint of regdyn"
    if place.is_file():
        raise InvalidParameter(name, wanted, f"{place}, which {_kind(place) or 'is a file'}")
    try:
        about = json.loads((place / INDEX).read_text())
        tensors = place / str(about["tensors"])
        version = about["format"]
    except OSError as error:
        several = f"; those of several runs are {place / 'run_0'}, …" if exists(place / "run_0") else ""
        got = f"{place} ({INDEX}: {error.strerror}{several})"
        raise InvalidParameter(name, wanted, got) from None
    except (ValueError, KeyError, TypeError):
        raise InvalidParameter(name, wanted, f"{place} ({INDEX} is damaged)") from None
    if version != FORMAT:
        raise InvalidParameter(name, f"{wanted}, format {FORMAT}", f"{place}, format {version}")
    try:
        if _sha256(tensors) != about["sha256"]:
            raise InvalidParameter(name, wanted, f"{place} ({tensors.name} is damaged)")
        return Checkpoint(load_file(tensors), about)
    except OSError as error:
        raise InvalidParameter(name, wanted, f"{place} ({tensors.name}: {error.strerror})") from None
    except SafetensorError:
        kind = _kind(tensors) or "is no safetensors file"
        raise InvalidParameter(name, wanted, f"{place} with {tensors.name}, which {kind}") from None


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kind(path: Path) -> str:
    """What a file that is no checkpoint seems to hold; "" for nothing that is known."""
    with open(path, "rb") as file:
        head = file.read(2)
    # torch.save writes a zip of a pickle, older versions a bare pickle.
    if head in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return "may hold pickled code and was not read"
    return ""
