"""One training run on torch: its steps, what it records, and its checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from regdyn.cnn import checkpoints, metrics
from regdyn.cnn._batches import Choice, ImageStore, Order
from regdyn.cnn.config import CnnConfig
from regdyn.cnn.models.base import Network, initialize, shuffle_weights, trace_shapes
from regdyn.cnn.optimizers import ConfiguredOptimizer
from regdyn.cnn.result import CnnResult, Record, unstack
from regdyn.dynamics.result import describe
from regdyn.errors import InvalidParameter
from regdyn.nets.config import Snapshot

CHECK = 50
"""Steps between two looks at the loss: on a GPU each waits for it."""

WARM_UP = 3
"""Steps before a CUDA graph is recorded, for what libraries allocate and choose at first."""

WIDE = 512
"""Filters in the widest layer from which channels first are faster on a processor."""

_INSTEAD = {"device", "data_dir", "precision"}
"""Settings that say where a run is computed, not what."""


class Run:
    """A run between two steps.

    Parameters
    ----------
    config
        What to run.
    store
        Its data on its device.
    folder
        Where its checkpoints go; none are written where None.
    """

    def __init__(self, config: CnnConfig, store: ImageStore, folder: Path | None = None) -> None:
        self.config, self.store, self.folder = config, store, folder
        self.device = torch.device(config.device)
        self.t = 0
        self.failed = ""
        self._begin = time.perf_counter()
        self.records: list[Record] = []
        self.snapshots: list[NDArray] = []
        self.model = self._make_model()
        self.shapes = trace_shapes(self.model)
        self.order = Order(
            len(config.images.y_train), config.batch, config.seed, config.flip, config.crop, self.device
        )
        gamma, beta, rest = _by_kind(self.model)
        self.optimizer = ConfiguredOptimizer(config, rest, gamma, beta)
        self._loss = torch.zeros((), device=self.device, dtype=torch.float64)
        self._since = 0
        self._drops = any(isinstance(m, nn.Dropout) for m in self.model.modules())
        self._compute: Callable[[Choice], None] | None = None
        times = np.asarray(config.times)
        self._times = set(times.tolist())

    def _make_model(self) -> Network:
        config = self.config
        model = config.make_model()
        generator = torch.Generator().manual_seed(config.seed)
        initialize(model, config.init, config.gamma0, config.beta0, generator)
        if config.start is not None:
            start = checkpoints.load(config.start, "start")
            try:
                model.load_state_dict(start.part("model"))
            except RuntimeError:
                raise _another_network(config, start.about["config"]) from None
            if config.shuffle:
                shuffle_weights(model, generator)
        layout = torch.channels_last if channels_last(config) else torch.contiguous_format
        model.to(self.device, TORCH_DTYPES[config.dtype])
        model.to(memory_format=layout)  # type: ignore[call-overload]
        return model

    @property
    def seconds(self) -> float:
        """Wall time so far, that before a checkpoint included."""
        return time.perf_counter() - self._begin

    # Steps

    def step(self) -> None:
        """Take the next step."""
        self.t += 1
        if self._compute is None:
            self.model.train()
            choice = self.order.at(self.t)
            on_gpu = self.device.type == "cuda"
            self._compute = self._captured(choice) if on_gpu else self._forward_backward
        if self._drops:
            torch.manual_seed(_dropout_seed(self.config.seed, self.t))
        self._compute(self.order.at(self.t))
        self.optimizer.step(self.t)
        self._since += 1
        if self.t % CHECK == 0 or self.due:
            self.failed = self._failure()

    def _failure(self) -> str:
        """Why the run cannot go on, "" if it can."""
        loss = self._loss.item()
        if not np.isfinite(loss):
            return f"the loss is {loss} by step {self.t}"
        numbers = (value for value in self.model.state_dict().values() if value.is_floating_point())
        if self.due and not all(bool(value.isfinite().all()) for value in numbers):
            return f"the network is no longer finite after step {self.t}"
        return ""

    def _forward_backward(self, choice: Choice) -> None:
        """Gradients of the batch, and its loss onto the sum."""
        x = self.store.crop(choice.index, choice.flip, choice.shift)
        y = self.store.y_train[choice.index]
        self.model.zero_grad(set_to_none=True)
        narrow = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=narrow):
            loss = F.cross_entropy(self.model(x), y)
        torch.autograd.backward(loss)
        self._loss += loss.detach()

    def _captured(self, choice: Choice) -> Callable[[Choice], None]:
        """`_forward_backward` as one CUDA graph, a launch instead of some hundred.

        Recorded on the stream that is current, which must not be the default one.
        """
        fixed = choice.clone()
        changed = [self._loss, *self.model.buffers()]
        before = [tensor.clone() for tensor in changed]
        for _ in range(WARM_UP):
            self._forward_backward(fixed)
        self.model.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
            self._forward_backward(fixed)
        # What the steps before the first one did is undone.
        for tensor, value in zip(changed, before):
            tensor.copy_(value)

        def replay(choice: Choice) -> None:
            fixed.copy_(choice)
            graph.replay()

        return replay

    # Records

    def record(self) -> Snapshot | None:
        """Measure the network as it is now; None where that shows that the run has failed."""
        config, model, loss = self.config, self.model, float("nan")
        if self._since:
            loss = self._loss.item() / self._since
        self._loss.zero_()
        self._since = 0
        size = metrics.samples_at_a_time(config.images.size)
        layers = metrics.counted(model)
        try:
            activations, train_error = metrics.measure_activations(model, self.store.train(size))
        except FloatingPointError as error:
            self.failed = f"{error} after step {self.t}"
            return None
        probabilities, labels = metrics.class_probabilities(model, self.store.test(size))
        marked = metrics.inactive(model, config.threshold)
        going = metrics.removable(model, marked)
        with metrics.zeroed(model, going):
            error_zeroed = metrics.measure_error(model, self.store.test(size))
        scales = [metrics.scale_and_shift(model, layer) for layer in layers]
        record = Record(
            step=self.t,
            loss=loss,
            test_error=float(np.mean(probabilities.argmax(1) != labels)),
            train_error=train_error,
            error_zeroed=error_zeroed,
            removed=metrics.share_removed(model.layers, self.shapes, going),
            gamma=[
                metrics.to_numpy(torch.ones_like(beta) if gamma is None else gamma).copy()
                for gamma, beta in scales
            ],
            beta=[metrics.to_numpy(beta).copy() for _, beta in scales],
            norm=[metrics.weight_norms(model, layer) for layer in layers],
            activations=list(activations),
        )
        self.records.append(record)
        if self.t in config.rounds and config.ensemble:
            self.snapshots = [*self.snapshots, probabilities][-config.ensemble :]
        dead = float(np.mean(np.concatenate(marked)))
        return Snapshot(0, self.t, loss, record.test_error, dead)

    @property
    def due(self) -> bool:
        """Whether this step is to be recorded."""
        return self.t in self._times

    @property
    def done(self) -> bool:
        return bool(self.failed) or self.t >= self.config.steps

    def result(self) -> CnnResult:
        """What the run has come to."""
        ensemble_error = None
        if self.snapshots and len(self.snapshots) == self.config.ensemble:
            votes = np.mean(self.snapshots, axis=0).argmax(1)
            ensemble_error = float(np.mean(votes != self.config.images.y_test))
        return CnnResult.collect(
            config=self.config,
            model=self.model,
            records=self.records,
            ensemble_error=ensemble_error,
            failed=self.failed,
            seconds=self.seconds,
        )

    # Checkpoints

    def save(self) -> None:
        """Write the checkpoint, if one is wanted."""
        if self.folder is None:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in self.optimizer.state().items()}
        tensors |= {
            f"records.{name}": torch.tensor(value) for name, value in Record.stack(self.records).items()
        }
        tensors |= {f"snapshots.{i}": torch.tensor(value) for i, value in enumerate(self.snapshots)}
        about = {
            "config": _identity(self.config),
            "step": self.t,
            "loss_sum": self._loss.item(),
            "loss_steps": self._since,
            "seconds": self.seconds,
            "failed": self.failed,
            "threads": torch.get_num_threads(),
        }
        checkpoints.save(self.folder, tensors, about)

    def resume(self) -> None:
        """Go on from the checkpoint in the folder.

        Raises
        ------
        InvalidParameter
            For one that is damaged or belongs to another configuration.
        """
        assert self.folder is not None
        kept = checkpoints.load(self.folder)
        other = _differences(kept.about["config"], _identity(self.config))
        if other:
            got = f"{self.folder}, where {', '.join(other[:3])}"
            raise InvalidParameter("checkpoint", "of this configuration", got)
        try:
            self.model.load_state_dict(kept.part("model"))
        except RuntimeError:
            got = f"{self.folder}, which holds another network"
            raise InvalidParameter("checkpoint", "of this configuration", got) from None
        self.optimizer.load(kept.part("optimizer"))
        arrays = {name: value.numpy() for name, value in kept.part("records").items()}
        self.records = unstack(arrays, len(metrics.counted(self.model)))
        snapshots = kept.part("snapshots")
        self.snapshots = [snapshots[str(i)].numpy() for i in range(len(snapshots))]
        self.t = int(kept.about["step"])
        self._begin = time.perf_counter() - float(kept.about["seconds"])
        self.failed = str(kept.about["failed"])
        self._loss.fill_(kept.about["loss_sum"])
        self._since = int(kept.about["loss_steps"])


TORCH_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def channels_last(config: CnnConfig) -> bool:
    """Whether the network runs with channels last: always on a GPU, if it is narrow on a processor."""
    if config.device == "cuda":
        return True
    convolutions = [m for m in config.blueprint.modules() if isinstance(m, nn.Conv2d)]
    return max((m.out_channels for m in convolutions), default=WIDE) < WIDE


def make_store(config: CnnConfig) -> ImageStore:
    """The data of a run, on its device."""
    dtype = TORCH_DTYPES[config.dtype]
    return ImageStore(
        config.images, torch.device(config.device), dtype, channels_last(config), config.crop
    )


def _by_kind(
    model: Network,
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Gamma, beta (without any norm the biases of hidden layers), and all other parameters."""
    norms = [norm for norm in map(model.norm_of, model.layers) if norm is not None]
    hidden = [] if norms else [model.weights_of(layer) for layer in model.layers[:-1]]
    gamma = {id(norm.weight) for norm in norms}
    beta = {id(module.bias) for module in [*norms, *hidden]}
    kinds: tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]] = [], [], []
    for parameter in model.parameters():
        kinds[0 if id(parameter) in gamma else 1 if id(parameter) in beta else 2].append(parameter)
    return kinds


def _dropout_seed(seed: int, t: int) -> int:
    """Of what is dropped at step t, so that a run can go on anywhere."""
    return int(np.random.SeedSequence((seed, 2, t)).generate_state(1)[0])


def _another_network(config: CnnConfig, kept: dict[str, Any]) -> InvalidParameter:
    """Why the network of a checkpoint is not the start of this one."""
    own = _identity(config)
    other = [word for key in ("model", "norm") for word in _differences(kept.get(key), own[key], key)]
    reason = ", ".join(other) or "the images or classes are others"
    return InvalidParameter("start", "of the same network", f"{config.start}, where {reason}")


def _identity(config: CnnConfig) -> dict[str, Any]:
    """What a run computes, as plain JSON."""
    described: dict[str, Any] = describe(config)
    return {name: value for name, value in described.items() if name not in _INSTEAD}


def _differences(kept: Any, wanted: Any, name: str = "") -> list[str]:
    """What differs between two configurations as plain JSON, in words."""
    if kept == wanted:
        return []
    if isinstance(kept, dict) and isinstance(wanted, dict) and "sha256" not in wanted:
        for key in ("name", "type"):
            if key in wanted and kept.get(key) != wanted[key]:
                return _differences(kept.get(key), wanted[key], name or key)
        names = [*dict.fromkeys([*wanted, *kept])]
        # Times follow from steps and batch unless they are given.
        words = [_differences(kept.get(k), wanted.get(k), k) for k in names if k != "times"]
        found = [word for each in words for word in each]
        return found or _differences(kept.get("times"), wanted.get("times"), "times")
    return [f"{name} differs" if isinstance(wanted, dict) else f"{name} is {kept} and not {wanted}"]
