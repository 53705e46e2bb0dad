"""`regdyn sweep` and `regdyn plot`: what they print, write and refuse."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import regdyn
from regdyn.cli import main
from regdyn.sweeps.store import MARK

GRID = "--opt adam,sgd --lam 1e-4:1e-2:log3 --sigma 1e-6,1e-5 --steps 300 --trajectories 8"


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], command: str) -> tuple[int, str, str]:
    code = main(shlex.split(command))
    out, err = capsys.readouterr()
    return code, out, err


def test_table_and_picture(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, f"sweep {GRID} --out map.zarr --plot map.pdf")
    assert code == 0
    assert "Sweep(map.zarr: scalar system, 2 optimizer x 3 lam x 2 sigma, 12 of 12 points" in out
    assert re.search(r"adam +6 +", out) and re.search(r"sgd +6 +", out)
    assert "2 optimizer x 3 lam x 2 sigma: 2.88e+04 trajectory-steps in 1 chunks" in err
    assert Path("map.pdf").read_bytes().startswith(b"%PDF")
    data = regdyn.Sweep("map.zarr").to_xarray()
    single = regdyn.simulate(
        "adam", lam=1e-3, noise=regdyn.Gaussian(regdyn.BurnIn(1e-6)), steps=300, trajectories=8
    )
    point = data.sel(optimizer="adam", sigma=1e-6).sel(lam=1e-3, method="nearest")
    assert point["mean"].values[-1] == pytest.approx(single.mean[-1], rel=1e-12)


def test_the_same_command_again_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --chunk 2 --quiet")
    files = {file: file.stat().st_mtime_ns for file in Path("map.zarr").rglob("[0-9]*")}
    code, out, err = run(capsys, f"sweep {GRID} --out map.zarr --chunk 2")
    assert (code, files) == (0, {file: file.stat().st_mtime_ns for file in files})
    assert "in 6 chunks, 6 of them there" in err and "12 of 12 points" in out
    (Path("map.zarr") / MARK / "1.0.0").unlink()
    code, out, err = run(capsys, f"sweep {GRID} --out map.zarr --chunk 2 --json")
    assert "in 6 chunks, 5 of them there" in err
    summary = json.loads(out)
    assert (summary["points"], summary["simulated"], len(summary["rows"])) == (12, 12, 2)
    assert [session["trajectory_steps"] for session in summary["sessions"]] == [28_800, 4_800]


def test_another_sweep_is_refused_and_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --quiet")
    code, out, err = run(capsys, f"sweep {GRID} --seed 1 --out map.zarr")
    assert (code, out) == (2, "")
    assert "--out must be a new store or one of the same sweep (--force replaces it)" in err
    assert "seed is 0 there and 1 here" in err
    code, out, err = run(capsys, f"sweep {GRID} --seed 1 --out map.zarr --force --quiet")
    assert (code, out, err) == (0, "", "")
    assert regdyn.Sweep("map.zarr").description["configurations"][0]["seed"] == 1


def test_a_folder_that_is_something_else_is_never_replaced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("map.zarr").mkdir()
    Path("map.zarr/thesis.txt").write_text("all of it")
    for force in ("", "--force"):
        code, out, err = run(capsys, f"sweep {GRID} --out map.zarr {force}")
        assert (code, out) == (2, "") and "map.zarr, which is something else" in err
    assert Path("map.zarr/thesis.txt").read_text() == "all of it"


BAD = {
    "--lam 1e-7:1e-1:lgo61": r"--lam must be values and ranges .*column 11: lgo61 is neither",
    "--lam 1,,2": r"--lam .*\(column 3: nothing between commas\)",
    "--lam -1,1": r"--lam must be in \[0, inf\)",
    "--gamma0 1,2": "--gamma0 must be used with system neuron, got scalar",
    "--system neuron --sigma 1,2": "--sigma must be used with system scalar, got neuron",
    "--opt adam,sgd --beta1 0.8,0.9": "--beta1 must be an axis of optimizers that have it",
    "--opt adma": "--opt must be one of .*nearest: adam",
    "--reg l3": "--reg must be one of",
    "--schedule step": "--schedule must be",
    "--lam 1,2 --zip lam,sigma": r"--zip must be of axes \(lam\), got sigma",
    "--steps 0,5": r"--steps must be an integer in \[1,",
    "--refine 2": r"--refine must be in \(0, 1\]",
    "--most-trajectories 9": "--most-trajectories must be used with refine",
    "--workers 0": r"--workers must be an integer in \[1, 1024\]",
    "--executor threads --workers 2": "--workers must be used with executor loky or dask",
    "--plot map.gif": "--plot must be a file that ends in",
    "--out elsewhere/map.zarr": "--out must be in an existing folder",
    "--out map.nc": "--out must be a folder that ends in .zarr",
    "--lam 0:1:1000000 --sigma 0:1:1000000": "--out must be on a disk with room for it",
}


@pytest.mark.parametrize("options", BAD)
def test_refused(capsys: pytest.CaptureFixture[str], options: str) -> None:
    out_option = "" if "--out" in options else "--out map.zarr"
    code, out, err = run(capsys, f"sweep {options} {out_option}")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("Error: ") and re.search(BAD[options], line)
    assert list(Path().iterdir()) == []


def test_plot(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --quiet")
    assert run(capsys, "plot map.zarr") == (0, "map.png\n", "")
    code, out, err = run(capsys, "plot map.zarr")
    assert code == 2 and "map.png, which exists" in err
    command = "plot map.zarr --what spread --at opt=sgd --out other.svg --quiet"
    assert run(capsys, command) == (0, "", "")
    for options, wanted in {
        "nothing.zarr": "STORE must be the store of a sweep, got nothing.zarr, which is missing",
        "map.zarr --at lam --out x.png": "--at must be NAME=VALUE, got lam",
        "map.zarr --training 0 --out x.png": "--training must be steps >= 1, got 0",
        "map.zarr --x optimizer --out x.png": "--x must be one of lam, sigma",
    }.items():
        code, out, err = run(capsys, f"plot {options}")
        assert (code, out) == (2, "") and wanted in err, options
    assert sorted(file.name for file in Path().iterdir()) == ["map.png", "map.zarr", "other.svg"]


def test_a_damaged_store(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --quiet")
    metadata = Path("map.zarr/.zmetadata")
    metadata.write_text(metadata.read_text().replace("simulated/.zarray", "lost/.zarray"))
    code, out, err = run(capsys, "plot map.zarr")
    assert (code, out) == (2, "") and "map.zarr, which is damaged" in err


def test_a_part_of_a_map_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --chunk 2 --quiet")
    (Path("map.zarr") / MARK / "0.0.0").unlink()
    code, out, err = run(capsys, "plot map.zarr --no-theory")
    assert (code, out) == (0, "map.png\n") and "10 of 12 points are there" in err
    assert int(np.isnan(regdyn.Sweep("map.zarr").to_xarray()[MARK].values).sum()) == 2
