r"""What became of a network's filters, from its tensors alone: which died, why, and which die next.

A filter dies in two ways. Decay takes its scale: :math:`|\gamma| <` 1e-3 (mehta2019, section 2.1;
zhou2020, section 3.1). Or it stops firing: :math:`\Phi((\beta + \alpha)/|\gamma|)` is nearly 0, the
non-trainable region of zhou2020, since a filter that does not fire gets no gradient; then decay has
all the time that it needs. "Nearly 0" is below 0.001 here: a filter on 32x32 maps then fires at one
position of an image on average.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from regdyn.doctor.factory import network_of
from regdyn.doctor.layers import find_layers
from regdyn.doctor.measured import Measured
from regdyn.doctor.origin import Training, noise_of_scales, training_of
from regdyn.doctor.outlook import SIGMA, Outlook, look_ahead
from regdyn.doctor.readings import NEVER_FIRES
from regdyn.doctor.reports import (
    Deaths,
    LayerReport,
    report_norm,
    report_weights,
    with_selectivity,
)
from regdyn.doctor.sparkline import sparkline
from regdyn.doctor.tensors import SavedTensors, load_tensors
from regdyn.dynamics.result import netcdf_bytes, provenance
from regdyn.errors import InvalidParameter
from regdyn.files import written_whole
from regdyn.nets import sparsity
from regdyn.nets.mlp import SCALE_THRESHOLD
from regdyn.nets.run_result import training_format
from regdyn.nets.sparsity import Array, LayerSparsity
from regdyn.optimizers import Optimizer
from regdyn.parameters import check_number

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Inspection:
    """What `inspect` found.

    Attributes
    ----------
    source
        The tensors, and where they are from.
    layers
        One for each batch normalisation; of a network without any, one for each tensor of weights.
    normalized
        Whether they are batch normalisations.
    unscaled, others
        Names of batch normalisations without gamma or beta, and of what has scale and shift but no
        running statistics, such as layer or group normalisation: they are not looked at.
    threshold, alpha
        Below which |gamma| counts as dead, and the constant of psBN.
    not_finite
        How many numbers of each tensor are NaN or infinite, by name, of those that have some.
    measured
        What data showed.
    training
        What a checkpoint of regdyn says of its training.
    noise
        Std of the gradient of each gamma, by layer, as far as a checkpoint of regdyn has it.
    outlooks
        What is predicted.
    """

    source: SavedTensors
    layers: tuple[LayerReport, ...]
    normalized: bool
    unscaled: tuple[str, ...]
    others: tuple[str, ...]
    threshold: float
    alpha: float
    not_finite: Mapping[str, int]
    measured: Measured | None
    training: Training | None
    noise: Mapping[str, Array]
    outlooks: tuple[Outlook, ...] = ()

    @property
    def filters(self) -> int:
        """How many there are in all layers."""
        return sum(layer.filters for layer in self.layers)

    @cached_property
    def deaths(self) -> Deaths:
        """Over all layers."""
        return Deaths.total([layer.deaths for layer in self.layers])

    @property
    def counts(self) -> NDArray[np.int64]:
        """`regdyn.doctor.sparkline.decade_counts` over all layers."""
        return np.asarray(np.sum([layer.counts for layer in self.layers], axis=0))

    @cached_property
    def total(self) -> LayerSparsity | None:
        """All layers as one; what is measured, over the layers in which it is."""
        known = [layer.sparsity for layer in self.layers if layer.sparsity is not None]
        if not known:
            return None
        whole, part = sparsity.total(known), self.measured_total
        if part is None:
            return whole
        measures = ("by_activation", "universality", "active_measured")
        return replace(whole, **{name: getattr(part, name) for name in measures})

    @cached_property
    def measured_total(self) -> LayerSparsity | None:
        """The layers whose activations were measured as one."""
        known = [layer.sparsity for layer in self.layers if layer.sparsity is not None]
        seen = [layer for layer in known if layer.universality is not None]
        return sparsity.total(seen) if seen else None

    @property
    def drawable(self) -> bool:
        """Whether there is a filter with a finite gamma and beta."""
        return self.normalized and self.total is not None

    # What it says

    def why(self) -> str:
        """How many filters are dead, and of what, as a sentence."""
        deaths, of = self.deaths, f"of the {self.filters:,} filters"
        if not self.normalized:
            return f"{deaths.dead:,} {of} are dead: their weights have a norm < {self.least:g}."
        if not deaths.dead:
            return f"None {of} is dead."
        causes = {
            f"by decay (|gamma| < {self.threshold:g}, though they would fire)": deaths.by_decay,
            "because they practically never fire (beta too far below 0)": deaths.silent,
            "by both": deaths.both,
        }  # fmt: skip
        words = [f"{number:,} {cause}" for cause, number in causes.items() if number]
        return f"{deaths.dead:,} {of} are dead: {', '.join(words)}."

    @property
    def least(self) -> float:
        """Below which a filter counts as dead: its |gamma|, or the norm of its weights."""
        return self.threshold if self.normalized else sparsity.NORM_THRESHOLD

    def remarks(self) -> list[str]:
        """What else a reader should know, a sentence each."""
        lines = [f"{note}." for note in self.source.notes]
        if not self.normalized:
            lines.append(
                "There is no batch normalisation with a scale, so that no filter has a gamma; filters "
                "are judged by the norm of their weights (yaguchi2018)."
            )
        elif self.deaths.constant:
            lines.append(
                f"{self.deaths.constant:,} of those that died by decay pass on a constant above "
                f"{self.threshold:g}, ReLU(beta): removing them needs it put elsewhere."
            )
        for names, what in (
            (self.unscaled, "batch normalisation without gamma or beta"),
            (self.others, "layer, group or instance normalisation"),
        ):
            if names:
                lines.append(f"Not looked at: {_some(names)} ({what}).")
        if self.measured is not None:
            without = [name for name, function in self.measured.functions.items() if function is None]
            if without:
                lines.append(
                    f"Without an activation of their own, as where a sum follows: {_some(without)}."
                )
            if self.measured.not_finite:
                lines.append(f"Activations are not finite in {_some(self.measured.not_finite)}.")
        return lines

    def sickness(self) -> str:
        """Which tensors have numbers that are not finite, as a sentence; "" if all are."""
        if not self.not_finite:
            return ""
        words = _some([f"{name} ({number:,})" for name, number in self.not_finite.items()])
        return f"NaN or infinity in {words}: such filters are left out of all numbers."

    def __repr__(self) -> str:
        name = self.source.path.name or "tensors"
        width = max(len(layer.name) for layer in self.layers)
        lines = [f"Inspection({name}: {len(self.layers)} layers, {self.filters:,} filters)"]
        lines += [
            f"  {layer.name:{width}} {layer.filters:5} filters, {layer.deaths.dead:4} dead "
            f"[{sparkline(layer.counts)}]"
            for layer in self.layers
        ]
        for sentence in (self.why(), self.sickness(), *self.remarks()):
            lines += [f"  {sentence}"] if sentence else []
        return "\n".join(lines + [f"  {line}" for each in self.outlooks for line in each.lines()])

    # What follows

    def look_ahead(
        self,
        optimizer: Optimizer | str | None = None,
        *,
        steps: int,
        lam: float | None = None,
        regularization: str | None = None,
        sigma: float | None = None,
        schedule: Any = None,
    ) -> Inspection:
        """The same with one more prediction, of `regdyn.doctor.outlook.look_ahead`.

        What is None is taken from a checkpoint of regdyn, sigma as the median over the filters that
        practically never fire, or over all if there are none; else it has the default there.
        """
        known = self.training
        if known is not None:
            optimizer = known.optimizer if optimizer is None else optimizer
            lam = known.lam if lam is None else lam
            regularization = known.regularization if regularization is None else regularization
        if sigma is None:
            sigma = self.usual_noise
        given = {"lam": lam, "regularization": regularization, "sigma": sigma}
        outlook = look_ahead(
            self.layers,
            "adam" if optimizer is None else optimizer,
            steps=steps,
            schedule=schedule,
            **{name: value for name, value in given.items() if value is not None},  # type: ignore
        )
        return replace(self, outlooks=(*self.outlooks, outlook))

    @cached_property
    def usual_noise(self) -> float:
        """Std of the gradient noise of gamma: as the checkpoint has it, or 1e-5."""
        idle, every = [], []
        for layer in self.layers:
            noise = self.noise.get(layer.name)
            if noise is not None:
                known = layer.finite & np.isfinite(noise)
                idle.append(noise[known & layer.silent])
                every.append(noise[known])
        for parts in (idle, every):
            if sum(map(len, parts)):
                return float(np.median(np.concatenate(parts)))
        return SIGMA

    # Forms

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, without the numbers of single filters, which `to_xarray` has."""
        return {
            "file": str(self.source.path),
            "part": self.source.part,
            "normalized": self.normalized,
            "threshold": self.least,
            "never_fires_below": NEVER_FIRES,
            "psbn_alpha": self.alpha,
            "filters": self.filters,
            "dead": self.deaths.dead,
            "deaths": vars(self.deaths),
            "why": self.why(),
            "layers": [layer.to_dict() for layer in self.layers],
            "total": with_selectivity(self.total),
            "not_finite": dict(self.not_finite),
            "batch_norm_without_scale": list(self.unscaled),
            "other_normalisation": list(self.others),
            "measured": None if self.measured is None else self.measured.to_dict(),
            "outlooks": [outlook.to_dict() for outlook in self.outlooks],
            "remarks": self.remarks(),
            **provenance(),
        }

    def to_xarray(self) -> xarray.Dataset:
        """Every filter along the dimension "filter", with coordinates layer and unit.

        What is not known of a filter is NaN; what is known of none is left out. The rest, as
        `to_dict`, is JSON in the attribute "summary".
        """
        import xarray

        sizes = [layer.filters for layer in self.layers]
        variables: dict[str, Any] = {}
        columns = [self._columns(layer) for layer in self.layers]
        for name, text in _COLUMNS.items():
            parts = [each.get(name) for each in columns]
            if any(part is not None for part in parts):
                filled = [np.full(n, np.nan) if x is None else x for x, n in zip(parts, sizes)]
                variables[name] = ("filter", np.concatenate(filled), {"long_name": text, "units": "1"})
        names = np.repeat([layer.name for layer in self.layers], sizes)
        coordinates = {
            "layer": ("filter", names),
            "unit": ("filter", np.concatenate([np.arange(n) for n in sizes])),
        }
        attributes = {
            "file": str(self.source.path),
            "threshold": self.least,
            "psbn_alpha": self.alpha,
            "summary": json.dumps(self.to_dict()),
            **provenance(),
        }
        return xarray.Dataset(variables, coordinates, attributes)

    def _columns(self, layer: LayerReport) -> dict[str, Array]:
        """What is known of each filter of a layer, by the names of `_COLUMNS`."""
        found: dict[str, Array] = {}
        if layer.norms is not None:
            found["weight_norm"] = layer.norms
        if layer.gamma is not None and layer.beta is not None:
            found |= {"gamma": layer.gamma, "beta": layer.beta}
            slope = 0.0 if self.training is None else self.training.slope
            gamma, beta = layer.gamma[layer.finite], layer.beta[layer.finite]
            probability, expected = (np.full(layer.filters, np.nan) for _ in range(2))
            probability[layer.finite] = sparsity.activation_probability(gamma, beta, layer.alpha)
            found["activation_probability"] = probability
            if slope is not None:
                expected[layer.finite] = sparsity.expected_activation(gamma, beta, layer.alpha, slope)
                found["expected_activation"] = expected
        for name, mask in (("small", layer.small), ("never_fires", layer.silent)):
            found[name] = np.where(layer.finite, mask, np.nan)
        seen = None if self.measured is None else self.measured.activations.get(layer.name)
        if seen is not None:
            found |= {
                "peak": seen.peak,
                "active_share": seen.active_share,
                "universality": seen.universality,
                "selectivity": 1 - seen.universality,
            }
        if layer.name in self.noise:
            found["gradient_noise"] = self.noise[layer.name]
        return found

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw the plane of gamma and beta: `regdyn.plots.plot_scale_plane`.

        Raises
        ------
        InvalidParameter
            Unless it is `drawable`.
        """
        from regdyn.plots import plot_scale_plane

        if not self.drawable:
            wanted = "used with a network that has batch normalisation with finite numbers"
            raise InvalidParameter("plot", wanted)
        planes = [
            (layer.name, layer.gamma[layer.finite], layer.beta[layer.finite])
            for layer in self.layers
            if layer.gamma is not None and layer.beta is not None
        ]
        return plot_scale_plane(
            planes,
            alpha=self.alpha,
            threshold=self.threshold,
            probability=NEVER_FIRES,
            figure=figure,
        )

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write every filter to a .nc file, or `to_dict` to a .json file, atomically.

        Raises
        ------
        InvalidParameter
            For another suffix, an existing file without `force`, or a place that cannot be written.
        """
        suffix = training_format(path)
        with written_whole("out", path, force) as temporary:
            if suffix == ".nc":
                temporary.write_bytes(netcdf_bytes(self.to_xarray()))
            else:
                temporary.write_text(json.dumps(self.to_dict(), indent=1))


_COLUMNS = {
    "gamma": "scale of the normalisation",
    "beta": "shift of the normalisation",
    "weight_norm": "L2 norm of the weights",
    "activation_probability": "Phi((beta + alpha)/|gamma|)",
    "expected_activation": "E[BN], mean activation on a standard normal input",
    "small": "whether |gamma|, without normalisation the norm, is below the threshold",
    "never_fires": "whether the activation probability is nearly 0",
    "peak": "greatest absolute activation over the training set",
    "active_share": "share of the samples and positions where it is active",
    "universality": "share of the training set that activates it",
    "selectivity": "1 - universality",
    "gradient_noise": "std of the gradient of gamma",
}


def inspect(
    source: SavedTensors | Mapping[str, Tensor] | str | os.PathLike[str],
    *,
    threshold: float = SCALE_THRESHOLD,
    alpha: float | None = None,
    measured: Measured | None = None,
) -> Inspection:
    """Look for dead filters in the tensors of a network, whatever its architecture.

    Layers are found by `find_layers`. Filters with NaN or infinity are counted and left out. E[BN] is
    that of ReLU, in a checkpoint of regdyn that of its own activation.

    Parameters
    ----------
    source
        A file or folder as for `load_tensors`, what that returned, or a state dict.
    threshold
        A filter with |gamma| below it counts as dead; above 0.
    alpha
        The constant of psBN, which is in no state dict; where None that of a checkpoint of regdyn,
        else 0.
    measured
        Of `measure`.

    Raises
    ------
    InvalidParameter
        As for `load_tensors`; for "file" without any weights; for a parameter out of range.

    Source: mehta2019, section 2.1; zhou2020, Eq. (2) and section 3.1; yaguchi2018, section II-B;
    bartoldson2020, appendix A.1, for E[BN].
    """
    if isinstance(source, Mapping):
        source = SavedTensors(Path(), dict(source))
    elif not isinstance(source, SavedTensors):
        source = load_tensors(source)
    limit = check_number("threshold", threshold, "(0, inf)")
    training = training_of(source)
    model = network_of(source)
    noise = {}
    if model is not None and training is not None:
        # In the order of the network, which safetensors do not keep.
        tensors = {name: source.tensors[name] for name in model.state_dict()}
        noise = noise_of_scales(source, model, training)
    else:
        tensors = source.tensors
    known = 0.0 if training is None else training.alpha
    shift = check_number("psbn_alpha", known if alpha is None else alpha, "[0, inf)")
    slope = 0.0 if training is None else training.slope
    found = find_layers(tensors, ordered=source.ordered or model is not None)
    seen = {} if measured is None else measured.activations
    layers = [
        report_norm(
            norm, threshold=limit, alpha=shift, slope=slope, activity=seen.get(norm.name)
        )
        for norm in found.norms
    ] or [report_weights(weights) for weights in found.weights]  # fmt: skip
    if not layers:
        got = f"{source.path} ({len(tensors)} tensors)"
        raise InvalidParameter("file", "that of a network, with weights of two or more axes", got)
    return Inspection(
        source=source,
        layers=tuple(layers),
        normalized=bool(found.norms),
        unscaled=found.unscaled,
        others=found.others,
        threshold=limit,
        alpha=shift,
        not_finite=_not_finite(tensors),
        measured=measured,
        training=training,
        noise=noise,
    )


def _not_finite(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """How many numbers are NaN or infinite, by tensor."""
    counts = {
        name: int((~tensor.isfinite()).sum())
        for name, tensor in tensors.items()
        if tensor.is_floating_point()
    }
    return {name: count for name, count in counts.items() if count}


def _some(names: list[str] | tuple[str, ...]) -> str:
    """The first three and how many more."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
