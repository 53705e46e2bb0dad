"""The scripts of the figures run, in small, and say what made their files."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

FIGURES = Path(__file__).parent.parent / "figures"


def draw(
    script: str, out: Path, *options: str, more: tuple[str, ...] = ()
) -> tuple[dict[str, Any], xarray.Dataset]:
    """Run a script, which leaves `more` files besides the usual; its note and its data."""
    command = [sys.executable, "-W", "error", FIGURES / f"{script}.py", "--out", out, *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    written = [out / f"{script}.{suffix}" for suffix in ("png", "pdf", "nc", "json")]
    assert done.stdout.split() == [str(path) for path in written]
    others = [out / f"{script}.{suffix}" for suffix in more]
    assert sorted(out.iterdir()) == sorted(written + others)
    about = json.loads(written[3].read_text())
    assert about["script"] == f"figures/{script}.py"
    assert {"regdyn_version", "matplotlib_version", "machine", "seed"} <= set(about)
    with xarray.open_dataset(written[2], engine="h5netcdf") as data:
        return about, data.load()


@pytest.mark.parametrize("script, runs", [("mehta_fig4", 20), ("mehta_supp_fig3", 105)])
def test_decays(script: str, runs: int, tmp_path: Path) -> None:
    small = ("--steps", "40", "--trajectories", "16", "--seed", "7")
    about, data = draw(script, tmp_path / "new" / "out", *small)
    assert (about["seed"], about["steps"], about["trajectories"], about["runs"]) == (7, 40, 16, runs)
    assert data.sizes["run"] == runs and data["abs_quantile"].dims == ("run", "step", "level")


def test_theorem_1(tmp_path: Path) -> None:
    _, data = draw("zhou_theorem1", tmp_path, "--trajectories", "65536")
    at = data["coefficient"].sel(u=0.02, r=0.0) + 1 / np.pi
    assert abs(at) < 5 * data["standard_error"].sel(u=0.02, r=0.0) < 0.05


def test_many_steps(tmp_path: Path) -> None:
    _, data = draw("zhou_many_steps", tmp_path, "--steps", "400", "--trajectories", "512")
    assert data.sizes["optimizer"] == 7 and np.all(data["activation_mean"] <= 1)


def test_decay_and_oscillation(tmp_path: Path) -> None:
    _, data = draw("yaguchi_fig4", tmp_path)
    last = np.abs(data["adam"].sel(betas="0, 0.9").values[-10:])
    assert np.allclose(last, 1e-3 / 2 - 1e-8 / 5e-4, rtol=1e-6)


def test_passages(tmp_path: Path) -> None:
    _, data = draw("passages", tmp_path, "--steps", "3000", "--trajectories", "256")
    predicted = data["predicted"].sel(lam=1e-2, method="nearest").sel(placement="l2")
    simulated = data["simulated"].sel(lam_simulated=1e-2, placement="l2")
    assert abs(predicted / simulated - 1).sel(optimizer="adam") < 0.02
    assert np.isnan(simulated.sel(optimizer="adagrad"))


def test_datasets(tmp_path: Path) -> None:
    _, data = draw("datasets", tmp_path, "--steps", "20", "--trajectories", "1", "--seed", "3")
    error = data["error"].sel(repetition=3)
    assert error.sel(name="clean") == data["overlap_error"].sel(overlap=0.0, repetition=3)
    assert error.sel(name="cluttered") == data["clutter_error"].sel(clutter=0.6, repetition=3)
    assert error.sel(name="clean") < error.sel(name="cluttered")


def test_forecast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One optimizer and a few variants of what the script does for minutes.
    monkeypatch.syspath_prepend(FIGURES)
    options = ["--steps", "48", "--trajectories", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["forecast.py", *options])
    script = importlib.import_module("forecast")
    monkeypatch.setattr(script, "METHODS", dict(list(script.METHODS.items())[:1]))
    variants = {name: script.VARIANTS[name] for name in ("replay", "half", "half, held")}
    monkeypatch.setattr(script, "VARIANTS", variants)
    script.main()
    (method,) = json.loads((tmp_path / "forecast.json").read_text())["methods"].values()
    assert method["scores"]["replay"]["died_predicted"] == 0
    assert method["baselines at half"]["gamma"]["auc"]["value"] is None
    for layer in method["gradients at half"].values():
        assert layer["lived"]["units"] == 256 and "died" not in layer
        for distance in layer["lived"]["distance"]:  # from 1, by at most lr = 1e-3 a step
            assert 952 < distance < 1048 and distance != 1000
    with xarray.open_dataset(tmp_path / "forecast.nc", engine="h5netcdf") as data:
        assert data.sizes["row"] == 3 * 512
        assert not np.any(np.isfinite(data["observed_time"]))  # no idle scale dies within 48 steps


def test_objects(tmp_path: Path) -> None:
    _, data = draw("objects", tmp_path, "--trajectories", "2", "--seed", "3")
    assert {30, 2, 64} <= set(data.sizes.values())


def test_phase_diagram(tmp_path: Path) -> None:
    small = ("--steps", "2000", "--trajectories", "16", "--points", "7")
    about, data = draw("phase_diagram", tmp_path, *small, more=("zarr",))
    assert about["points"] == 7
    median = data["first_passage"].sel(level=0.5)
    assert median.sizes == {"optimizer": 7, "regularization": 2, "lam": 7, "sigma": 7}
    # At lambda 0.1 and little noise Adam with L2 dies within 1,500 steps, with decoupled decay never.
    corner = median.sel(optimizer="adam", lam=0.1, sigma=1e-8, method=None)
    assert 1000 < corner.sel(regularization="l2") < 1500
    assert np.isinf(corner.sel(regularization="decoupled"))
    # Drawn again, it is read from the store.
    again, _ = draw("phase_diagram", tmp_path, *small, more=("zarr",))
    assert again["sweep_seconds"] == about["sweep_seconds"]
