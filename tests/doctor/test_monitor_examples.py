"""The examples in the monitor's docstring, run as they stand there."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import xarray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from regdyn.doctor import SparsityMonitor

STEPS = 100


def examples() -> list[str]:
    """Blocks after "::" in the docstring."""
    text = inspect.cleandoc(SparsityMonitor.__doc__ or "")
    blocks = re.findall(r"::\n\n((?:    .*\n|\n)+)", text)
    return [textwrap.dedent(block) for block in blocks]


def make_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def make_batches(count: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(8, 4), torch.randint(2, (8,))) for _ in range(count)]


def test_plain_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain, _ = examples()
    model = make_model()
    names: dict[str, Any] = {
        "SparsityMonitor": SparsityMonitor, "model": model, "cross_entropy": cross_entropy,
        "optimizer": torch.optim.Adam(model.parameters()), "batches": make_batches(STEPS),
    }  # fmt: skip
    exec(plain, names)
    with xarray.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as data:
        assert data.time.values.tolist() == [0, STEPS]
        assert data["gamma_1"][-1].values.tolist() == model[1].weight.tolist()
        assert (data.sigma[1:] > 0).all()


@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers")
@pytest.mark.filterwarnings("ignore:GPU available but not used")
def test_lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning

    monkeypatch.chdir(tmp_path)
    model = make_model()

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = model

        def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
            x, y = batch
            return cross_entropy(self.net(x), y)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

    _, recipe = examples()
    names: dict[str, Any] = {"lightning": lightning, "SparsityMonitor": SparsityMonitor}
    exec(recipe, names)
    # Three batches that are recorded, the activations too, instead of hundreds.
    names["SparsityMonitor"] = lambda *given: SparsityMonitor(*given, every=1, activations=True)
    callback = names["Sparsity"]()
    x, y = map(torch.cat, zip(*make_batches(3)))
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", callbacks=[callback], default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Module(), DataLoader(TensorDataset(x, y), 8))
    assert [each.name for each in tmp_path.iterdir()] == ["run.nc"]
    with xarray.open_dataset(tmp_path / "run.nc", engine="h5netcdf") as data:
        assert data.time.values.tolist() == [0, 1, 2, 3]
        assert data["gamma_net.1"][-1].values.tolist() == model[1].weight.tolist()
        assert (data.active_measured[1:] > 0).all() and (data.sigma[2:] > 0).all()
    assert callback.monitor.layer_names == ("net.1",)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
