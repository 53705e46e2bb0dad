"""What a network costs."""

from __future__ import annotations

import time

import pytest
import torch
from prunable import images, plain
from torch import Tensor, nn

from regdyn.cnn.models import Setting, make_model
from regdyn.cnn.models.base import trace_shapes
from regdyn.doctor import compare_latency, network_cost
from regdyn.errors import InvalidParameter


@pytest.mark.parametrize("name", ["basicnet:width=0.25", "resnet20", "mlp:width=30"])
def test_flops_are_twice_the_multiplications(name: str) -> None:
    model = make_model(name, Setting(channels=3, size=(9, 8), n_classes=4)).train()
    cost = network_cost(model, torch.zeros(5, 3, 9, 8))
    shapes = trace_shapes(model)
    multiplications = sum(s.n_in * s.n_out * s.kernel * s.positions for s in shapes)
    assert cost.flops == 2 * multiplications
    assert cost.parameters == sum(s.n_out * (s.n_in * s.kernel + s.per_unit) for s in shapes)
    assert all(module.training for module in model.modules())


def test_flops_of_grouped_strided_and_transposed_convolutions() -> None:
    model = nn.Sequential(
        nn.Conv2d(6, 9, (3, 1), stride=2, groups=3), nn.ConvTranspose2d(9, 4, 2, bias=False)
    )
    # 4 x 5 outputs, each 9 filters on 2 channels of 3 x 1; then each of its inputs 4 filters of 2 x 2.
    cost = network_cost(model, torch.zeros(1, 6, 9, 9))
    assert cost.flops == 2 * (4 * 5 * 9 * 2 * 3 + 4 * 5 * 9 * 4 * 4)
    assert cost.parameters == 9 * 2 * 3 + 9 + 9 * 4 * 4


class Slow(nn.Module):
    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        return x


def test_latency_tells_fast_from_slow() -> None:
    threads = torch.get_num_threads()
    slow, fast = Slow(0.05).train(), Slow(0.005)
    latency = compare_latency(slow, fast, images(3), threads=2, seconds=0.3)
    assert (latency.batch, latency.threads, latency.device) == (3, 2, "cpu")
    assert 5 <= latency.pairs <= 60
    assert latency.before[0] >= 0.05 and latency.after[0] >= 0.005
    assert 1.5 < latency.speedup[1] <= 10
    assert list(latency.before) == sorted(latency.before)
    assert slow.training and torch.get_num_threads() == threads


def test_bad_input() -> None:
    for changes, message in (({"threads": 0}, "threads must be"), ({"seconds": 0}, "seconds must be")):
        with pytest.raises(InvalidParameter, match=message):
            compare_latency(plain(), plain(), images(2), **changes)  # type: ignore[arg-type]
