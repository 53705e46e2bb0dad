"""The store of a sweep: a zarr group that is written chunk by chunk and can be resumed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from regdyn.dynamics.result import provenance
from regdyn.errors import InvalidParameter
from regdyn.sweeps.plan import SIMULATED, Plan, label

if TYPE_CHECKING:
    import xarray

MARK = SIMULATED
"""Written last: a chunk is there when this variable of it is."""

SESSIONS = ".sessions.jsonl"
"""What no bit of the result depends on: who computed how much of it, and how long that took."""

_LOCK = ".lock"
_BLOCK = 4096


class Store:
    """The chunks of a sweep on the disk.

    Each variable of a chunk is a file of its own that replaces another one whole. `MARK` comes last, so
    that a chunk is whole where it is; what an interruption left of the others is written again.

    Parameters
    ----------
    path, plan
        A folder that `open_store` made for this plan, now or in a run before.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = path, plan
        self._group = zarr.open_group(path, mode="r+", zarr_format=2)
        self._arrays: dict[str, Any] = {name: self._group[name] for name in _variables(plan)}

    def is_done(self, number: int) -> bool:
        """Whether a chunk is there."""
        key = self._arrays[MARK].metadata.encode_chunk_key(self.plan.chunks.place(number))
        return Path(self.path, MARK, key).exists()

    def missing(self) -> list[int]:
        """The chunks that are not there."""
        return [number for number in range(len(self.plan.chunks)) if not self.is_done(number)]

    def write(self, number: int, arrays: Mapping[str, NDArray]) -> None:
        """Write a chunk: variables of shape (points, …)."""
        where = self.plan.chunks.where(number)
        points = tuple(each.stop - each.start for each in where)
        with self.explained():
            for name, array in self._arrays.items():
                array[where] = arrays[name].reshape(points + arrays[name].shape[1:])

    def note(self, **about: Any) -> None:
        """Add a line to the record of the sessions."""
        with self.explained(), (self.path / SESSIONS).open("a+b") as stream:
            line = json.dumps(about).encode() + b"\n"
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                # A disk that was full may have cut the last one short.
                line = line if stream.read() == b"\n" else b"\n" + line
            stream.write(line)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """A disk that is full or gone becomes one line."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            wanted = "writable; the chunks in it are whole, and the same command goes on from them"
            raise InvalidParameter("out", wanted, f"{self.path} ({reason})") from None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Refuse a second command at work on the same store."""
        with _locked(self.path):
            # Before it was locked another command may have replaced it.
            description, there = _asked(self.plan), _description(self.path)
            if there != description:
                raise _another(self.path, there, description)
            # What a command that was killed was writing.
            for partial in self.path.glob("**/*.partial"):
                partial.unlink(missing_ok=True)
            yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a store."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    try:
        handle = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise InvalidParameter("out", "a writable folder", f"{folder} ({error.strerror})") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InvalidParameter("out", "a store at which no other command is at work", folder) from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(handle)


def _variables(plan: Plan) -> tuple[str, ...]:
    return (*plan.system.observables, MARK)


def open_store(path: str | os.PathLike[str], plan: Plan, force: bool = False) -> Store:
    """The store of a plan: a new one, or what a run before has left of the same plan.

    Raises
    ------
    InvalidParameter
        For a folder that is not the store of this plan, one that cannot be written, or a result that
        does not fit on the disk. With `force` the store of another sweep is replaced, unless a command
        is at work at it.
    """
    target = Path(path)
    if target.is_symlink():
        target = target.resolve()
    if target.suffix != ".zarr":
        raise InvalidParameter("out", "a folder that ends in .zarr", target)
    description = _asked(plan)
    empty = target.is_dir() and os.access(target, os.R_OK) and not any(target.iterdir())
    there = _description(target) if target.exists() and not empty else None
    if there is not None and there != description and not force:
        raise _another(target, there, description)
    if there == description:
        if not os.access(target, os.W_OK):
            raise InvalidParameter("out", "a writable folder", target)
    else:
        _check_place(target)
        _check_room(target.parent, plan)
        with _locked(target) if there is not None else nullcontext():
            _create(target, plan, description, replace=there is not None or empty)
    return Store(target, plan)


def _check_place(target: Path) -> None:
    folder = target.parent
    if not folder.is_dir():
        raise InvalidParameter("out", "in an existing folder", target)
    try:
        with tempfile.TemporaryDirectory(dir=folder):
            pass
    except OSError as error:
        raise InvalidParameter("out", "in a writable folder", f"{target} ({error.strerror})") from None


def needed_bytes(plan: Plan) -> int:
    """What the store takes at most: its numbers, not compressed, in whole blocks of the disk."""
    files = len(plan.chunks) * len(_variables(plan))
    return 8 * plan.grid.size * plan.numbers_per_point + _BLOCK * files


def _check_room(folder: Path, plan: Plan) -> None:
    needed, free = needed_bytes(plan), shutil.disk_usage(folder).free
    if needed > free:
        raise InvalidParameter(
            "out",
            f"on a disk with room for it: {plan.grid.size} points take up to {needed / 2**30:.3g} GiB "
            f"and {free / 2**30:.3g} GiB are free (fewer points or fewer --times)",
        )


def _asked(plan: Plan) -> dict[str, Any]:
    """The description of a plan as it comes out of a store."""
    return dict(json.loads(json.dumps(plan.description())))


def _description(
    target: Path, name: str = "out", wanted: str = "a new or empty folder or the store of a sweep"
) -> dict[str, Any]:
    """The description in a store; InvalidParameter for what is none."""
    try:
        attributes = json.loads((target / ".zattrs").read_text())
        description = dict(json.loads(attributes["config"]))
        # Another program may call an attribute of its own "config": its data are not ours to replace.
        if attributes["sha256"] != _hash(description) or not {"axes", "made_by"} <= set(description):
            raise KeyError("sha256")
        return description
    except (OSError, ValueError, KeyError, TypeError):
        got = f"{target}, which is something else" if target.exists() else f"{target}, which is missing"
        raise InvalidParameter(name, wanted, got) from None


def _another(
    target: Path, there: Mapping[str, Any], description: Mapping[str, Any]
) -> InvalidParameter:
    held, asked = _hash(there)[:8], _hash(description)[:8]
    return InvalidParameter(
        "out",
        "a new store or one of the same sweep (--force replaces it)",
        f"{target}, which holds sweep {held}, not {asked}: {_difference(there, description)}",
    )


def _hash(description: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def _difference(a: Any, b: Any, name: str = "") -> str:
    """The first place in which two descriptions differ, in words."""
    if any(isinstance(x, dict) and "sha256" in x for x in (a, b)):
        return f"other {name}"
    if name == "chunk":
        return f"chunks of {math.prod(a)} points there and of {math.prod(b)} here (--chunk)"
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys([*a, *b]):
            if a.get(key) != b.get(key):
                return _difference(a.get(key), b.get(key), key)
    if isinstance(a, list) and isinstance(b, list):
        if len(a) != len(b):
            return f"{len(a)} instead of {len(b)} {name}"
        return next((_difference(x, y, name) for x, y in zip(a, b) if x != y), name)
    return f"{name} is {a} there and {b} here"


def _create(target: Path, plan: Plan, description: Mapping[str, Any], replace: bool) -> None:
    """A store without chunks, which takes the place of `target` when it is whole."""
    temporary, old = (
        Path(tempfile.mkdtemp(prefix=f".{target.stem}-", dir=target.parent)) for _ in range(2)
    )
    try:
        _fill(temporary, plan, description)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if replace:
            os.replace(target, old)
        try:
            # What another command has put there in the meantime stays.
            os.replace(temporary, target)
        except OSError:
            if replace:
                os.replace(old, target)
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidParameter("out", "in a writable folder", f"{target} ({reason})") from None
    finally:
        for folder in (temporary, old):
            shutil.rmtree(folder, ignore_errors=True)


def _fill(path: Path, plan: Plan, description: Mapping[str, Any]) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    group.attrs.update(
        {
            "title": f"regdyn sweep of the {plan.system.name} system",
            "config": json.dumps(description),
            "sha256": _hash(description),
            **provenance(),
        }
    )
    together = [name for axis in plan.grid.axes if len(axis.values) > 1 for name in axis.values]
    if together:
        # What they are along a dimension of another name, xarray takes from here.
        group.attrs["coordinates"] = " ".join(together)

    def add(name: str, dims: tuple[str, ...], shape: tuple[int, ...], chunks: tuple[int, ...],
            **about: Any) -> Any:  # fmt: skip
        return group.create_array(
            name, shape=shape, chunks=chunks, dtype=about.pop("dtype", "float64"),
            fill_value=about.pop("fill_value", np.nan),
            attributes={"_ARRAY_DIMENSIONS": list(dims), **about},
        )  # fmt: skip

    dims = tuple(axis.dim for axis in plan.grid.axes)
    for axis in plan.grid.axes:
        for name, values in axis.values.items():
            coordinate = _coordinate(values)
            about = {"dtype": coordinate.dtype, "fill_value": None}
            add(name, (axis.dim,), coordinate.shape, coordinate.shape, **about)[:] = coordinate
    for name, values in plan.extra.items():
        coordinate = np.asarray(values)
        about = {"dtype": coordinate.dtype, "fill_value": None}
        add(name, (name,), coordinate.shape, coordinate.shape, **about)[:] = coordinate
    for name, observable in plan.system.observables.items():
        shape = plan.shape(name)
        add(name, dims + observable.dims, plan.grid.shape + shape, plan.chunks.chunk + shape,
            long_name=observable.text, units=observable.units)  # fmt: skip
    add(MARK, dims, plan.grid.shape, plan.chunks.chunk, long_name="trajectories simulated", units="1")
    zarr.consolidate_metadata(path, zarr_format=2)


def _coordinate(values: Sequence[Any]) -> NDArray:
    """The values of an axis as numbers, or as words where they are none."""
    if all(isinstance(value, (bool, int, float)) for value in values):
        if any(isinstance(value, int) and abs(value) >= 2**63 for value in values):
            exact = all(isinstance(value, int) and 0 <= value < 2**64 for value in values)
            return np.asarray(values, dtype=np.uint64 if exact else np.float64)
        return np.asarray(values)
    return np.asarray([str(label(value)) for value in values])


def read_dataset(path: str | os.PathLike[str]) -> xarray.Dataset:
    """A store as a Dataset that reads what is looked at; NaN where nothing has been simulated yet.

    Raises
    ------
    InvalidParameter
        For anything but the store of a sweep.
    """
    import xarray

    wanted = "the store of a sweep"
    _description(Path(path), "store", wanted)
    try:
        data = xarray.open_dataset(path, engine="zarr", chunks=None, consolidated=True)
        data[MARK]
    except Exception as error:  # whatever zarr raises where it meets the damage
        raise InvalidParameter("store", wanted, f"{path}, which is damaged ({error})") from None
    return data
