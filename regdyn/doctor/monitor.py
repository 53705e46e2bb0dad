"""The sparsity of a network while any torch loop trains it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regdyn.cnn.psbn import PostShifted
from regdyn.doctor.activations import BatchNorm, bare, batch_norms, check_followed, watch_activations
from regdyn.doctor.gradient_noise import variance_from_moments
from regdyn.doctor.readings import (
    BatchActivity,
    LayerReading,
    Reading,
    stack,
    to_dataset,
    unstack,
    write_reading,
)
from regdyn.dynamics.result import netcdf_bytes, provenance
from regdyn.errors import InvalidParameter, missing_library
from regdyn.files import written_whole
from regdyn.nets import sparsity as measures
from regdyn.nets.mlp import SCALE_THRESHOLD
from regdyn.parameters import check_choice, check_integer, check_number

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

EVERY = 100
"""Steps from one record to the next."""

KEEP = 1000
"""Records that are kept."""


class SparsityMonitor:
    r"""Records how the filters of a network die while it trains, from any loop::

        monitor = SparsityMonitor(model, optimizer)
        for x, y in batches:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        monitor.save("run.nc")

    The steps of the optimizer are counted: batches whose gradients are accumulated are one step, and a
    step that a gradient scaler skips is none. Without an optimizer, `monitor.step()` after each step
    does it. The network is read at step 0, when the monitor is made, and after every step whose number
    is a multiple of `every`. The training is the same bit for bit. On a GPU a step that is not recorded
    waits for nothing, and a record moves one array.

    In Lightning a callback has the optimizer::

        class Sparsity(lightning.Callback):
            def on_train_start(self, trainer, module):
                self.monitor = SparsityMonitor(module, trainer.optimizers[0])

            def on_train_end(self, trainer, module):
                self.monitor.save("run.nc")
                self.monitor.close()

    For every batch normalisation that has gamma (psBN and SyncBatchNorm too), by its name in the state
    dict, a record holds gamma and beta of each filter, which give the shares with |gamma| below 1e-2,
    1e-3 and 1e-4, the activation probability :math:`\Phi(\beta / |\gamma|)`, the filters that
    practically never fire (probability below 1e-3) and E[BN], all as in `regdyn.nets.sparsity`.

    If the optimizer keeps Adam's moments, also sigma, the gradient noise of gamma that the simulators
    and predictions ask for: the root of the median of `variance_from_moments` over the filters of a
    layer, NaN where that is below 0 since the mean gradient is many times the noise.

    Parameters
    ----------
    model
        Any network with batch normalisation, bare or wrapped (DataParallel, DistributedDataParallel,
        averaged, compiled), but for one whose parameters are in pieces on several processes. Of several
        processes that train it, one should have a monitor.
    optimizer
        Counts the steps; None where `step` is called.
    every
        Steps from one record to the next, at least 1.
    activations
        Measure in the forward passes (in training mode) of a step that is recorded which activation
        each filter has after its normalisation: its peak and the share of samples and positions where
        it is above 0. See `watch_activations` for what is found. Not for compiled models.
    slope
        Of the activation below 0 in E[BN]: 0 for ReLU.
    keep
        Records that are kept, at least 2: if there were more, every second one is dropped and `every`
        doubles. A record takes 8 bytes a filter, 16 with activations, in float32.
    tensorboard
        Folder, or SummaryWriter, that gets every record at once, dropped ones too. Files in the folder
        stay.

    Attributes
    ----------
    steps
        Steps so far.
    every
        As given, or doubled.
    layer_names
        Names of the batch normalisations.
    readings
        What is kept, in the order of the steps.

    Raises
    ------
    InvalidParameter
        For anything but a model with batch normalisation that has gamma, an optimizer of torch and
        numbers in their range; for a folder that cannot be written; from `step` if the optimizer
        counts; for a compiled model whose activations are asked for.
    ModuleNotFoundError
        For a folder without TensorBoard.

    Source: mehta2019, section 2.1, and zhou2020, Eq. (2), for the measures; the noise is ours.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        every: int = EVERY,
        activations: bool = False,
        slope: float = 0.0,
        keep: int = KEEP,
        tensorboard: str | os.PathLike[str] | SummaryWriter | None = None,
    ) -> None:
        self._layers = _layers(model)
        if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
            raise InvalidParameter("optimizer", "a torch.optim.Optimizer", type(optimizer).__name__)
        self.every = check_integer("every", every, 1, 2**53)
        self.keep = check_integer("keep", keep, 2, 2**53)
        self.slope = check_number("slope", slope, "(-inf, inf)")
        if activations:
            check_followed(model)
        self.steps = 0
        self.readings: list[Reading] = []
        self._model, self._optimizer, self._activations = model, optimizer, activations
        self._seen: dict[str, _Seen] = {}
        self._watch: Any = None
        self._closed = False
        self._own_writer = tensorboard is not None and not hasattr(tensorboard, "add_scalar")
        self._writer: Any = _open_writer(tensorboard) if self._own_writer else tensorboard
        self._hook = None
        if optimizer is not None:
            self._hook = optimizer.register_step_post_hook(lambda *given: self._advance())
        self.record()

    # Steps

    def step(self) -> None:
        """Count a step of the loop, and record the network if it is due."""
        if self._optimizer is not None:
            raise InvalidParameter("optimizer", "None where step is called: it counts the steps itself")
        self._advance()

    def _advance(self) -> None:
        if self._closed:
            return
        self.steps += 1
        if self.steps % self.every == 0:
            self.record()
        else:
            self._prepare()

    def record(self) -> None:
        """Record the network as it is now, due or not, unless this step is recorded already."""
        if self.readings and self.readings[-1].step == self.steps:
            return
        reading = self._read()
        self.readings.append(reading)
        if self._writer is not None:
            write_reading(self._writer, reading, self.layer_names)
        while len(self.readings) > self.keep:
            self.every *= 2
            self.readings = [
                each for each in self.readings if each.step % self.every == 0 or each is reading
            ]
        self._prepare()

    def _prepare(self) -> None:
        """Watch the forward passes of the next step if it is due."""
        if self._activations and self._watch is None and (self.steps + 1) % self.every == 0:
            self._watch = watch_activations(self._model, self._look)
            self._watch.__enter__()

    def _look(self, name: str, activation: Tensor) -> None:
        # What is evaluated between two steps is no part of the training.
        if name in self._layers and self._model.training:
            self._seen.setdefault(name, _Seen()).add(activation)

    def _unwatch(self) -> dict[str, _Seen]:
        """What was seen since `_prepare`; nothing is watched any longer."""
        seen, self._seen = self._seen, {}
        if self._watch is not None:
            self._watch.__exit__(None, None, None)
            self._watch = None
        return seen

    def _read(self) -> Reading:
        seen = self._unwatch()
        norms = list(self._layers.values())
        gamma = [norm.weight for norm in norms]
        beta = [torch.zeros_like(n.weight) if n.bias is None else n.bias for n in norms]
        moments = _moments(self._optimizer, gamma)
        watched = [name for name in self._layers if name in seen]
        found = iter(
            _to_host(
                [
                    *gamma,
                    *beta,
                    *(tensor for each in moments if each is not None for tensor in each[:3]),
                    *(tensor for name in watched for tensor in seen[name].results()),
                ]
            )
        )
        gammas, betas = ([next(found) for _ in norms] for _ in range(2))
        sigmas = [_median_noise(each, found) for each in moments]
        activity = {name: BatchActivity(next(found), next(found)) for name in watched}
        alphas = [norm.alpha if isinstance(norm, PostShifted) else 0.0 for norm in norms]
        columns = gammas, betas, alphas, sigmas, map(activity.get, self._layers)
        return Reading(self.steps, tuple(map(LayerReading, *columns)))

    # What was recorded

    @property
    def model_name(self) -> str:
        """Class of the model, whatever is wrapped around it."""
        return type(bare(self._model)).__name__

    @property
    def layer_names(self) -> tuple[str, ...]:
        return tuple(self._layers)

    @property
    def times(self) -> NDArray[np.int64]:
        """Steps of the records, shape (times,)."""
        return np.array([reading.step for reading in self.readings], dtype=np.int64)

    @property
    def layers(self) -> tuple[measures.LayerSparsity, ...]:
        """Every measure of sparsity of each layer at the last record, none of one not finite."""
        last = self.readings[-1].layers
        return tuple(layer.summary(name, self.slope) for name, layer in zip(self._layers, last))

    @property
    def total(self) -> measures.LayerSparsity:
        """Every measure of sparsity over all layers at the last record."""
        return measures.total(self.layers)

    def to_xarray(self) -> xarray.Dataset:
        """All records as a Dataset, one variable per quantity and layer (gamma_bn1, …).

        gamma, beta and, where activations were seen, peak and active_share stand over (time, unit);
        sparsity_by_scale, active_predicted, never_fire, expected_activation, sigma, active_measured
        and sparsity_by_activation over (time, layer, …). Provenance as attributes.
        """
        attributes = provenance() | {
            "torch_version": version("torch"),
            "model": self.model_name,
            "every": self.every,
            "steps": self.steps,
            "threshold": SCALE_THRESHOLD,
            "slope": self.slope,
        }
        return to_dataset(self.readings, self.layer_names, self.slope, attributes)

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write `to_xarray` to a .nc file, whole or not at all.

        Raises
        ------
        InvalidParameter
            For another suffix, an existing file without `force`, or a place that cannot be written.
        """
        if os.path.splitext(path)[1].lower() != ".nc":
            raise InvalidParameter("out", "a file that ends in .nc", path)
        with written_whole("out", path, force) as temporary:
            temporary.write_bytes(netcdf_bytes(self.to_xarray()))

    def plot(self, *names: str, figure: Figure | None = None) -> Figure:
        """Draw gamma and beta of the filters over training; see `regdyn.plots.plot_scales`.

        Parameters
        ----------
        names
            Layers to draw, at most three; the first, the last and one between of a network with more.
        figure
            An empty figure to draw on; a new one where None.

        Raises
        ------
        InvalidParameter
            For a name that is no layer's, or too many.
        """
        from regdyn.plots.scales import MOST_LAYERS, plot_scales

        if len(names) > MOST_LAYERS:
            raise InvalidParameter("names", f"at most {MOST_LAYERS} layers", len(names))
        chosen = [check_choice("names", name, self._layers) for name in names] or list(self._layers)
        numbers = [self.layer_names.index(name) for name in chosen]

        def over_time(quantity: str) -> list[NDArray]:
            return [
                np.array([getattr(reading.layers[i], quantity) for reading in self.readings])
                for i in numbers
            ]

        title = f"{self.model_name}, every {self.every} steps"
        gamma, beta = over_time("gamma"), over_time("beta")
        return plot_scales(self.times, chosen, gamma, beta, SCALE_THRESHOLD, title=title, figure=figure)

    # States

    def state_dict(self) -> dict[str, Any]:
        """Steps and records as tensors and plain values, for a checkpoint of the training."""
        readings = {name: torch.tensor(values) for name, values in stack(self.readings).items()}
        return {
            "steps": self.steps, "every": self.every, "layers": list(self.layer_names),
            "readings": readings,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`: its steps, its `every` and its records instead of those so far.

        Raises
        ------
        InvalidParameter
            For anything but a state of a monitor of the same layers.
        """
        if not {"steps", "every", "layers", "readings"} <= state.keys():
            raise InvalidParameter("state", "of a monitor")
        names, sizes = state["layers"], {k: v.shape[1:] for k, v in state["readings"].items()}
        own = [norm.weight.shape for norm in self._layers.values()]
        if names != list(self.layer_names) or own != [sizes[f"gamma.{i}"] for i in range(len(own))]:
            raise InvalidParameter("state", "of a network with the same batch normalisations")
        self._unwatch()
        self.steps, self.every = int(state["steps"]), int(state["every"])
        self.readings = unstack({name: values.numpy() for name, values in state["readings"].items()})
        self._prepare()

    # The end

    def close(self) -> None:
        """Let go of the model and the optimizer: steps are no longer counted. Records stay."""
        self._unwatch()
        self._closed = True
        if self._hook is not None:
            self._hook.remove()
        if self._own_writer and self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> SparsityMonitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        first, last = self.readings[0], self.readings[-1]
        layers = dict(zip(self._layers, last.layers))

        def many(count: int, thing: str) -> str:
            return f"{count} {thing}{'s' * (count != 1)}"

        lines = [
            f"SparsityMonitor({self.model_name}: {many(len(layers), 'batch normalisation')}, "
            f"{many(last.units, 'filter')}; every {many(self.every, 'step')}, "
            f"{many(len(self.readings), 'record')}, the last at step {last.step})",
            f"  |gamma| < {SCALE_THRESHOLD:g}: {last.sparsity:.1%} of the filters "
            f"({first.sparsity:.1%} at step {first.step})",
            f"  practically never fire: {many(last.never_fire, 'filter')} "
            f"({first.never_fire} at step {first.step})",
        ]
        dying = sorted((n for n in layers if layers[n].sparsity > 0), key=lambda n: -layers[n].sparsity)
        if dying:
            lines.append(
                "  most dead: " + ", ".join(f"{n} {layers[n].sparsity:.1%}" for n in dying[:3])
            )
        sigma = [layer.sigma for layer in last.layers if math.isfinite(layer.sigma)]
        if sigma:
            lines.append(f"  gradient noise of gamma: {min(sigma):.2g} to {max(sigma):.2g}")
        broken = [name for name, layer in layers.items() if not layer.finite]
        if broken:
            lines.append(f"  not finite: {', '.join(broken)}")
        return "\n".join(lines)


class _Seen:
    """What the activations of a layer were in the forward passes of a step, on their device."""

    def __init__(self) -> None:
        self._peak: Tensor | None = None
        self._active: Tensor | None = None
        self._positions = 0

    def add(self, activation: Tensor) -> None:
        rest = [axis for axis in range(activation.ndim) if axis != 1]
        # Two maxima rather than one of the absolute values, which would be another map.
        peak = torch.maximum(activation.amax(rest), -activation.amin(rest))
        active = (activation > 0).sum(rest)
        self._peak = peak if self._peak is None else torch.maximum(self._peak, peak)
        self._active = active if self._active is None else self._active + active
        self._positions += activation.numel() // activation.shape[1]

    def results(self) -> tuple[Tensor, Tensor]:
        """Peak and share of active positions, shape (filters,)."""
        assert self._peak is not None and self._active is not None
        return self._peak, self._active / self._positions


def _layers(model: nn.Module) -> dict[str, BatchNorm]:
    """The batch normalisations with gamma, by name."""
    norms = batch_norms(model)
    lazy = [p for p in model.parameters() if isinstance(p, nn.parameter.UninitializedParameter)]
    if lazy:
        raise InvalidParameter("model", "one whose lazy layers have seen a batch", type(model).__name__)
    layers = {name: norm for name, norm in norms.items() if norm.affine}
    if not layers:
        wanted = "a network with batch normalisation that has gamma"
        raise InvalidParameter("model", wanted, type(model).__name__)
    if any(norm.weight.is_meta for norm in layers.values()):
        raise InvalidParameter("model", "on a device with memory", "the device meta")
    return layers


def _open_writer(folder: Any) -> SummaryWriter:
    try:
        from regdyn.cnn.events import open_writer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(missing_library(error), name=error.name) from None
    return open_writer(folder)


def _to_host(tensors: Sequence[Tensor]) -> list[NDArray]:
    """Tensors as vectors of NumPy, at least float32: one transfer from each device."""
    found: list[NDArray] = [np.empty(0)] * len(tensors)
    by_device: dict[torch.device, list[int]] = {}
    for i, tensor in enumerate(tensors):
        by_device.setdefault(tensor.device, []).append(i)
    for indices in by_device.values():
        flat = torch.cat([tensors[i].detach().reshape(-1) for i in indices]).cpu()
        wide = flat.to(torch.promote_types(flat.dtype, torch.float32)).numpy()
        ends = np.cumsum([tensors[i].numel() for i in indices])[:-1]
        for i, part in zip(indices, np.split(wide, ends)):
            # A view would keep the whole array.
            found[i] = part.copy()
    return found


_Moments = tuple[Tensor, Tensor, Tensor, float, float]


def _moments(
    optimizer: torch.optim.Optimizer | None, weights: Sequence[Tensor]
) -> list[_Moments | None]:
    """Adam's moments of parameters, their steps and both betas; None where there are none yet."""
    groups = optimizer.param_groups if optimizer is not None else []
    betas = {id(p): group["betas"] for group in groups if "betas" in group for p in group["params"]}
    found: list[_Moments | None] = []
    for weight in weights:
        state = {} if optimizer is None else optimizer.state.get(weight, {})
        if id(weight) in betas and {"exp_avg", "exp_avg_sq", "step"} <= state.keys():
            steps = torch.as_tensor(state["step"], dtype=torch.float32)
            beta1, beta2 = map(float, betas[id(weight)])
            found.append((state["exp_avg"], state["exp_avg_sq"], steps, beta1, beta2))
        else:
            found.append(None)
    return found


def _median_noise(moments: _Moments | None, found: Any) -> float:
    """Of the filters of a layer, from what `_to_host` made of its moments."""
    if moments is None:
        return math.nan
    mean, square, steps = next(found), next(found), next(found)
    variance = float(np.median(variance_from_moments(mean, square, float(steps[0]), *moments[3:])))
    return math.sqrt(variance) if variance >= 0 else math.nan
