"""`regdyn sweep` and `regdyn plot`: what they print, write and refuse."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray
import zarr

import regdyn
from regdyn.cli import main
from regdyn.sweeps import refine
from regdyn.sweeps.store import MARK, SESSIONS

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
    assert "2 optimizer x 3 lam x 2 sigma: 2.88e+04 trajectory-steps in 1 chunk; " in err
    assert Path("map.pdf").read_bytes().startswith(b"%PDF")
    data = regdyn.Sweep("map.zarr").to_xarray()
    single = regdyn.simulate(
        "adam", lam=1e-3, noise=regdyn.Gaussian(regdyn.BurnIn(1e-6)), steps=300, trajectories=8
    )
    point = data.sel(optimizer="adam", sigma=1e-6).sel(lam=1e-3, method="nearest")
    assert point["mean"].values[-1] == pytest.approx(single.mean[-1], rel=1e-12)


def test_examples_in_help_work(capsys: pytest.CaptureFixture[str]) -> None:
    examples = []
    for command in ("sweep", "plot"):
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out.partition("Example:")[2].partition("Options:")[0]
        examples += [line.strip() for line in shown.splitlines() if line.strip().startswith("regdyn ")]
    assert [example.split()[1] for example in examples] == ["sweep", "plot"]
    for example in examples:
        assert run(capsys, example.removeprefix("regdyn "))[0] == 0
    sweep = regdyn.Sweep("map.zarr")
    assert (sweep.simulated, sweep.description["system"]) == (45, "scalar")
    assert Path("map.png").stat().st_size > 10_000


def test_json_equals_python(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, f"sweep {GRID} --threshold 0.72 --out map.zarr --json")
    assert code == 0 and "trajectory-steps in 1 chunk; " in err and "{" not in err
    shown = json.loads(out)
    grid = {
        "optimizer": ["adam", "sgd"], "lam": np.geomspace(1e-4, 1e-2, 3), "sigma": [1e-6, 1e-5],
    }  # fmt: skip
    sweep = regdyn.sweep(grid, out="other.zarr", steps=300, trajectories=8, threshold=0.72)
    assert shown["rows"] == sweep.summary() and shown["out"] == "map.zarr"
    assert (shown["points"], shown["simulated"], len(shown["sessions"])) == (12, 12, 1)
    assert contents(Path("map.zarr")) == contents(Path("other.zarr"))
    medians: dict[str, list[float]] = {"adam": [], "sgd": []}
    below: dict[str, list[float]] = {"adam": [], "sgd": []}
    for name in medians:
        for lam in grid["lam"]:
            for sigma in grid["sigma"]:
                result = regdyn.simulate(
                    name, lam=lam, noise=regdyn.Gaussian(regdyn.BurnIn(sigma)), steps=300,
                    trajectories=8, threshold=0.72,
                )  # fmt: skip
                medians[name].append(result.first_passage_quantile())
                below[name].append(result.share_below)
    for row in shown["rows"]:
        passed = np.isfinite(medians[row["optimizer"]])
        assert (row["points"], row["share_dying"]) == (6, passed.mean())
        assert row["earliest"] == min(medians[row["optimizer"]]) and row["diverged"] == 0
        assert row["share_below"] == pytest.approx(np.mean(below[row["optimizer"]]))


def test_numbers_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--steps 200 --trajectories 8 --threshold 0.9 --burn-in-sigma 0"
    code, out, _ = run(capsys, f"sweep --opt sgd,adagrad --lam 0,0.1,1e4 {options} --out map.zarr")
    assert code == 0
    cells = {line.split()[0]: line.split()[1:] for line in out.splitlines() if len(line.split()) == 6}
    for row in regdyn.Sweep("map.zarr").summary():
        points, dying, earliest, below, diverged = cells[row["optimizer"]]
        assert points == "3" and dying == f"{row['share_dying']:.1%}"
        assert earliest == ("never" if row["earliest"] is None else f"{row['earliest']:.0f}")
        assert (below, diverged) == (f"{row['share_below']:.1%}", f"{row['diverged']:.1%}")
    assert cells["sgd"][-1] == "33.3%"


@pytest.mark.parametrize("output", ["", "--json", "--quiet"])
def test_progress_goes_to_standard_error_alone(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, expected, _ = run(capsys, f"sweep {GRID} --out map.zarr {output}")
    code, out, err = run(capsys, f"sweep {GRID} --out map.zarr {output}")
    assert code == 0
    # Nothing is simulated the second time, and the result is printed all the same.
    assert out == expected and ("of them there" in err) is (output != "--quiet")
    assert (out, err) == ("", "") if output == "--quiet" else "1 chunk, 1 of them there; " in err
    assert "of them there" not in out and "trajectory-steps in 1 chunk" not in out


def test_a_terminal_is_told_how_to_draw(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, out, _ = run(capsys, f"sweep {GRID} --out map.zarr")
    hint = re.search(r"regdyn (plot map\.zarr) draws it\.", out)
    assert hint is not None and run(capsys, hint[1])[0] == 0 and Path("map.png").exists()


def test_one_point(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "sweep --steps 50 --trajectories 8 --out map.zarr")
    assert code == 0 and "Sweep(map.zarr: scalar system, 1 point, 1 of 1 points" in out
    assert err.startswith("1 point: 400 trajectory-steps in 1 chunk; this process, ")


def test_units(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--c 0.1,1 --psbn-alpha 0,0.1 --antithetic --trajectories 256 --steps 50"
    code, out, _ = run(capsys, f"sweep --system neuron {options} --out map.zarr --json")
    assert code == 0 and json.loads(out)["points"] == 4
    data = regdyn.Sweep("map.zarr").to_xarray().sel(c=1.0, psbn_alpha=0.1)
    result = regdyn.simulate_neuron(c=1.0, alpha=0.1, antithetic=True, steps=50, trajectories=256)
    assert data["activation_mean"].values[-1] == pytest.approx(result.activation_mean[-1], rel=1e-12)


def test_values_that_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    command = "sweep --lam 1e-4,1e-2 --sigma 1e-6,1e-5 --lr 1e-3:1e-2:log3 --zip lam,sigma"
    code, out, _ = run(capsys, f"{command} --steps 50 --trajectories 4 --out map.zarr --plot map.png")
    assert code == 0 and "6 of 6 points" in out and Path("map.png").exists()
    data = regdyn.Sweep("map.zarr").to_xarray()
    assert data["lam"].dims == data["sigma"].dims == ("lam_sigma",)
    assert {"lam", "sigma"} <= set(data.coords) == set(xarray.open_zarr("map.zarr").coords)
    assert dict(data[MARK].sizes) == {"lr": 3, "lam_sigma": 2}


def test_trajectories_are_an_axis(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"sweep {GRID.removesuffix('--trajectories 8')} --trajectories 2,8 --out map.zarr"
    assert run(capsys, f"{command} --plot map.png --quiet") == (0, "", "")
    data = regdyn.Sweep("map.zarr").to_xarray()
    assert data[MARK].sel(trajectories=2).values.tolist() == np.full((2, 3, 2), 2).tolist()
    assert run(capsys, "plot map.zarr --y trajectories --out other.png --quiet") == (0, "", "")


def test_large_seeds_are_exact(capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [0, 2**53 + 1, 2**64 - 1]
    text = ",".join(map(str, seeds))
    command = f"sweep --seed {text} --steps 5 --trajectories 2 --out map.zarr --quiet"
    assert run(capsys, command) == (0, "", "")
    assert [int(seed) for seed in regdyn.Sweep("map.zarr").to_xarray()["seed"].values] == seeds


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


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a store that its description decides."""
    names = {file: file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for file, name in names.items() if name != SESSIONS}


@pytest.mark.parametrize("removed", [["0.0.0"], ["1.2.0", "0.1.0"], ["0.0.0", "0.2.0", "1.1.0"]])
def test_chunks_that_are_missing_are_simulated(
    removed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"sweep {GRID} --out map.zarr --chunk 2"
    run(capsys, command)
    whole = contents(Path("map.zarr"))
    for file in Path("map.zarr").rglob("*"):
        if any(file.name.startswith(name) for name in removed):
            file.unlink()
    assert len(contents(Path("map.zarr"))) < len(whole) - 10 * len(removed)
    assert regdyn.Sweep("map.zarr").simulated == 12 - 2 * len(removed)
    code, out, err = run(capsys, command)
    assert code == 0 and "12 of 12 points" in out and f"{6 - len(removed)} of them there" in err
    assert contents(Path("map.zarr")) == whole
    steps = [session["trajectory_steps"] for session in regdyn.Sweep("map.zarr").sessions]
    assert steps == [28_800, 4_800 * len(removed)]


def test_what_an_interruption_left_of_a_chunk_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"sweep {GRID} --out map.zarr --chunk 2 --quiet"
    run(capsys, command)
    whole = contents(Path("map.zarr"))
    Path("map.zarr", MARK, "1.0.0").unlink()
    Path("map.zarr", "mean", "1.0.0.0").write_bytes(b"half of")
    Path("map.zarr", "std", "1.0.0.0.partial").write_bytes(b"half of")
    assert run(capsys, command)[0] == 0
    assert contents(Path("map.zarr")) == whole


def test_another_sweep_is_refused_and_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --quiet")
    code, out, err = run(capsys, f"sweep {GRID} --seed 1 --out map.zarr")
    assert (code, out) == (2, "")
    assert "--out must be a new store or one of the same sweep (--force replaces it)" in err
    assert "seed is 0 there and 1 here" in err
    code, out, err = run(capsys, f"sweep {GRID} --seed 1 --out map.zarr --force --quiet")
    assert (code, out, err) == (0, "", "")
    assert regdyn.Sweep("map.zarr").description["configurations"][0]["seed"] == 1


DIFFERENT = {
    "--seed 1": "seed is 0 there and 1 here",
    "--lam 1e-4,1e-3": "3 instead of 2 lam",
    "--lam 1e-4,1e-3,0.1": "lam is 0.01 there and 0.1 here",
    "--opt adam,adagrad": "optimizer is sgd there and adagrad here",
    "--steps 200": "steps is 300 there and 200 here",
    "--momentum 0.5": "momentum is 0.9 there and 0.5 here",
    "--times 0,300": "times",
    "--chunk 1": "chunks of 12 points there and of 1 here (--chunk)",
}


@pytest.mark.parametrize("options", DIFFERENT)
def test_what_differs_is_said(capsys: pytest.CaptureFixture[str], options: str) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --quiet")
    before = contents(Path("map.zarr"))
    code, out, err = run(capsys, f"sweep {GRID} --out map.zarr {options}")
    assert (code, out) == (2, "") and err.count("\n") == 1 and DIFFERENT[options] in err
    assert contents(Path("map.zarr")) == before
    assert run(capsys, f"sweep {GRID} --out map.zarr {options} --force --quiet") == (0, "", "")
    assert contents(Path("map.zarr")).keys() != before.keys() or contents(Path("map.zarr")) != before
    assert [file.name for file in Path().iterdir()] == ["map.zarr"]
    assert run(capsys, f"sweep {GRID} --out map.zarr {options} --quiet") == (0, "", "")


def _folder() -> None:
    Path("map.zarr").mkdir()
    Path("map.zarr/thesis.txt").write_text("all of it")


def _file() -> None:
    Path("map.zarr").write_text("all of it")


def _array() -> None:
    zarr.open_group("map.zarr", mode="w", zarr_format=2).create_array("a", data=np.ones(3))


def _settings() -> None:
    """Another program's store, whose own settings have the name of ours."""
    _array()
    group = zarr.open_group("map.zarr", mode="r+", zarr_format=2)
    group.attrs["config"] = json.dumps({"lr": 0.1, "seed": 3})


def _broken() -> None:
    Path("map.zarr").mkdir()
    Path("map.zarr/.zattrs").write_text('{"config": "{')


ELSE = {
    "a folder": _folder, "a file": _file, "an array": _array, "settings": _settings,
    "a broken file": _broken,
}  # fmt: skip


@pytest.mark.parametrize("force", ["", "--force"])
@pytest.mark.parametrize("case", ELSE)
def test_what_is_something_else_is_never_replaced(
    case: str, force: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ELSE[case]()
    target = Path("map.zarr")
    before = target.read_bytes() if target.is_file() else contents(target)
    code, out, err = run(capsys, f"sweep {GRID} --out map.zarr {force}")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert err.startswith("Error: --out must be a new or empty folder or the store of a sweep")
    assert "map.zarr, which is something else" in err
    assert (target.read_bytes() if target.is_file() else contents(target)) == before
    assert [file.name for file in Path().iterdir()] == ["map.zarr"]
    code, out, err = run(capsys, "plot map.zarr")
    assert (code, out) == (2, "") and "STORE must be the store of a sweep, got map.zarr" in err


def test_an_empty_folder_is_filled(capsys: pytest.CaptureFixture[str]) -> None:
    Path("map.zarr").mkdir()
    assert "is something else" in run(capsys, "plot map.zarr")[2]
    assert run(capsys, f"sweep {GRID} --out map.zarr --quiet") == (0, "", "")
    assert regdyn.Sweep("map.zarr").simulated == 12
    assert [file.name for file in Path().iterdir()] == ["map.zarr"]


def test_names_and_repeated_values_that_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    values = "--opt adam,adam,sgd --lr 1e-3,1e-2,1e-2 --lam 1e-3,1e-2,1e-3"
    size = "--steps 50 --trajectories 4"
    code, out, _ = run(capsys, f"sweep {values} --zip opt,lr {size} --out map.zarr --json")
    assert code == 0
    # What does not go together with others has each value once.
    assert [(row["optimizer"], row["lr"], row["points"]) for row in json.loads(out)["rows"]] == [
        ("adam", "0.001", 2), ("adam", "0.01", 2), ("sgd", "0.01", 2),
    ]  # fmt: skip
    assert run(capsys, "plot map.zarr --at opt=sgd --x lam --quiet") == (0, "", "")


def test_a_refined_sweep_says_what_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = "sweep --lam 1e-4:1e-1:log9 --steps 300 --trajectories 8 --refine 0.1 --out map.zarr"
    saved = refine._save

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(refine, "_save", interrupted)
    code, out, err = run(capsys, command)
    assert (code, out) == (130, "") and "9 lam, refined to 0.1; this process" in err
    message = "interrupted; the points that have been simulated are in map.zarr, and the same command"
    assert message in err and "chunks" not in err
    monkeypatch.setattr(refine, "_save", saved)
    code, out, _ = run(capsys, command)
    assert code == 0 and "of 9 points simulated with up to" in out


def test_a_picture_of_the_store_in_which_the_command_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --quiet")
    monkeypatch.chdir("map.zarr")
    assert run(capsys, "plot . --no-theory") == (0, "map.png\n", "")


def test_ctrl_c_while_the_picture_is_drawn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(regdyn.Sweep, "save_plot", interrupted)
    code, out, err = run(capsys, f"sweep {GRID} --out map.zarr --plot map.png")
    assert (code, out) == (130, "")
    assert err.endswith("Error: interrupted; regdyn plot draws map.zarr, which is whole\n")
    assert regdyn.Sweep("map.zarr").simulated == 12


BAD = {
    "--lam 1e-7:1e-1:lgo61": r"--lam must be values and ranges .*column 11: lgo61 is neither",
    "--lam 1,,2": r"--lam .*\(column 3: nothing between commas\)",
    "--lam x": r"--lam must be values .* got x \(column 1: x is not a number\)",
    "--lam 0:1:log3": r"--lam .*\(column 1: a log range needs FROM and TO above 0\)",
    "--sigma 1e-6:1e-3": r"--sigma .*\(column 10: N or logN is missing\)",
    "--burn-in-steps 1,5:": r"--burn-in-steps .*\(column 5: nothing is not a number\)",
    "--seed 5:1": r"--seed .*\(column 1: FROM:TO needs integers with FROM below TO\)",
    "--times 1,x": r"--times .*\(column 3: x is not a number\)",
    "--lam -1,1": r"--lam must be in \[0, inf\)",
    "--lam 1,nan": "--lam .*nan is not a number",
    "--lr 0.1,-1": r"--lr must be in \[0, inf\), got -1",
    "--beta2 0.9,1": r"--beta2 must be in \[0, 1\), got 1",
    "--theta0 1,1e200": "--theta0 must be a finite number",
    "--threshold 0,1": r"--threshold must be in \(0, inf\), got 0",
    "--trajectories 0": r"--trajectories must be an integer in \[1,",
    "--steps 1.5": r"--steps must be an integer in \[1, .*got 1.5",
    "--seed 18446744073709551616": r"--seed must be an integer in .*, got 18446744073709551616$",
    "--seed -1,1": "--seed must be an integer in",
    "--dtype float64,half": "--dtype must be one of float64, float32",
    "--gamma0 1,2": "--gamma0 must be used with system neuron, got scalar",
    "--c 1": "--c must be used with system neuron, got scalar",
    "--antithetic": "--antithetic must be used with system neuron",
    "--system neurone": "--system must be one of scalar, neuron .*nearest: neuron",
    "--system neuron --sigma 1,2": "--sigma must be used with system scalar, got neuron",
    "--system neuron --psbn-alpha 0,-1": r"--psbn-alpha must be in \[0, inf\), got -1",
    "--system neuron --antithetic": "--trajectories must be a multiple of 256 with antithetic pairs",
    "--seed 0:x": r"--seed must be values and ranges FROM:TO, FROM:TO:N or .*column 3: x is not",
    "--opt adam,sgd --beta1 0.8,0.9": "--beta1 must be varied with optimizers that all have it",
    "--opt sgd --beta1 0.9": r"--beta1 must be used with an optimizer that has it \(adam,",
    "--opt sgd --nesterov --momentum 0.9,0": "--nesterov must be used with momentum > 0",
    "--opt adma": "--opt must be one of .*nearest: adam",
    "--opt ,": "--opt must be given at least one value",
    "--reg l3": "--reg must be one of",
    "--schedule step": "--schedule must be",
    "--schedule cosine,linear": "--schedule must be constant, step:",
    "--schedule missing.npy": "--schedule must be a readable .npy file",
    "--noise gated,brown": "--noise must be one of gaussian",
    "--noise trace": "--trace must be given with noise trace",
    "--trace missing.npy": "--trace must be a readable .npy file",
    "--sigma missing.npy": "--sigma must be a readable .npy file",
    "--gate-probability 0.5": "--gate-probability must be used with noise gated",
    "--noise student-t --dof 3,2": r"--dof must be in \(2, inf\), got 2",
    "--lam 1,2 --zip lam,sigma": r"--zip must be of axes \(lam\), got sigma",
    "--lam 1,2 --sigma 1,2,3 --zip lam,sigma": "--zip must be of .* got lam 2, sigma 3",
    "--lam 1,2 --sigma 1,2 --zip lam,sigma --zip sigma,lam": "--zip must be groups without a common",
    "--zip ,": "--zip must be given at least one value",
    "--steps 0,5": r"--steps must be an integer in \[1,",
    "--steps 100 --times 0,101": r"--times must be an integer in \[0, 100\], got 101",
    "--chunk 0": "--chunk must be an integer in",
    "--refine 2": r"--refine must be in \(0, 1\]",
    "--most-trajectories 9": "--most-trajectories must be used with refine",
    "--threads 0": "--threads must be an integer in",
    "--workers 0": r"--workers must be an integer in \[1, 1024\]",
    "--executor threads --workers 2": "--workers must be used with executor loky or dask",
    "--executor cluster": "--executor must be one of threads, loky, dask",
    "--executor loky --threads 2": "--threads must be left out with executor loky",
    "--executor loky --scheduler tcp://a:1": "--scheduler must be used with executor dask, got loky",
    "--plot map.gif": "--plot must be a file that ends in",
    "--plot elsewhere/map.png": "--plot must be in an existing folder",
    "--opt adam,sgd --steps 5 --plot map.png": "--x must be an axis of numbers|--plot must be",
    "--out elsewhere/map.zarr": "--out must be in an existing folder",
    "--out map.nc": "--out must be a folder that ends in .zarr",
    "--out /proc/map.zarr": "--out must be in a writable folder",
    "--lam": "Option '--lam' requires an argument",
    "--frobnicate": "No such option: --frobnicate",
}


@pytest.mark.parametrize("options", BAD)
def test_refused(capsys: pytest.CaptureFixture[str], options: str) -> None:
    out_option = "" if "--out" in options else "--out map.zarr"
    code, out, err = run(capsys, f"sweep {out_option} {options}")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("Error: ") and re.search(BAD[options], line)
    assert list(Path().iterdir()) == []


def test_a_sweep_without_a_place_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "sweep --lam 1,2") == (2, "", "Error: Missing option '--out'.\n")
    assert run(capsys, "plot") == (2, "", "Error: Missing argument 'STORE'.\n")
    assert list(Path().iterdir()) == []


def test_a_disk_without_room_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(free=2**20)
    monkeypatch.setattr("regdyn.sweeps.store.shutil.disk_usage", lambda folder: free)
    command = "sweep --lam 0:1:100 --sigma 0:1:100 --out map.zarr"
    code, out, err = run(capsys, command)
    assert (code, out) == (2, "")
    wanted = (
        r"Error: --out must be on a disk with room for it: 10000 points .* and 0.000977 GiB are free"
    )
    assert re.match(wanted, err) and list(Path().iterdir()) == []
    free.free = 2**30
    assert run(capsys, f"{command} --steps 1 --trajectories 1 --quiet") == (0, "", "")


def test_a_picture_that_is_there_stops_a_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    Path("map.png").write_text("old")
    code, out, err = run(capsys, f"sweep {GRID} --out map.zarr --plot map.png")
    assert (code, out) == (2, "")
    assert err == "Error: --plot must be a new file (--force overwrites), got map.png, which exists\n"
    assert [file.name for file in Path().iterdir()] == ["map.png"]
    assert run(capsys, f"sweep {GRID} --out map.zarr --plot map.png --force --quiet") == (0, "", "")
    assert Path("map.png").read_bytes().startswith(b"\x89PNG")


def test_force_for_a_picture_keeps_the_same_sweep(capsys: pytest.CaptureFixture[str]) -> None:
    command = f"sweep {GRID} --out map.zarr --plot map.png --quiet"
    assert run(capsys, command)[0] == 0
    begun = regdyn.Sweep("map.zarr").sessions
    assert run(capsys, f"{command} --force") == (0, "", "")
    assert regdyn.Sweep("map.zarr").sessions == begun


# --- regdyn plot ----------------------------------------------------------------------------------


def test_plot(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --quiet")
    assert run(capsys, "plot map.zarr") == (0, "map.png\n", "")
    code, out, err = run(capsys, "plot map.zarr")
    assert (code, out) == (2, "") and "map.png, which exists" in err
    command = "plot map.zarr --what spread --at opt=sgd --out other.svg --quiet"
    assert run(capsys, command) == (0, "", "")
    first = Path("other.svg").read_text()
    assert "standard deviation" in first and "SGD, L2, threshold" in first and "Adam" not in first
    assert run(capsys, f"{command} --title NAME --force") == (0, "", "")
    assert Path("other.svg").read_text() != first and "NAME" in Path("other.svg").read_text()
    assert sorted(file.name for file in Path().iterdir()) == ["map.png", "map.zarr", "other.svg"]


def test_a_picture_goes_where_the_command_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(capsys, f"sweep {GRID} --out map.zarr --quiet")
    Path("here").mkdir()
    monkeypatch.chdir("here")
    command = "plot ../map.zarr --at sigma=1e-6 --at optimizer=adam --training 100,200"
    assert run(capsys, command) == (0, "map.png\n", "")
    assert [file.name for file in Path().iterdir()] == ["map.png"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store") / "map.zarr"
    grid = {"optimizer": ["adam", "sgd"], "lam": [1e-3, 1e-2], "sigma": [1e-6, 1e-5]}
    return regdyn.sweep(grid, out=out, steps=100, trajectories=8).path


BAD_PICTURES = {
    "nothing.zarr": "STORE must be the store of a sweep, got nothing.zarr, which is missing",
    "folder": "STORE must be the store of a sweep, got folder, which is something else",
    "{store} --what pasage": r"--what must be one of passage, below, spread \(nearest: passage\)",
    "{store} --x lambda": r"--x must be one of lam, sigma \(nearest: lam\), got 'lambda'",
    "{store} --x optimizer": "--x must be one of lam, sigma",
    "{store} --x lam --y lam": "--y must be one of sigma, got 'lam'",
    "{store} --at lam": "--at must be NAME=VALUE, got lam",
    "{store} --at lam=": "--at must be NAME=VALUE, got lam=",
    "{store} --at lam=x": "--at must be lam=NUMBER, got x",
    "{store} --at lamda=1": r"--at must be one of .*\(nearest: lam\), got 'lamda'",
    "{store} --at opt=adma": r"--at must be one of adam, sgd \(nearest: adam\)",
    "{store} --at lam=1 --at sigma=1": "--x must be an axis of numbers, and this map has none",
    "{store} --training 0": "--training must be steps >= 1, got 0",
    "{store} --training 1.5": "--training must be .*1.5",
    "{store} --training 100,x": r"--training must be .*\(column 5: x is not a number\)",
    "{store} --out map.gif": "--out must be a file that ends in .png, .pdf or .svg, got map.gif",
    "{store} --out elsewhere/map.png": "--out must be in an existing folder",
    "{store} --out folder": "--out must be a file",
    "{store} --frobnicate": "No such option: --frobnicate",
}


@pytest.mark.parametrize("options", BAD_PICTURES)
def test_a_picture_is_refused(capsys: pytest.CaptureFixture[str], options: str, store: Path) -> None:
    Path("folder").mkdir()
    code, out, err = run(capsys, f"plot {options.format(store=store)}")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("Error: ") and re.search(BAD_PICTURES[options], line)
    assert [path.name for path in Path().rglob("*")] == ["folder"]


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
