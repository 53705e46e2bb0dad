"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import io
import pickle
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regdyn.errors import InvalidParameter
from regdyn.files import check_target, load_arrays, written_whole


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), written_whole("out", target, force=True) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "x.json"
    with written_whole("out", target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o444 == 0o444


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidParameter, match=r"out must be writable, got .*No space left"),
        written_whole("out", tmp_path / "x.nc"),
    ):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_targets(tmp_path: Path) -> None:
    assert check_target("out", tmp_path / "new.nc") == tmp_path / "new.nc"
    (tmp_path / "old.nc").touch()
    for path, message in {
        tmp_path: "a file, not a folder",
        tmp_path / "old.nc": "a new file",
        tmp_path / "no" / "x.nc": "in an existing folder",
        Path("/proc/x.nc"): "in a writable folder",
    }.items():
        with pytest.raises(InvalidParameter, match=message):
            check_target("out", path)


def test_arrays_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.arange(3), b=np.ones((2, 0)), c=np.array(["text"]))
    found = load_arrays("data", path, ("b", "a"))
    assert list(found) == ["b", "a"] and found["b"].shape == (2, 0) and list(found["a"]) == [0, 1, 2]


def archive_of(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def test_unusable_archives(tmp_path: Path) -> None:
    def write(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    np.savez(tmp_path / "one.npz", a=np.arange(3))
    np.savez(tmp_path / "objects.npz", a=np.arange(3), b=np.array([1, None]))
    np.savez(tmp_path / "text.npz", a=np.array(["text"]), b=np.arange(3))
    np.save(tmp_path / "single.npy", np.arange(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    whole = (tmp_path / "objects.npz").read_bytes()
    archive_of(tmp_path / "foreign.npz", a=b"neither array nor text", b=b"")
    huge = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000, 1000), }\n"
    header = b"\x93NUMPY\x01\x00" + len(huge).to_bytes(2, "little") + huge
    archive_of(tmp_path / "huge.npz", a=header, b=header)

    wanted = "a readable .npz file of real numbers, got {}"
    for path, message in {
        tmp_path / "none.npz": f"{wanted} (No such file or directory)",
        tmp_path: f"{wanted} (Is a directory)",
        write("empty.npz", b""): f"{wanted} (something else)",
        write("text.txt", b"a text"): f"{wanted} (something else)",
        write("pickle.npz", pickle.dumps({"a": 1})): f"{wanted} (something else)",
        write("cut.npz", whole[: len(whole) // 2]): f"{wanted} (something else)",
        tmp_path / "single.npz": f"{wanted} (a single array, as in a .npy file)",
        tmp_path / "one.npz": "an .npz with arrays a, b, got {} without b",
        tmp_path / "objects.npz": "an .npz without pickled objects, got {}, where b holds objects",
        tmp_path / "text.npz": f"{wanted} (a is <U4)",
        tmp_path / "foreign.npz": f"{wanted} (a is no array)",
        tmp_path / "huge.npz": f"{wanted} (a is damaged)",
    }.items():
        with pytest.raises(InvalidParameter) as caught:
            load_arrays("data", path, ("a", "b"))
        assert str(caught.value) == "data must be " + message.format(path)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_archive_is_refused_or_read(draw: st.DataObject) -> None:
    written = io.BytesIO()
    np.savez_compressed(written, a=np.arange(40.0), b=np.arange(7))
    content = bytearray(written.getvalue())
    for _ in range(draw.draw(st.integers(1, 4))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(InvalidParameter):
        path = Path(folder) / "x.npz"
        path.write_bytes(content[: draw.draw(st.integers(1, len(content)))] if draw.draw(
            st.booleans()) else content)  # fmt: skip
        assert set(load_arrays("data", path, ("a", "b"))) == {"a", "b"}
