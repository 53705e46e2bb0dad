"""Files: read without unpickling; written whole or not at all, never over one by accident."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from regdyn.errors import InvalidParameter


def check_target(name: str, path: str | os.PathLike[str], force: bool = False) -> Path:
    """`path` if a file can be written there, else InvalidParameter for the parameter `name`."""
    target = Path(path)
    if target.is_dir():
        raise InvalidParameter(name, "a file, not a folder", target)
    if target.exists() and not force:
        raise InvalidParameter(name, "a new file (--force overwrites)", f"{target}, which exists")
    folder = target.parent
    if not folder.is_dir():
        raise InvalidParameter(name, "in an existing folder", target)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InvalidParameter(name, "in a writable folder", f"{target} ({error.strerror})") from None
    return target


def load_numbers(
    name: str, path: str | os.PathLike[str], *, memory_map: bool = False
) -> NDArray[np.floating | np.integer]:
    """The array of real numbers in a .npy file, else InvalidParameter for the parameter `name`."""
    wanted = "a readable .npy file of real numbers"
    try:
        array = np.load(path, mmap_mode="r" if memory_map else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        # NumPy's own words for a file that it cannot read advise to unpickle it.
        reason = error.strerror if isinstance(error, OSError) else None
        raise InvalidParameter(name, wanted, f"{path} ({reason or 'something else'})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        kind = getattr(array, "dtype", "several arrays")
        raise InvalidParameter(name, wanted, f"{path} ({kind})")
    return array


def load_arrays(
    name: str, path: str | os.PathLike[str], wanted: Iterable[str]
) -> dict[str, NDArray[np.floating | np.integer]]:
    """The arrays called `wanted`, of real numbers, in a .npz file; others in it are not looked at.

    Raises
    ------
    InvalidParameter
        For the parameter `name`: the file is missing or not a .npz, or an array is missing, damaged,
        not of real numbers or of pickled objects, which are never unpickled.
    """
    readable = "a readable .npz file of real numbers"
    names = list(wanted)
    try:
        # Opened here, since np.load leaves a broken archive open.
        with open(path, "rb") as file:
            return _arrays_in(file, name, path, names, readable)
    except OSError as error:
        reason = error.strerror or "something else"
        raise InvalidParameter(name, readable, f"{path} ({reason})") from None


def _arrays_in(
    file: BinaryIO, name: str, path: str | os.PathLike[str], names: list[str], readable: str
) -> dict[str, NDArray[np.floating | np.integer]]:
    """The arrays of `load_arrays` in the open `file`."""
    # Damage shows as whatever zipfile, zlib and the parser of headers raise where they meet it.
    try:
        archive = np.load(file, allow_pickle=False)
    except Exception:
        raise InvalidParameter(name, readable, f"{path} (something else)") from None
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InvalidParameter(name, readable, f"{path} (a single array, as in a .npy file)")
    arrays = {}
    with archive:
        missing = [each for each in names if each not in archive.files]
        if missing:
            has = f"{path} without {', '.join(missing)}"
            raise InvalidParameter(name, f"an .npz with arrays {', '.join(names)}", has)
        for each in names:
            try:
                array = archive[each]
            except Exception as error:
                if "allow_pickle" in str(error):
                    got = f"{path}, where {each} holds objects"
                    raise InvalidParameter(name, "an .npz without pickled objects", got) from None
                raise InvalidParameter(name, readable, f"{path} ({each} is damaged)") from None
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
                kind = getattr(array, "dtype", "no array")
                raise InvalidParameter(name, readable, f"{path} ({each} is {kind})")
            arrays[each] = array
    return arrays


@contextmanager
def written_whole(name: str, path: str | os.PathLike[str], force: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    Raises
    ------
    InvalidParameter
        If `path` exists and `force` is not given, or cannot be written.
    """
    target = check_target(name, path, force)
    handle, temporary = tempfile.mkstemp(
        prefix=f".{target.stem}-", suffix=target.suffix, dir=target.parent
    )
    os.close(handle)
    try:
        yield Path(temporary)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidParameter(name, "writable", f"{target} ({reason})") from None
    finally:
        Path(temporary).unlink(missing_ok=True)
