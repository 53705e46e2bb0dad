"""`regdyn train` as its users meet it."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

import regdyn
from regdyn.cli import main
from regdyn.nets.data import DATASETS
from regdyn.nets.mlp import ACTIVATIONS, INITS, NORMS
from regdyn.nets.penalties import PENALTIES
from regdyn.nets.sparsity import ACTIVATION_THRESHOLDS, SCALE_THRESHOLDS

SMALL = ["--steps", "60", "--width", "12"]
NOTE = "Note: 3 of 64 features are constant in the training set and are set to 0\n"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["train", *arguments])
    out, err = capsys.readouterr()
    # On a machine that has not trained before.
    return code, out, re.sub("Compiling the training kernel.*\n", "", err)


def rows(out: str) -> list[list[str]]:
    """Rows of the table of several runs."""
    return [line.split() for line in out.splitlines() if line.strip().startswith((*regdyn.OPTIMIZERS,))]


def trained(**settings: Any) -> regdyn.TrainResult:
    (result,) = regdyn.train([regdyn.TrainConfig(**{"steps": 60, "hidden": (12, 12), **settings})])
    return result


# --- One run --------------------------------------------------------------------------------------


def test_a_row_for_each_layer(capsys: pytest.CaptureFixture[str]) -> None:
    # The scales die so fast that something stands in every column.
    arguments = ["--gamma0", "2e-3", "--lam", "0.1", "--depth", "3", "--seed", "4"]
    code, out, err = run(capsys, *arguments, *SMALL)
    assert (code, err) == (0, NOTE)
    result = trained(gamma0=2e-3, lam=0.1, hidden=(12,) * 3, seed=4)
    lines = [line.split() for line in out.splitlines()]
    assert out.startswith("adam, l2 0.1: Adam(lr=0.001, beta1=0.9")
    for name, layer in (*zip("123", result.layers), ("total", result.total)):
        (shown,) = [line for line in lines if len(line) > 5 and line[0] == name and "%" in line[2]]
        assert layer.by_scale and layer.by_activation and layer.expected_activation is not None
        shares = [
            *(layer.by_scale[limit] for limit in SCALE_THRESHOLDS),
            *(layer.by_activation[limit] for limit in ACTIVATION_THRESHOLDS),
            layer.by_norm, layer.universality, layer.active_measured, layer.active_predicted,
        ]  # fmt: skip
        numbers = [str(layer.units), *(f"{share:.1%}" for share in shares)]
        assert shown[1:] == [*numbers, f"{layer.expected_activation:.3g}"]
    assert 0 < result.sparsity < 1
    assert f"Test error {result.error:.2%}, training error {result.train_error:.2%}, loss" in out
    assert (
        f"Dead (|gamma| < 0.001): {result.sparsity:.1%} of the units. Without them the network has "
        f"{result.share_removed:.1%} fewer parameters and a test error of "
        f"{result.error_after_removal:.2%}."
    ) in out
    assert re.search(r"[\d.]+ s, [\d,]+ steps/s\.", out)


def test_without_normalisation_there_are_no_columns_of_gamma(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run(capsys, "--norm", "none", "--depth", "1", *SMALL)
    assert code == 0 and "|gamma|\n" not in out and "Phi(" not in out and "peak" in out
    assert "Dead (by the norm of their weights): 0.0% of the units." in out
    assert "total" not in out, "of one layer"


def test_what_is_not_usual_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--activation leaky_relu --slope 0.2 --psbn-alpha 0.5 --gamma0 0.5 --beta-lr 2 --init he"
    )
    code, out, _ = run(capsys, *arguments.split(), "--schedule", "step:30", *SMALL)
    assert code == 0
    assert (
        "2 x 12 units, leaky_relu 0.2, batch normalisation, psBN alpha 0.5, gamma0 0.5, beta_lr 2, he\n"
        "batch 40, 60 steps, learning rate x 0.1 after 30 steps, float32, seed 0\n"
    ) in out


def test_json_equals_python(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--opt", "sgd", "--lr", "0.2", "--momentum", "0.5", "--reg", "decoupled"]
    code, out, _ = run(capsys, *arguments, "--dtype", "float64", "--json", *SMALL)
    (shown,) = json.loads(out)["results"]
    rule = regdyn.SGD(lr=0.2, momentum=0.5)
    same = trained(optimizer=rule, regularization="decoupled", dtype="float64").to_dict()
    assert code == 0
    for name in ("config", "loss", "test_error", "final", "failed"):
        assert shown[name] == json.loads(json.dumps(same[name])), name


def test_defaults_are_those_of_python(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--json", "--steps", "1")
    (shown,) = json.loads(out)["results"]
    result = trained(hidden=(256, 256), steps=1).to_dict()
    assert shown["config"] == json.loads(json.dumps(result["config"]))
    assert regdyn.TrainConfig().steps == 6000 and "6000" in help_text(capsys)


def help_text(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["train", "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_names_every_choice(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_text(capsys)
    for name in (*DATASETS, *ACTIVATIONS, *NORMS, *INITS, *PENALTIES, *regdyn.OPTIMIZERS):
        assert name in text
    for rule in regdyn.OPTIMIZERS.values():
        for name in rule.parameter_names():
            assert f"--{name.replace('_', '-')} " in text


def test_the_examples_in_the_help_work(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = re.findall(r"Example: (.*?) Options", help_text(capsys))
    examples = [example.strip() for example in text.split("regdyn ")[1:]]
    assert len(examples) == 3
    shown = []
    for example in examples:
        assert main(shlex.split(example)) == 0
        shown.append(capsys.readouterr().out)
    assert len(rows(shown[0])) == 2 and "basicnet:width=0.25" in shown[1]
    assert [row[3].partition(":")[0] for row in rows(shown[2])] == ["none", "smallest", "largest"]


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--quiet", *SMALL) == (0, "", "")


def test_a_data_set_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(40, 6))
    target = tmp_path / "mine.npz"
    y = np.arange(40) % 3
    np.savez(target, x_train=x, y_train=y, x_test=x[:9], y_test=np.zeros(9, int))
    code, out, err = run(capsys, "--data", str(target), "--batch", "8", *SMALL)
    assert code == 0 and "mine.npz: 40 training and 9 test examples of 6 features, 3 classes" in out
    assert (
        err
        == "Note: the test set has no example of classes 1 and 2; the test error is over the others\n"
    )


# --- Several runs ---------------------------------------------------------------------------------


def test_a_row_for_each_combination(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--opt adam,sgd --reg l2,none --lam 1e-3,1e-2 --width 8,12 --batch 20".split()
    code, out, err = run(capsys, *arguments, "--steps", "60")
    assert (code, err) == (0, NOTE)
    shown = [row[:4] for row in rows(out)]
    decays = [["l2", "0.001"], ["l2", "0.01"], ["none", "–"]]
    assert shown == [[o, *d, w] for o in ("adam", "sgd") for d in decays for w in ("8", "12")]
    result = trained(optimizer="sgd", lam=1e-2, hidden=(12, 12), batch=20)
    (row,) = [row for row in rows(out) if row[:4] == ["sgd", "l2", "0.01", "12"]]
    numbers = (
        f"{result.loss[-1]:.3g}", f"{result.error:.2%}", f"{result.sparsity:.1%}",
        f"{result.share_removed:.1%}", f"{result.error_after_removal:.2%}",
    )  # fmt: skip
    assert tuple(row[4:]) == numbers
    assert "2 hidden layers, relu" in out and "batch 20, 60 steps" in out and "12 runs, " in out


def test_means_over_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--seed", "0:2,7", "--gamma0", "2e-3", "--lam", "0.1"]
    code, out, _ = run(capsys, *arguments, *SMALL)
    results = [trained(seed=seed, gamma0=2e-3, lam=0.1) for seed in (0, 1, 7)]
    dead = [100 * result.sparsity for result in results]
    error = statistics.stdev(dead) / 3**0.5
    assert code == 0 and error > 0
    (row,) = rows(out)
    assert row[:4] == ["adam", "l2", "0.1", "3"]
    assert f"{statistics.mean(dead):.1f} ± {error:.1f} %" in " ".join(row)
    assert "± standard error" in out and "seed 0" not in out


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--csv", "--opt", "adam,sgd", "--seed", "1,2", "--norm", "none", *SMALL)
    table = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    names = [(row["optimizer"], row["seed"]) for row in table]
    assert names == [(name, seed) for name in ("adam", "sgd") for seed in ("1", "2")]
    result = trained(optimizer="sgd", seed=2, norm="none")
    last = table[-1]
    assert float(last["loss"]) == result.loss[-1] and float(last["test_error"]) == result.error
    assert float(last["universality"]) == result.total.universality
    assert last["dead_by_scale_0.001"] == "" == last["failed"] and last["dead_by_norm"] == "0.0"


def test_penalties(capsys: pytest.CaptureFixture[str]) -> None:
    """A run for each; one that all have stands above the table, that of a single run in its label."""
    slimming, lasso = "slimming:0.05", "group-lasso:0.001"
    several = ["--penalty", f"none,{slimming},{lasso},slimming:5e-2", "--reg", "none"]
    code, out, _ = run(capsys, *several, *SMALL)
    shown = rows(out)
    assert code == 0 and "lambda   penalty" in out
    assert [row[:4] for row in shown] == [["adam", "none", "–", p] for p in ("none", slimming, lasso)]
    results = [
        trained(penalty=p, regularization="none") for p in (None, "slimming:5e-2", "group-lasso:1e-3")
    ]
    assert [row[4] for row in shown] == [f"{result.loss[-1]:.3g}" for result in results]
    assert len({float(result.loss[-1]) for result in results}) == 3

    table = list(csv.DictReader(io.StringIO(run(capsys, *several, "--csv", *SMALL)[1])))
    assert [row["penalty"] for row in table] == ["none", slimming, lasso]
    assert [float(row["loss"]) for row in table] == [result.loss[-1] for result in results]

    code, out, _ = run(capsys, "--penalty", lasso, "--lam", "0,1e-3", *SMALL)
    assert code == 0 and f"2 x 12 units, relu, batch normalisation, xavier, {lasso}\n" in out
    assert "penalty" not in out
    code, out, _ = run(capsys, "--penalty", lasso, *SMALL)
    assert code == 0 and out.startswith(f"adam, l2 0.001, {lasso}: Adam(") and out.count(lasso) == 1
    _, out, _ = run(capsys, "--penalty", lasso, "--json", *SMALL)
    (kept,) = json.loads(out)["results"]
    assert kept["config"]["penalty"] == {"type": "group-lasso", "strength": 0.001}
    assert kept["loss"][1:] == trained(penalty=lasso).to_dict()["loss"][1:]


def test_a_penalty_that_one_run_cannot_have(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--penalty", "slimming:0.1,group-lasso:0.1", "--norm", "none"]
    code, out, _ = run(capsys, *arguments, "--csv", *SMALL)
    first, second = csv.DictReader(io.StringIO(out))
    assert code == 1 and first["failed"].startswith("penalty must be none or group-lasso:STRENGTH")
    assert (first["penalty"], second["penalty"]) == ("slimming:0.1", "group-lasso:0.1")
    assert first["loss"] == second["failed"] == ""


@pytest.mark.parametrize("suffix", [".nc", ".json"])
def test_out(capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"runs{suffix}"
    code, _, _ = run(capsys, "--out", str(target), "--opt", "adam,sgd", "--seed", "3", *SMALL)
    assert code == 0 and [p.name for p in tmp_path.iterdir()] == [target.name]
    result = trained(optimizer="sgd", seed=3)
    if suffix == ".nc":
        with xarray.open_datatree(target, engine="h5netcdf") as tree:
            np.testing.assert_array_equal(tree["run_1"]["gamma_2"], result.gamma[1])
    else:
        shown = json.loads(target.read_text())["results"]
        assert [entry["config"]["optimizer"]["type"] for entry in shown] == ["adam", "sgd"]
        assert shown[1]["final"] == json.loads(json.dumps(result.to_dict()["final"]))
    code, _, err = run(capsys, "--out", str(target), *SMALL)
    assert code == 2 and "--out must be a new file (--force overwrites)" in err
    assert run(capsys, "--out", str(target), "--force", "--quiet", *SMALL) == (0, "", "")


def test_plot(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "runs.png"
    assert run(capsys, "--plot", str(target), "--opt", "adam,sgd", *SMALL)[0] == 0
    assert target.read_bytes()[:4] == b"\x89PNG"


# --- Pruned runs ----------------------------------------------------------------------------------

PRUNED = ["--prune", "none", "--prune", "largest:rate=0.25", "--prune", "random:noise=zeroing,hold=9"]


def test_a_row_for_each_pruning(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *PRUNED, "--seed", "0:2", *SMALL)
    assert (code, err) == (0, NOTE)
    none, largest, noise = rows(out)
    assert none[3] == "none" and largest[3] == "largest:fraction=0.5,rate=0.25"
    assert noise[3] == "random:fraction=0.5,noise=zeroing,hold=9"
    drops = [100 * trained(prune=largest[3], seed=seed).mean_instability for seed in (0, 1)]
    error = statistics.stdev(drops) / 2**0.5
    assert f"{statistics.mean(drops):.2f} ± {error:.2f} %" in " ".join(largest)
    assert "instability: mean loss of test accuracy at an event of pruning" in out
    assert none[none.index("–") - 1] == "%", "no event, no instability"


def test_one_pruned_run(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *PRUNED[2:4], *SMALL)
    result = trained(prune="largest:rate=0.25")
    assert code == 0 and result.mean_instability is not None
    assert ", seed 0, pruned largest:fraction=0.5,rate=0.25\n" in out
    assert (
        f"Pruned 50.0% of the units of 2 layers in 2 events after steps 6 to 45: mean instability "
        f"{result.mean_instability:.2%}, generalisation gap {result.error - result.train_error:.2%}.\n"
    ) in out


def test_pruned_runs_as_csv_json_and_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, *PRUNED, "--csv", "--out", str(tmp_path / "x.nc"), *SMALL)
    table = list(csv.DictReader(io.StringIO(out)))
    result = trained(prune="largest:rate=0.25")
    assert code == 0
    assert [row["prune"].partition(":")[0] for row in table] == ["none", "largest", "random"]
    assert [row["pruning_events"] for row in table] == ["0", "2", "6"], "at most a unit of 6 a time"
    assert [row["pruned_share"] for row in table] == ["0.0", "0.5", "0.0"]
    assert table[0]["mean_instability"] == ""
    assert float(table[1]["mean_instability"]) == result.mean_instability
    assert float(table[1]["generalization_gap"]) == result.error - result.train_error
    with xarray.open_datatree(tmp_path / "x.nc", engine="h5netcdf") as tree:
        assert tree["run_1"]["removed"].values.tolist() == [[3, 3], [6, 6]]
    shown = json.loads(run(capsys, *PRUNED, "--json", *SMALL)[1])["results"]
    assert shown[1]["config"]["prune"]["rate"] == 0.25 and shown[0]["config"]["prune"] is None
    assert [event["step"] for event in shown[1]["prunings"]] == [6, 45]


# --- What goes wrong ------------------------------------------------------------------------------

DIVERGING = ["--opt", "sgd", "--norm", "none", "--lr", "1e6"]


def test_a_single_run_that_diverges(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    files = ["--out", str(tmp_path / "x.nc"), "--plot", str(tmp_path / "x.png")]
    code, out, err = run(capsys, *DIVERGING, *files, *SMALL)
    assert (code, out) == (1, "")
    assert re.fullmatch(
        r"Error: sgd, l2 0\.001: the loss is no longer finite at step \d; no file was written\n", err
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize("steps", [1, 2, 60])
def test_every_overflow_is_found(capsys: pytest.CaptureFixture[str], norm: str, steps: int) -> None:
    """The loss of the last batch is that of the parameters before the last step."""
    code, _, err = run(capsys, "--lr", "1e300", "--norm", norm, "--width", "12", "--steps", str(steps))
    assert code == 1 and re.search(r"the (loss|network) is no longer finite at step [12]$", err.strip())


def test_running_averages_that_overflow(capsys: pytest.CaptureFixture[str]) -> None:
    """The batch's own statistics keep the loss finite."""
    arguments = "--opt sgd --lr 10 --width 16 --steps 2000".split()
    code, _, err = run(capsys, *arguments)
    assert code == 1 and "the network is no longer finite at step 2000" in err


def test_among_others_only_that_run_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    batches = ["--batch", "1,20,2000"]
    reasons = {
        "1": "batch must be an integer in [2, 1438] with normalisation, got 1",
        "2000": "batch must be an integer in [2, 1438] with normalisation, got 2000",
    }
    code, out, err = run(capsys, *batches, *SMALL)
    assert (code, err) == (1, NOTE)
    for row in rows(out):
        batch, rest = row[3], " ".join(row[4:])
        assert rest.endswith(reasons[batch]) if batch in reasons else "%" in rest
    good = trained(batch=20)
    assert f"{good.error:.2%}" in out

    code, out, err = run(capsys, *batches, "--json", "--out", str(tmp_path / "x.json"), *SMALL)
    shown = json.loads(out)["results"]
    assert code == 1 and json.loads((tmp_path / "x.json").read_text())["results"] == shown
    assert [entry["failed"] for entry in shown] == [reasons["1"], None, reasons["2000"]]
    assert [entry["config"]["batch"] for entry in shown] == [1, 20, 2000]
    assert shown[1]["final"]["test_error"] == good.error and shown[0]["final"] is None
    assert f"Warning: adam, l2 0.001, batch 1: {reasons['1']}\n" in err

    code, out, _ = run(capsys, *batches, "--csv", *SMALL)
    table = list(csv.DictReader(io.StringIO(out)))
    assert code == 1 and [row["failed"] for row in table] == [reasons["1"], "", reasons["2000"]]
    assert [row["test_error"] for row in table] == ["", str(good.error), ""]


def test_a_diverged_run_among_others(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "x.png"
    arguments = ["--reg", "decoupled", "--lam", "1e-3,1e30", "--seed", "0:2"]
    code, out, err = run(capsys, *arguments, "--plot", str(target), *SMALL)
    first, second = rows(out)
    assert code == 1 and target.exists() and "Warning: the runs that failed are not drawn\n" in err
    assert first[:4] == ["adam", "decoupled", "0.001", "2"]
    assert second[:6] == ["adam", "decoupled", "1e+30", "0", "of", "2"]
    assert "the loss is no longer finite at step 2" in " ".join(second)
    target.unlink()
    code, out, err = run(capsys, *arguments[:3], "1e30", *arguments[4:], "--plot", str(target), *SMALL)
    assert code == 1 and "Warning: no run is left to be drawn" in err and not target.exists()


def test_more_memory_than_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--width", "1000000")
    assert (code, out) == (2, "")
    assert re.fullmatch(
        r"Error: --width must be narrow enough to fit: training needs .* GiB and .* free\n", err
    )


BAD = {
    "--opt adm": "--opt must be one of sgd, adam, .*nearest: adam",
    "--lam -1": r"--lam must be in \[0, inf\), got -1",
    "--lam 1e-3,x": r"--lam must be a number in \[0, inf\), got 'x'",
    "--opt sgd --beta1 0.9": r"--beta1 must be used with an optimizer that has it \(adam, ",
    "--reg l3": "--reg must be one of none, l2",
    "--steps 0": r"--steps must be an integer in \[1, ",
    "--prune smalest": "--prune must be one of smallest, .*nearest: smallest",
    "--prune smallest:fraction=1": r"--prune must be smallest .* fraction must be in \(0, 1\), got 1$",
    "--prune smallest --prune largest:x=1": "--prune must be largest .* KEY must be one of what, ",
    "--prune largest:start=61": r"--prune must be such that start and end .* in \[0, 60\], got largest",
    "--prune largest:layers=C1": "--prune must be such that layers are among layer1, layer2, or last1",
    "--prune largest --psbn-alpha 0.1": "--prune must be used with noise or what=weights: .*psBN",
    "--prune largest:importance=ebn --norm none": "--prune must be such that importance is l1 or l2",
    "--steps 1e12": r"--steps must be an integer in \[1, 1000000000\], got 1e12",
    "--data digitz": "--data must be one of digits, .*nearest: digits",
    "--data nothere.npz": "--data must be a readable .npz file of real numbers, got nothere.npz",
    "--data {tmp}/objects.npz": "--data must be an .npz without pickled objects",
    "--data {tmp}/nan.npz": "--data must be .* x_train must be finite, got NaN at row 3, column 1",
    "--data {tmp}/labels.npz": "--data must be .* y_test must be labels of training examples, 0 … 2",
    "--data synthetic:classes=0": "--data must be synthetic .* classes must be an integer",
    "--batch 1": r"--batch must be an integer in \[2, 1438\] with normalisation, got 1",
    "--batch 1439": r"--batch must be an integer in \[2, 1438\] with normalisation, got 1439",
    "--batch 1,1439": r"--batch must be an integer in \[2, 1438\] with normalisation, got 1",
    "--batch 0": r"--batch must be an integer in \[2, 1438\] with normalisation, got 0",
    "--batch 0 --norm none": r"--batch must be an integer in \[1, 1438\], got 0",
    "--batch x": r"--batch must be an integer in \[1, 1438\], got x",
    "--batch 1e13": r"--batch must be an integer in \[1, 1438\], got 1e13",
    "--slope 0.2": r"--slope must be left out but for leaky_relu, got 0\.2",
    "--width 0": "--width must be an integer in",
    "--width 8,": None,
    "--width ,": "--width must be given at least one value",
    "--depth 0": "--depth must be an integer in",
    "--depth 101": r"--depth must be an integer in \[1, 100\]",
    "--activation tnh": "--activation must be one of relu, .*nearest: tanh",
    "--slope 2": r"--slope must be in \[0, 1\], got 2",
    "--norm layer": "--norm must be one of batch, none",
    "--psbn-alpha -1": r"--psbn-alpha must be in \[0, inf\), got -1",
    "--alpha 0.5": r"--alpha must be used with an optimizer that has it \(rmsprop",
    "--gamma0 nan": "--gamma0 must be in",
    "--beta0 x": "--beta0 must be a number in",
    "--gamma-lr -1": "--gamma-lr must be in",
    "--beta-lr inf": "--beta-lr must be in",
    "--init zero": "--init must be one of xavier, he",
    "--penalty slimming": r"--penalty must be slimming:STRENGTH with STRENGTH in \[0, inf\), got slimm",
    "--penalty lasso:1": "--penalty must be one of none, slimming, group-lasso .nearest: group-lasso",
    "--penalty group-lasso:-1": r"--penalty must be group-lasso:STRENGTH .*, got group-lasso:-1",
    "--penalty ,": "--penalty must be given at least one value",
    "--penalty slimming:1 --norm none": "--penalty must be none or group-lasso:STRENGTH without normal",
    "--dtype half": "--dtype must be one of float64, float32",
    "--threshold 0": r"--threshold must be in \(0, inf\)",
    "--schedule warmup": "--schedule must be constant, step:",
    "--seed -1": "--seed must be an integer",
    "--seed 5:2": "--seed must be FROM:TO with FROM below TO, got 5:2",
    "--seed 0:x": "--seed must be an integer",
    "--seed 0:1e9": "--seed must be such that there are at most 1000 runs, got 1000 or more",
    "--seed 0:500 --opt all": "--seed must be such that there are at most 1000 runs, got 3500",
    "--threads 0": "--threads must be an integer",
    "--json --csv": "--json must be used without --csv",
    "--out {tmp}/x.csv": "--out must be a file that ends in .nc or .json",
    "--out {tmp}/no/x.nc": "--out must be in an existing folder",
    "--plot {tmp}/x.gif": "--plot must be a file that ends in .png, .pdf or .svg",
    "--plot {tmp}/x.png --seed 0:7": "--plot must be used with at most 6 runs, got 7",
    "--frobnicate": "No such option: --frobnicate",
}


@pytest.mark.parametrize("arguments", BAD)
def test_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: str) -> None:
    x, y = np.random.default_rng(0).normal(size=(12, 2)), np.arange(12) % 3
    good = dict(x_train=x, y_train=y, x_test=x, y_test=y)
    spoiled = x.copy()
    spoiled[3, 1] = np.nan
    np.savez(tmp_path / "nan.npz", **good | {"x_train": spoiled})
    np.savez(tmp_path / "labels.npz", **good | {"y_test": y + 1})
    np.savez(tmp_path / "objects.npz", **good | {"x_train": np.array([{}] * 12)})
    before = sorted(tmp_path.iterdir())
    code, out, err = run(capsys, *SMALL, *shlex.split(arguments.format(tmp=tmp_path)))
    wanted = BAD[arguments]
    if wanted is None:
        assert code == 0
        return
    assert (code, out) == (2, "")
    assert re.search(wanted, err) and err.startswith("Error: ")
    assert err.count("\n") == 1 and "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("runs", [[], ["--seed", "0:3"]], ids=["one run", "side by side"])
def test_interrupt_stops_within_a_second(tmp_path: Path, runs: list[str]) -> None:
    trained(steps=2)  # the kernels are in the cache
    # A shell that starts the tests in the background makes its children ignore Ctrl-C: undo that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import regdyn.nets.training; print('ready', flush=True); "
        "from regdyn.cli import script; script()"
    )
    arguments = ["train", "--steps", "1e8", "--threads", "2", "--out", str(tmp_path / "x.nc"), *runs]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        begin = time.perf_counter()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    # Leaving the interpreter takes its time too, on a machine that may be busy.
    assert time.perf_counter() - begin < 3
    assert (process.returncode, out) == (130, "")
    assert err == "Error: interrupted, no file was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_batch_with_an_error_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others would run for hours."""
    from regdyn.nets import _run

    prepare = _run.Run.__init__

    def broken(self: Any, config: Any, *rest: Any) -> None:
        if config.seed == 1:
            raise MemoryError
        prepare(self, config, *rest)

    monkeypatch.setattr(_run.Run, "__init__", broken)
    configs = [regdyn.TrainConfig(steps=10**7, hidden=(8,), seed=seed) for seed in (0, 1)]
    begin = time.perf_counter()
    with pytest.raises(MemoryError):
        regdyn.train(configs, threads=2)
    assert time.perf_counter() - begin < 20
