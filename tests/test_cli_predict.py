"""`regdyn predict` as its users meet it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import regdyn
from regdyn.cli import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["predict", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines() if line.split()[:1] and
            line.split()[0] in regdyn.OPTIMIZERS and ":" not in line]  # fmt: skip


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--opt", "all", "--reg", "l2,decoupled", "--lam", "1e-3,1e-2")
    shown = rows(out)
    assert (code, err) == (0, "")
    assert [row[0] for row in shown] == [name for name in regdyn.OPTIMIZERS for _ in range(4)]
    median = regdyn.predict("adam", lam=1e-3).median_steps
    assert [row[3] for row in shown if row[:3] == ["adam", "l2", "0.001"]] == [f"{median:.0f}"]
    assert max(map(len, out.splitlines()[2:-3])) <= 120 and "…" not in out


def test_json_equals_python(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--opt", "sgd", "--lam", "1e-3", "--sigma", "1e-4", "--burn-in-steps", "0"]
    code, out, _ = run(capsys, *arguments, "--momentum", "0.5", "--theta0", "2", "--json")
    (shown,) = json.loads(out)["predictions"]
    same = regdyn.predict(
        "sgd", lam=1e-3, sigma=1e-4, burn_in_steps=0, momentum=0.5, theta0=2.0
    )  # fmt: skip
    assert code == 0 and shown == json.loads(json.dumps(same.to_dict()))


@pytest.mark.parametrize("reg", ["l2", "decoupled", "paper"])
@pytest.mark.parametrize("name", regdyn.OPTIMIZERS)
def test_verify_states_its_error(capsys: pytest.CaptureFixture[str], name: str, reg: str) -> None:
    lam = {"l2": "1e-2", "paper": "1e-2"}.get(reg, "3")
    arguments = ["--opt", name, "--reg", reg, "--lam", lam, "--lr", "0.01"]
    code, out, _ = run(capsys, *arguments, "--verify", "--trajectories", "512")
    (row,) = rows(out)
    error, half = (float(x) for x in re.search(r"([+-][\d.]+) ± ([\d.]+) %", out).groups())  # type: ignore[union-attr]
    assert code == 0 and row[0] == name
    assert abs(error) < 6 + 2 * half


def test_verify_sees_a_wrong_prediction(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = regdyn.prediction.predict

    def wrong(optimizer: str, *, lam: float, **rest: object) -> object:
        return right(optimizer, lam=1.25 * lam, **rest)

    monkeypatch.setattr("regdyn.prediction.predict", wrong)
    code, out, _ = run(capsys, "--opt", "sgd", "--lam", "1e-2", "--verify")
    assert code == 0 and rows(out)[0][2] == "0.0125"


def test_verify_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys, "--opt", "sgd", "--lam", "1e-2", "--verify", "--seed", "7", "--steps", "2000", "--json"
    )
    (shown,) = json.loads(out)["predictions"]
    simulated = shown["simulated"]
    assert code == 0 and simulated["seed"] == 7
    assert simulated["ci_low"] <= simulated["median_steps"] <= simulated["ci_high"]
    result = regdyn.simulate("sgd", lam=1e-2, trajectories=1024, steps=2000, seed=7)
    assert simulated["median_steps"] == result.first_passage_quantile()
    assert simulated["share_below"] == result.share_below


def test_beyond_all_steps_is_none_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--lam", "0", "--reg", "none", "--sigma", "0", "--burn-in-sigma", "0"]
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0 and json.loads(out)["predictions"][0]["median_steps"] is None
    code, out, _ = run(capsys, *arguments, "--verify", "--steps", "100")
    assert code == 0 and "> 1e12" in out


def test_the_other_way_round(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--opt", "adam,adagrad", "--within", "5000")
    assert code == 0
    bound = regdyn.prunes("adam", steps=5000)
    spared = regdyn.leaves_alone("adam", steps=5000)
    assert rows(out)[0][2:] == [f"{bound.lam:.3g}", f"{spared.lam:.3g}"]
    assert "none in [1e-09, 1]" in out
    code, out, _ = run(capsys, "--within", "5000", "--loss", "0.5", "--json")
    (shown,) = json.loads(out)["bounds"]
    assert shown["leaves_alone"]["lam"] == regdyn.leaves_alone("adam", steps=5000, loss=0.5).lam


def test_schedule_and_stds_from_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "s.npy", np.full(50, 1e-4))
    arguments = ["--opt", "sgd", "--lam", "1e-2", "--sigma", str(tmp_path / "s.npy"), "--json"]
    code, out, _ = run(capsys, *arguments, "--schedule", "step:200:0.5")
    same = regdyn.predict("sgd", lam=1e-2, sigma=[1e-4], schedule=regdyn.Step(200, 0.5))
    assert code == 0
    assert json.loads(out)["predictions"][0]["median_steps"] == pytest.approx(same.median_steps)


def test_a_schedule_goes_on_after_steps(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--opt", "sgd", "--lam", "1e-3", "--schedule", "restarts:500", "--steps", "1000"]
    code, out, _ = run(capsys, *arguments, "--verify", "--trajectories", "256")
    assert code == 0 and abs(float(re.search(r"([+-][\d.]+) ± ", out).group(1))) < 2  # type: ignore[union-attr]
    arguments[3] = "1e-6"
    code, out, _ = run(capsys, *arguments)
    assert code == 0 and "the schedule is read for 1000000 steps" in out


def test_what_diverges_is_left_out_of_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--opt", "sgd,adam", "--lam", "1e6")
    assert code == 0 and [row[0] for row in rows(out)] == ["adam"]
    assert err.startswith("Warning: sgd l2 1e+06: the closed form needs a step short enough")


def test_the_end_of_the_search_is_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--within", "1000", "--theta0", "1e-5")
    assert code == 0 and "<= 1e-09" in out


@pytest.mark.parametrize(
    "arguments, caveat",
    [
        ("--opt adamax --lr 0.1 --lam 1e-3", "lr lam > sigma / 2"),
        ("--opt adadelta --theta0 100 --lam 1e-3", "lam theta0 far beyond sqrt"),
        ("--opt adamax --beta2 0.9", "a second moment of few gradients"),
        ("--opt sgd --lam 0.1", "a step is wider than the band"),
        ("--opt adadelta --sigma 0.1", "noise beyond sqrt"),
    ],
)
def test_caveats(capsys: pytest.CaptureFixture[str], arguments: str, caveat: str) -> None:
    code, out, _ = run(capsys, *arguments.split())
    assert code == 0 and caveat in out


def test_a_formula_far_from_the_closure_is_not_shown() -> None:
    assert regdyn.predict("sgd", lam=1e-3).closed_form == "sgd"
    assert regdyn.predict("sgd", lam=1e-4, threshold=1e-12).closed_form is None


BAD = {
    "--trajectories 10": "--trajectories must be used with --verify",
    "--lam -1": r"--lam must be in \[0, inf\)",
    "--opt adm": "--opt must be one of sgd",
    "--beta2 1": r"--beta2 must be in \[0, 1\)",
    "--threshold 0": r"--threshold must be in \(0, inf\)",
    "--theta0 inf": "--theta0 must be in",
    "--sigma -1": r"--sigma must be in \[0, inf\)",
    "--steps 0": "--steps must be an integer in",
    "--within 0": "--within must be an integer in",
    "--within 10 --loss 2": r"--loss must be in \(0, 1\)",
    "--loss 0.5": "--loss must be used with --within",
    "--within 10 --verify": "--verify must be used without --within",
    "--within 10 --reg none": "--reg must be a decay: l2, decoupled or paper",
    "--opt sgd --lr 30 --momentum 0 --lam 1": "the closed form needs a step short enough",
    "--verify --trajectories 0": "--trajectories must be an integer",
    "--verify --seed -1": "--seed must be an integer",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input(capsys: pytest.CaptureFixture[str], arguments: str) -> None:
    code, out, err = run(capsys, *shlex.split(arguments))
    assert (code, out) == (2, "")
    assert re.search(BAD[arguments], err) and err.startswith("Error: ") and err.count("\n") == 1


def test_predictions_need_no_compiler() -> None:
    code = (
        "import sys; from regdyn.cli import main; main(['predict']); "
        "print([m for m in ('numba', 'scipy.stats', 'matplotlib', 'xarray') if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"
