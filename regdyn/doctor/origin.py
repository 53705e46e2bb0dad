"""What a checkpoint of regdyn says of the training that it is from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from regdyn.cnn.metrics import to_numpy
from regdyn.cnn.models import Network
from regdyn.doctor.gradient_noise import noise_from_moments
from regdyn.doctor.tensors import SavedTensors
from regdyn.errors import InvalidParameter
from regdyn.nets.mlp import slope_below
from regdyn.nets.sparsity import Array
from regdyn.optimizers import Optimizer, make_optimizer


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network of regdyn was trained.

    Attributes
    ----------
    optimizer
        The rule with its hyperparameters, its learning rate that of gamma.
    lam, regularization
        Of the decay.
    alpha
        The constant of psBN.
    slope
        Of the activation below 0; None where it is not linear there.
    constant
        Whether its learning rate was constant.
    data
        Name of the images.
    """

    optimizer: Optimizer
    lam: float
    regularization: str
    alpha: float
    slope: float | None
    constant: bool
    data: str


def training_of(saved: SavedTensors) -> Training | None:
    """The training that a checkpoint of regdyn is from; None for another file.

    Raises
    ------
    InvalidParameter
        For "file": its configuration is damaged.
    """
    config = saved.config
    if config is None:
        return None
    try:
        rule: dict[str, Any] = dict(config["optimizer"])
        optimizer = make_optimizer(rule.pop("type"), **rule)
        return Training(
            optimizer=replace(optimizer, lr=optimizer.lr * float(config["gamma_lr"])),
            lam=float(config["lam"]),
            regularization=str(config["regularization"]),
            alpha=float(config["alpha"]),
            slope=slope_below(str(config["activation"]), float(config["slope"])),
            constant=config["schedule"]["type"] == "Constant",
            data=str(config["data"]["name"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        got = f"{saved.path} ({type(error).__name__}: {error})"
        raise InvalidParameter("file", "a checkpoint with a whole configuration", got) from None


def noise_of_scales(saved: SavedTensors, model: Network, training: Training) -> dict[str, Array]:
    """Std of the gradient of gamma of each filter, by the name of its normalisation.

    From the moments that Adam or AMSGrad left in the checkpoint (`noise_from_moments`); nothing for
    other rules, and NaN where nothing can be said.
    """
    rule = training.optimizer.parameters()
    names = [layer.norm for layer in model.layers if layer.norm is not None]
    own = [name for name, _ in model.named_parameters()]
    scales = [name for name in own if name.rpartition(".")[0] in names and name.endswith(".weight")]
    # The optimizer has gamma and beta behind all other parameters.
    first = len(own) - 2 * len(scales)
    found = {}
    for number, name in enumerate(scales, start=first):
        kept = [saved.optimizer.get(f"{number}.{key}") for key in ("exp_avg", "exp_avg_sq", "step")]
        mean, square, step = kept
        if mean is None or square is None or step is None or mean.shape != saved.tensors[name].shape:
            continue
        found[name.removesuffix(".weight")] = noise_from_moments(
            to_numpy(mean), to_numpy(square), float(step), rule["beta1"], rule["beta2"]
        )
    return found
