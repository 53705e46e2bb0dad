"""The command line as its users meet it."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import pytest
import xarray

import regdyn
from regdyn.cli import main

SMALL = ["--steps", "200", "--trajectories", "64"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["simulate", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--opt", "adam", "--lam", "1e-4", *SMALL)
    assert code == 0
    assert "adam, l2 0.0001: 64 trajectories x 200 steps" in out
    assert "median |theta|" in out and "First step with |theta| < 0.001: median never" in out


def test_summary_of_several(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--opt", "all", "--reg", "l2,decoupled", "--lam", "1e-2,1e-3", *SMALL)
    assert code == 0
    rows = [line.split() for line in out.splitlines() if line.strip().startswith((*regdyn.OPTIMIZERS,))]
    assert [row[0] for row in rows] == [name for name in regdyn.OPTIMIZERS for _ in range(4)]


def test_json_equals_python(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--lam", "1e-3", "--beta2", "0.999", "--seed", "3", "--json", *SMALL)
    assert code == 0
    (shown,) = json.loads(out)["results"]
    result = regdyn.simulate(regdyn.Adam(beta2=0.999), lam=1e-3, seed=3, steps=200, trajectories=64)
    assert shown["decay"] == result.to_dict()["decay"]
    assert shown["config"]["optimizer"] == {"type": "adam", **regdyn.Adam(beta2=0.999).parameters()}


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--csv", "--opt", "sgd,adam", *SMALL)
    lines = out.splitlines()
    assert code == 0 and lines[0].startswith(
        "optimizer,regularization,lam,step,alive,mean,std,abs_q0.05"
    )
    assert len({tuple(line.split(",")[:1]) for line in lines[1:]}) == 2


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out, err = capsys.readouterr()
    assert err == "" and out.startswith("Usage:") and "simulate" in out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_standard_output_that_is_full() -> None:
    command = [sys.executable, "-m", "regdyn", "simulate", *SMALL]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "Error: the output cannot be written (No space left on device)\n"


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
@pytest.mark.parametrize("suffix", [".nc", ".json", ".csv"])
def test_a_file_too_large_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    """As on a full disk."""
    simulate = [sys.executable, "-m", "regdyn", "simulate", "--out", f"run{suffix}", "--quiet", *SMALL]
    command = ["bash", "-c", f"ulimit -f 1; exec {shlex.join(simulate)}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert re.fullmatch(r"Error: --out must be writable, got run.*File too large.*\n", ended.stderr)
    assert list(tmp_path.iterdir()) == []


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--quiet", *SMALL) == (0, "", "")


@pytest.mark.parametrize("suffix", [".nc", ".json", ".csv"])
def test_out(capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"run{suffix}"
    keep = ["--keep", "2"] if suffix == ".nc" else []
    code, _, _ = run(capsys, "--out", str(target), "--opt", "adam,sgd", *keep, *SMALL)
    assert code == 0 and [p.name for p in tmp_path.iterdir()] == [target.name]
    if suffix == ".nc":
        with xarray.open_dataset(target, engine="h5netcdf") as data:
            assert data["optimizer"].values.tolist() == ["adam", "sgd"]
            assert data["path"].shape == (2, 201, 2)
            assert data.attrs["regdyn_version"] == regdyn.__version__
    code, _, err = run(capsys, "--out", str(target), *SMALL)
    assert code == 2 and "--out must be a new file (--force overwrites)" in err
    assert run(capsys, "--out", str(target), "--force", "--quiet", *SMALL) == (0, "", "")


def test_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "decay.png"
    assert run(capsys, "--plot", str(target), *SMALL)[0] == 0
    assert target.read_bytes()[:4] == b"\x89PNG"


BAD = {
    "--opt adm": "--opt must be one of sgd, adam, .*nearest: adam",
    "--opt ,": "--opt must be given at least one value",
    "--lam -1": r"--lam must be in \[0, inf\), got -1",
    "--lam nan": r"--lam must be in \[0, inf\), got nan",
    "--lam 1e-4,x": r"--lam must be a number in \[0, inf\), got 'x'",
    "--lr -0.1": r"--lr must be in \[0, inf\), got -0.1",
    "--lr nan": r"--lr must be in \[0, inf\), got nan",
    "--beta1 1": r"--beta1 must be in \[0, 1\), got 1",
    "--beta2 -0.1": r"--beta2 must be in \[0, 1\), got -0.1",
    "--opt sgd --beta1 0.9": r"--beta1 must be used with an optimizer that has it \(adam, ",
    "--opt sgd --nesterov --momentum 0": "--nesterov must be used with momentum > 0",
    "--reg l3": "--reg must be one of none, l2, decoupled, paper",
    "--steps 0": r"--steps must be an integer in \[1, ",
    "--steps 1.5": r"--steps must be an integer in \[1, ",
    "--trajectories 0": r"--trajectories must be an integer in \[1, ",
    "--trajectories 1e12": r"--trajectories must be few enough to fit: .* GiB are free",
    "--theta0 inf": "--theta0 must be in",
    "--noise brown": "--noise must be one of gaussian",
    "--noise trace": "--trace must be given with noise trace",
    "--noise gated --trace x.npy": "--trace must be used with noise trace",
    "--noise gaussian --trace x.npy": "--trace must be used with noise trace, got gaussian",
    "--gate-probability 0.5": "--gate-probability must be used with noise gated",
    "--dof 5": "--dof must be used with noise student-t",
    "--noise none --sigma 1": "--sigma must be used with noise gaussian or gated or student-t",
    "--sigma x.npy --burn-in-steps 5": "--burn-in-steps must be used with a number for sigma",
    "--keep 3": "--keep must be used with --out FILE.nc",
    "--keep 3 --out x.csv": "--keep must be used with --out FILE.nc",
    "--trace missing.npy": "--trace must be a readable .npy file",
    "--trace {tmp}/nan.npy --steps 3": "--trace must be finite, got NaN or infinity at step 2",
    "--trace {tmp}/long.npy --steps 3": r"--trace must be of shape \(3,\) or \(3, 4096\)",
    "--trace {tmp}/pickled.npy": "--trace must be a readable .npy file",
    "--sigma -1": r"--sigma must be in \[0, inf\), got -1",
    "--sigma missing.npy": "--sigma must be a readable .npy file",
    "--burn-in-sigma nan": "--burn-in-sigma must be in",
    "--burn-in-steps -1": "--burn-in-steps must be an integer",
    "--noise gated --gate-probability 1.1": r"--gate-probability must be in \[0, 1\]",
    "--noise student-t --dof 2": r"--dof must be in \(2, inf\), got 2",
    "--schedule warmup": "--schedule must be constant, step:",
    "--schedule step:10,5": "--schedule must be constant, .*increasing step numbers",
    "--schedule missing.npy": "--schedule must be a readable .npy file",
    "--threshold 0": r"--threshold must be in \(0, inf\)",
    "--dtype half": "--dtype must be one of float64, float32",
    "--seed -1": "--seed must be an integer",
    "--keep 99999": "--keep must be an integer in",
    "--threads 0": "--threads must be an integer",
    "--json --csv": "--json must be used without --csv",
    "--out {tmp}/x.txt": "--out must be a file that ends in .nc, .json or .csv",
    "--out {tmp}/no/x.nc": "--out must be in an existing folder",
    "--out /proc/x.nc": "--out must be in a writable folder",
    "--out {tmp}": "--out must be a file that ends in",
    "--plot {tmp}/x.gif": "--plot must be a file that ends in .png, .pdf or .svg",
    "--frobnicate": "No such option: --frobnicate",
    "--steps": "requires an argument",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: str) -> None:
    np.save(tmp_path / "nan.npy", [0.0, np.nan, 0.0])
    np.save(tmp_path / "long.npy", np.zeros(4))
    np.save(tmp_path / "pickled.npy", np.array([{}]), allow_pickle=True)
    before = sorted(tmp_path.iterdir())
    code, out, err = run(capsys, *shlex.split(arguments.format(tmp=tmp_path)))
    assert (code, out) == (2, "")
    assert re.search(BAD[arguments], err) and err.startswith("Error: ")
    assert err.count("\n") == 1 and "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_a_missing_library_is_exit_code_3(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None; "
        "from regdyn.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["simulate", "--plot", str(tmp_path / "x.png"), *SMALL]
    shown = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert shown.returncode == 3 and "pip install" in shown.stderr and shown.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_diverging_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--opt", "sgd", "--lr", "3", "--momentum", "0", "--lam", "1", "--steps", "2000"]
    code, out, err = run(capsys, *arguments, "--trajectories", "64", "--json")
    assert code == 0 and "64 of 64 trajectories diverged, the first at step" in err
    assert json.loads(out)["results"][0]["decay"]["mean"][-1] is None


@pytest.mark.parametrize("command", [[], ["simulate"], ["predict"], ["check"]], ids=str)
def test_examples_in_help_work(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert main([*command, "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    examples = [line for line in lines if line.startswith("regdyn ")]
    assert examples
    for example in examples:
        assert main(shlex.split(example)[1:]) == 0
        capsys.readouterr()


def test_every_rule_parameter_is_an_option() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "regdyn", "simulate", "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for rule in regdyn.OPTIMIZERS.values():
        for name in rule.parameter_names():
            assert f"--{name.replace('_', '-')} " in shown


def test_version() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "regdyn", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"regdyn {regdyn.__version__}\n"


def test_light_import() -> None:
    code = (
        "import sys, regdyn, regdyn.cli; "
        "print([m for m in ('numba', 'torch', 'matplotlib', 'xarray', 'numpy') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_interrupt_leaves_no_file(tmp_path: Path) -> None:
    regdyn.simulate("adam", steps=8, trajectories=8)  # the kernel is in the cache
    # A shell that starts the tests in the background makes its children ignore Ctrl-C: undo that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from regdyn.cli import script; script()"
    )
    arguments = ["simulate", "--steps", "1e9", "--out", str(tmp_path / "x.nc")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(6)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "Error: interrupted, no file was written"
    assert list(tmp_path.iterdir()) == []


def test_read_only_install_and_home(tmp_path: Path) -> None:
    """The compiled kernels find a place even where neither package nor home can be written."""
    environment: dict[str, Any] = os.environ | {
        "HOME": "/proc/nowhere", "XDG_CACHE_HOME": "/proc/nowhere", "TMPDIR": str(tmp_path),
    }  # fmt: skip
    environment.pop("REGDYN_CACHE_DIR", None)
    arguments = [sys.executable, "-m", "regdyn", "simulate", *SMALL]
    first = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert "Compiling the adam kernel" in first.stderr
    second = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert second.stderr == ""


def test_saved_file_is_plain_netcdf(tmp_path: Path) -> None:
    result = regdyn.simulate("adam", steps=100, trajectories=32)
    result.save(tmp_path / "x.nc")
    with h5netcdf.File(tmp_path / "x.nc") as data:
        assert set(data.variables) >= {"mean", "std", "histogram", "first_passage"}
