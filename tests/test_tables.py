"""The scripts of the tables run, in small, and print the published numbers beside their own."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from regdyn.cnn.config import CnnConfig
from regdyn.cnn.data import make_images
from regdyn.cnn.result import CnnResult
from regdyn.cnn.training import train
from regdyn.dynamics.schedules import CosineRestarts, Step
from regdyn.optimizers import SGD, Adam

FIGURES = Path(__file__).parent.parent / "figures"
SCRIPTS = (
    "mehta_table1", "mehta_table2", "mehta_tables3_6", "mehta_supp_tables", "yaguchi_tables",
    "zhou_rounds",
)  # fmt: skip
STEPS = 20
DASH = "–"
Make = Callable[..., ModuleType]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small runs gain nothing from more, and on a busy machine these would wait for each other."""
    monkeypatch.setattr("regdyn.cnn.training.thread_count", lambda threads: 1)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Make:
    """A script as a module, its command line set to write to `tmp_path`; only so many rows are run."""

    def make(name: str, *options: str, rows: int | None = 1, out: Path = tmp_path) -> ModuleType:
        monkeypatch.syspath_prepend(FIGURES)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--out", str(out), *options])
        module = importlib.import_module(name)
        if rows is not None:
            monkeypatch.setattr(module, "rerun", lambda *given: rerun(given, rows))
        return module

    def rerun(given: Sequence[Any], rows: int) -> None:
        *rest, tables = given
        left = iter(range(rows))

        def kept(row: Any) -> Any:
            run = row.size == "smoke" and next(left, None) is not None
            return row if run else dataclasses.replace(row, size="full")

        fewer = [dataclasses.replace(t, rows=[kept(row) for row in t.rows]) for t in tables]
        importlib.import_module("_tables").rerun(*rest, fewer)

    return make


def small(*options: str) -> tuple[str, ...]:
    return ("--preset", "smoke", "--steps", str(STEPS), "--seeds", "1", *options)


def blocks(text: str) -> list[tuple[list[str], str, dict[str, str]]]:
    """The lines of the printed tables: settings, source, and numbers by heading."""
    found: list[tuple[list[str], str, dict[str, str]]] = []
    lines = text.splitlines()
    for at, rule in enumerate(lines):
        if not re.fullmatch("-+", rule):
            continue
        head = lines[at - 1]
        body = lines[at + 1 : next((i for i in range(at, len(lines)) if not lines[i]), len(lines))]
        source = min(
            m.start() for line in body for m in [re.search(r"\b(here|paper)( \(|  )", line)] if m
        )
        headings = re.split(r"\s{2,}", head[source:].strip())
        for line in body:
            name, *values = re.split(r"\s{2,}", line[source:].strip())
            cells = re.split(r"\s{2,}", line[:source].strip())
            left = cells if line[:source].strip() else found[-1][0]
            found.append((left, name, dict(zip(headings, values, strict=True))))
    return found


def csv_lines(name: str) -> list[dict[str, str]]:
    with open(FIGURES / "published" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def numbers(line: dict[str, str], *columns: str) -> list[str]:
    return [line[column] or DASH for column in columns]


LAYERS = ("train_loss", "test_loss", "test_error", *(f"c{i}" for i in range(1, 8)), "total",
          "params_pruned", "pruned_test_error")  # fmt: skip
TABLE_1 = ("sparsity_act", "sparsity_gamma", "test_error")


def expected(name: str) -> list[tuple[list[str], str, list[str]]]:
    """What the script must print of the published tables, in any order: settings, source, numbers."""
    layerwise = [
        (line, [line["optimizer"], line["regularizer"], line["lam"]], f"paper ({line['dataset']})")
        for line in csv_lines("mehta2019_layerwise")
    ]
    main = ("main table 2", "supplement table 1")
    if name == "mehta_table1":
        return [
            ([line["optimizer"], line["regularizer"], line["lam"]], f"paper ({line['dataset']})",
             numbers(line, *TABLE_1))
            for line in csv_lines("mehta2019_table1")
        ]  # fmt: skip
    if name == "mehta_table2":
        return [(k, s, numbers(line, *LAYERS)) for line, k, s in layerwise if line["source"] in main]
    if name == "mehta_supp_tables":
        rows = [
            ([line["source"].removeprefix("supplement "), k[0], k[2]], s, numbers(line, *LAYERS))
            for line, k, s in layerwise
            if line["source"] not in main
        ]
        return rows + [
            ([line["optimizer"], line["lam"]], f"paper ({line['dataset']})", numbers(line, *TABLE_1))
            for line in csv_lines("mehta2019s_table4")
        ]
    if name == "mehta_tables3_6":
        columns = ("train_loss", "test_loss", "test_error_top1", "test_error_top5", "sparsity_gamma")
        keys = {"3": ("lam", "batch"), "4": ("optimizer", "lam", "batch"), "6": ("network",)}
        keys["5"] = keys["4"]
        rows = [
            ([line[k] for k in keys[line["table"]] if line[k]], f"paper ({line['dataset']})",
             numbers(line, *columns))
            for line in csv_lines("mehta2019_tables3-6")
        ]  # fmt: skip
        return [
            *rows,
            (["objects"], "paper", [DASH, "70"]),
            (["objects-cluttered"], "paper", [DASH, "57"]),
        ]
    if name == "yaguchi_tables":
        rows = []
        for line in csv_lines("yaguchi2018"):
            key = [line["factor"], line["value"]] if line["table"] == "II" else [line["value"]]
            found = numbers(line, "accuracy", "sparsity_or_remaining")
            if line["table"] == "IV":
                units = found[1].split("-")
                found = [found[0], *units, *[DASH] * (5 - len(units))]
            rows.append((key, "paper", found))
        return rows
    first, second = ([x for x in csv_lines("zhou2020") if x["table"] == t] for t in "12")
    rows = [([x["experiment"]], "paper", numbers(x, "accuracy_psbn", "accuracy_bn")) for x in second]
    for lr in ("0.2", "0.1"):
        for norm in ("psBN", "BN"):
            own = [x for x in first if x["init_lr"] == lr]
            accuracy = [x[f"accuracy_{norm.lower()}"] for x in own]
            sparsity = [x[f"sparsity_{norm.lower()}"] for x in own if x["round"] != "ensemble"]
            rows.append(([lr, norm], "paper", accuracy + sparsity))
    return rows


def done(out: Path, name: str) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((out / f"{name}.json").read_text())
    return note


@pytest.mark.parametrize("name", SCRIPTS)
def test_published_numbers_stand_beside_ours(
    name: str, script: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(name, *small()).main()
    out, err = capsys.readouterr()
    assert "1 of 1" in err and str(tmp_path) in err and str(tmp_path) not in out
    printed = blocks(out)
    theirs = [(left, source, list(row.values())) for left, source, row in printed if "paper" in source]
    assert sorted(theirs) == sorted(expected(name))
    ours = [(left, row) for left, source, row in printed if source.startswith("here")]
    run = [(left, row) for left, row in ours if set(row.values()) != {DASH}]
    note = done(tmp_path, f"{name}-smoke")
    assert note["script"] == f"figures/{name}.py" and {"regdyn_version", "machine"} <= set(note)
    assert out.startswith(note["scale"]) and f"{STEPS} of the paper's" in note["scale"]
    saved = [row["here"] for table in note["tables"] for row in table["rows"]]
    assert len(saved) == len(ours) and len(note["runs"]) == 1 and run
    for (_, row), estimates in zip(ours, saved, strict=True):
        for heading, text in row.items():
            kept = estimates[heading]
            assert text == DASH if kept is None else abs(float(text) - kept["mean"]) <= 0.5
    final = note["runs"][0]["final"]
    errors = [text for _, row in run for heading, text in row.items() if heading == "test error"]
    assert all(abs(float(text) - 100 * final["test_error"]) < 0.051 for text in errors)


def direct(**settings: Any) -> CnnResult:
    (result,) = train([CnnConfig(**{"steps": STEPS} | settings)])
    return result


def values(note: dict[str, Any], table: int, *left: str) -> dict[str, Any]:
    """The numbers saved for a row."""
    rows = note["tables"][table]["rows"]
    (row,) = [row for row in rows if tuple(row["settings"].values()) == left]
    return {heading: kept["values"] for heading, kept in row["here"].items() if kept is not None}


def test_numbers_are_those_of_the_run(script: Make, tmp_path: Path) -> None:
    script("mehta_table1", *small()).main()
    run = direct(
        data="digits", model="basicnet:width=0.25", optimizer=SGD(lr=0.1, momentum=0.9), lam=1e-3,
        regularization="l2", batch=40, schedule=Step((15,), 0.1), seed=0,
    )  # fmt: skip
    peaks = np.concatenate([each.peak for each in run.last.activations if each is not None])
    scales = np.abs(np.concatenate([gamma[-1] for gamma in run.gamma]))
    assert values(done(tmp_path, "mehta_table1-smoke"), 0, "sgd", "l2", "1e-3") == {
        "by activation": [pytest.approx(100 * np.mean(peaks <= 1e-12))],
        "by gamma": [pytest.approx(100 * np.mean(scales < 1e-3))],
        "test error": [100 * run.error],
    }
    assert run.error < 0.95 and np.mean(peaks <= 1e-12) > 0


def test_layers_pruning_and_weight_decay(script: Make, tmp_path: Path, monkeypatch: Any) -> None:
    module = script("mehta_table2", *small())
    monkeypatch.setattr(module, "SMOKE", {("adam", "wd", "2e-4")})
    # Filters die within these few steps if their scales start below the threshold.
    monkeypatch.setattr(module, "MEHTA", {**module.MEHTA, "gamma0": 3e-3, "threshold": 1e-3})
    module.main()
    run = direct(
        data="digits", model="basicnet:width=0.25", optimizer=Adam(), lam=2e-4, gamma0=3e-3,
        regularization="paper", batch=40, schedule=Step((15,), 0.1), seed=0,
    )  # fmt: skip
    found = values(done(tmp_path, "mehta_table2-smoke"), 0, "adam", "wd", "2e-4")
    dead = [100 * np.mean(np.abs(gamma[-1]) < 1e-3) for gamma in run.gamma]
    assert max(dead) > 0
    assert [found[f"C{i}"] for i in range(1, 8)] == [[pytest.approx(share)] for share in dead]
    assert found["total"] == [pytest.approx(100 * run.sparsity)]
    assert found["pruned"] == [100 * run.last.removed.convolutions] and found["pruned"][0] > 0
    assert found["error pruned"] == [100 * run.error_after_removal]
    assert found["train loss"] == [run.loss[-1]] and "test loss" not in found


def test_rounds_and_snapshots(script: Make, tmp_path: Path) -> None:
    script("zhou_rounds", *small("--steps", "203")).main()
    run = direct(
        data="digits", model="basicnet:width=0.25", optimizer=SGD(lr=0.2, momentum=0.9), lam=2.5e-3,
        regularization="l2", batch=40, schedule=CosineRestarts(40), alpha=0.1, ensemble=3, seed=0,
        steps=200,
    )  # fmt: skip
    found = values(done(tmp_path, "zhou_rounds-smoke"), 0, "0.2", "psBN")
    ends = [record for record in run.records if record.step in (40, 80, 120, 160, 200)]
    assert run.ensemble_error is not None
    assert found.pop("acc ensemble") == [100 * (1 - run.ensemble_error)]
    assert found == {
        **{f"acc {i}": [100 * (1 - record.test_error)] for i, record in enumerate(ends, start=1)},
        **{f"sp {i}": [100 * record.removed.flops] for i, record in enumerate(ends, start=1)},
    }
    assert len(set(map(tuple, found.values()))) > 2


def test_equal_rows_are_one_run(script: Make, tmp_path: Path) -> None:
    script("yaguchi_tables", *small()).main()
    note = done(tmp_path, "yaguchi_tables-smoke")
    accuracy = {
        values(note, table, *left)["accuracy"][0]
        for table, left in [(0, ("optimizer", "adam")), (0, ("activation", "relu")), (1, ("1000",)),
                            (2, ("1",))]
    }  # fmt: skip
    run = direct(
        data="digits", model="mlp:width=1000", optimizer=Adam(beta2=0.999), lam=5e-4, batch=64,
        schedule=Step((5, 10, 15), 0.5), seed=0,
    )  # fmt: skip
    assert accuracy == {100 * (1 - run.error)} and len(note["runs"]) == 1


def test_units_that_remain(script: Make) -> None:
    module = script("yaguchi_tables")
    run = direct(data="digits", model="mlp:width=30,depth=2", lam=1e-3, batch=64)
    first, second = (norm.copy() for norm in run.last.norm)
    first[:7], second[:2] = 1e-4, 9.9e-4
    record = dataclasses.replace(run.last, norm=[first, second], test_error=0.0)
    run = dataclasses.replace(run, records=(*run.records[:-1], record))
    assert module.remaining(run) == 60 - 9
    assert [module.remaining_in(i)(run) for i in range(3)] == [23, 28, None]
    assert module.best_accuracy(run) == 100
    # Weights, gamma and beta of 23 units on 64 pixels and of 28 on those, and 10 outputs on these.
    left = 23 * (64 + 2) + 28 * (23 + 2) + 10 * (28 + 1)
    assert module.reduced(run) == pytest.approx(100 * (1 - left / (30 * 66 + 30 * 32 + 10 * 31)))


def test_dead_filters(script: Make) -> None:
    script("mehta_table1")
    common = importlib.import_module("_tables")
    run = direct(data="digits", model="mlp:width=5", lam=1e-3, batch=64)
    (seen,) = run.last.activations
    assert seen is not None
    seen = dataclasses.replace(seen, peak=np.array([0, 1e-13, 1e-11, 1e-5, 1]))
    record = dataclasses.replace(run.last, activations=[seen])
    norm = run.model.norm_of(run.model.layers[0])
    assert norm is not None
    norm.weight.data = torch.tensor([5e-4, -9e-4, 9.9e-4, -2e-3, 1])
    run = dataclasses.replace(run, records=(*run.records[:-1], record))
    assert common.by_activation(run) == pytest.approx(40)
    assert common.by_scale(run) == pytest.approx(60) == common.in_layer("layer 1")(run)
    assert common.in_layer("C1")(run) is None


def test_intervals(script: Make) -> None:
    script("mehta_table1")
    half_width = importlib.import_module("_tables").mean_and_half_width
    mean, half = half_width([1.0, 2.0, 3.0])
    assert mean == 2 and half == pytest.approx(4.30265 / 3**0.5, rel=1e-5)  # t of 2 degrees of freedom
    assert half_width([5.0]) == (5.0, None)


def test_a_failed_run_is_told_and_left_out(
    script: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    module = script("yaguchi_tables", *small())
    broken = {**module.MNIST, "optimizer": SGD(lr=1e6)}
    monkeypatch.setattr(module, "MNIST", broken)
    module.main()
    out = capsys.readouterr().out
    assert "Failed, and not in the means: sgd, l2 0.0005, seed 0: the loss is nan" in out
    note = done(tmp_path, "yaguchi_tables-smoke")
    assert note["runs"][0]["final"] is None and values(note, 0, "optimizer", "adam") == {}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_large_presets_run_all_rows_as_in_the_paper(
    name: str, script: Make, monkeypatch: Any
) -> None:
    given: list[Any] = []
    module = script(name, "--preset", "cifar10", rows=None)
    monkeypatch.setattr(module, "rerun", lambda *arguments: given.extend(arguments))
    module.main()
    file, doc, presets, tables = given
    common = importlib.import_module("_cnn").Script(file, doc, presets)
    rows = [row for table in tables for row in table.rows if row.settings is not None]
    assert all(common.runs(row.size) for row in rows)
    steps = {common.own(row.settings)["steps"] for row in rows}
    assert steps == {
        "mehta_tables3_6": {406_250, 325_000},
        "yaguchi_tables": {93_700, 312_400},
        "zhou_rounds": {78_000, 351_000, 195_000, 39_000},
    }.get(name, {406_250})
    for row in rows:  # each can be configured
        own = {**common.own(row.settings), "data": make_images("digits"), "steps": STEPS}
        own = {key: value for key, value in own.items() if key not in ("random_labels", "schedule")}
        if "vgg" not in own["model"]:
            CnnConfig(**own | {"ensemble": 0, "batch": 40})


def test_schedules(script: Make) -> None:
    script("mehta_table1")
    common = importlib.import_module("_cnn")
    factors = common.tenth_at_the_end(325)(np.array([1, 250, 251, 325]))
    np.testing.assert_allclose(factors, [1, 1, 0.1, 0.1])
    factors = common.halved(3)(100)(np.array([1, 25, 26, 50, 51, 75, 76, 100]))
    np.testing.assert_allclose(factors, [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125])


# Errors


def refused(module: ModuleType, capsys: pytest.CaptureFixture[str], code: int) -> str:
    """The line with which the script ends."""
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == code
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("Error: ")
    return err


@pytest.mark.parametrize("name", SCRIPTS)
def test_missing_data(name: str, script: Make, capsys: pytest.CaptureFixture[str]) -> None:
    presets = ("cifar10",) if name == "yaguchi_tables" else ("cifar10", "cifar100")
    for preset in presets:
        line = refused(script(name, "--preset", preset, rows=None), capsys, 3)
        archive = f"cifar-{preset.removeprefix('cifar')}-binary.tar.gz"
        assert ("train-images-idx3-ubyte.gz" if name == "yaguchi_tables" else archive) in line


@pytest.mark.parametrize(
    "options, message",
    [
        (("--steps", "19"), "--steps must be an integer in [20, 1000000000], got 19"),
        (("--steps", "many"), "--steps must be an integer in [20, 1000000000], got many"),
        (("--seeds", "0"), "--seeds must be an integer in [1, 1000], got 0"),
        (("--device", "tpu"), "--device must be one of auto, cpu, cuda"),
    ],
)
def test_bad_options(
    options: tuple[str, ...], message: str, script: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(script("mehta_table1", *options, rows=None), capsys, 2)
    assert line.startswith(f"Error: {message}")


def test_out_is_a_file(script: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "taken"
    place.write_text("")
    line = refused(script("mehta_table1", out=place), capsys, 2)
    assert line.startswith(f"Error: --out must be a folder, got {place} (")


WITHOUT_TORCH = """
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Missing())
script, *sys.argv[1:] = sys.argv[1:]
sys.path.insert(0, script.rpartition("/")[0])
runpy.run_path(script, run_name="__main__")
"""


def test_without_torch(tmp_path: Path) -> None:
    options = (str(FIGURES / "mehta_table1.py"), "--out", str(tmp_path))
    command = [sys.executable, "-c", WITHOUT_TORCH, *options]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 3 and ended.stdout == ""
    assert ended.stderr == "Error: torch is not installed: pip install 'regdyn[torch]'\n"


# Going on


def checkpoints(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_killed_script_goes_on(tmp_path: Path) -> None:
    options = ("--preset", "smoke", "--steps", "300", "--seeds", "1", "--out", str(tmp_path))
    command = [sys.executable, str(FIGURES / "yaguchi_tables.py"), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as script:
        assert script.stderr is not None
        first = script.stderr.readline()
        os.killpg(script.pid, signal.SIGKILL)
    assert first.startswith("1 of 5 ") and not (tmp_path / "yaguchi_tables-smoke.json").exists()
    folder = tmp_path / "yaguchi_tables-smoke"
    steps = {
        path.parent.name: json.loads(path.read_text())["step"]
        for path in folder.glob("*/checkpoint.json")
    }
    ended = {name: checkpoints(folder / name) for name, step in steps.items() if step == 300}
    assert ended and "run_4" not in ended
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert again.stderr.count(" of 5 ") == 5 - len(ended)
    for name, before in ended.items():
        assert checkpoints(folder / name) == before
    # The last row, which was not trained to its end before.
    note = done(tmp_path, "yaguchi_tables-smoke")
    config = CnnConfig(
        data="digits", model="mlp:width=100", optimizer=Adam(beta2=0.999), lam=5e-4, batch=64,
        steps=300, schedule=Step((75, 150, 225), 0.5),
    )  # fmt: skip
    (run,) = train([config], threads=1)
    assert values(note, 1, "100")["accuracy"] == [100 * (1 - run.error)]


def test_more_seeds_keep_the_runs_of_fewer(script: Make, tmp_path: Path) -> None:
    script("yaguchi_tables", *small(), rows=2).main()
    before = checkpoints(tmp_path / "yaguchi_tables-smoke")
    few = values(done(tmp_path, "yaguchi_tables-smoke"), 0, "optimizer", "msgd")["accuracy"]
    script("yaguchi_tables", *small("--seeds", "2"), rows=2).main()
    after = checkpoints(tmp_path / "yaguchi_tables-smoke")
    assert before.items() < after.items()
    first, second = values(done(tmp_path, "yaguchi_tables-smoke"), 0, "optimizer", "msgd")["accuracy"]
    assert [first] == few and second != first


def test_fresh_forgets(script: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script("yaguchi_tables", *small()).main()
    before = checkpoints(tmp_path / "yaguchi_tables-smoke")
    script("yaguchi_tables", *small()).main()
    assert checkpoints(tmp_path / "yaguchi_tables-smoke") == before
    capsys.readouterr()
    line = refused(script("yaguchi_tables", *small("--steps", "21")), capsys, 2)
    assert "checkpoint must be of this configuration" in line and "steps is 20 and not 21" in line
    assert line.endswith(" (--fresh starts anew)\n")
    script("yaguchi_tables", *small("--steps", "21", "--fresh")).main()
    after = checkpoints(tmp_path / "yaguchi_tables-smoke")
    assert not {data for _, data in before.values()} & {data for _, data in after.values()}
