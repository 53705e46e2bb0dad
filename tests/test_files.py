"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from regdyn.errors import InvalidParameter
from regdyn.files import check_target, written_whole


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
