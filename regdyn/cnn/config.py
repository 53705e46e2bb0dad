"""The configuration of a training run of the torch backend."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from regdyn.cnn.data import make_images
from regdyn.cnn.images import Images
from regdyn.cnn.models import make_model
from regdyn.cnn.models.base import Network, Setting
from regdyn.dynamics.schedules import CosineRestarts
from regdyn.errors import InvalidParameter
from regdyn.nets.config import NetworkConfig
from regdyn.parameters import check_choice, check_integer

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "full", "bfloat16")
MAX_CROP = 64


@dataclass(frozen=True, kw_only=True)
class CnnConfig(NetworkConfig):
    """One training run of a convolutional network in torch.

    The batches, their number and the decay are as for `regdyn.TrainConfig`; the optimizer is the one of
    torch.optim that computes the same rule.

    Parameters
    ----------
    data
        `Images`, or what `regdyn.cnn.data.make_images` takes.
    data_dir
        Folder with the published archives of data that do not come with the package.
    model
        What `regdyn.cnn.models.make_model` takes, such as "basicnet" or "basicnet:width=0.25".
    norm
        "batch", "instance" or "none"; as in the model's paper where None. `alpha` makes "batch" psBN.
    flip
        Mirror each training image left to right with probability 1/2.
    crop
        Shift each training image by up to so many pixels in both directions, black coming in.
    ensemble
        Snapshots of the last so many rounds of a schedule with restarts, each taken at the end of its
        round, whose mean probabilities make an error of their own; 0 for none (zhou2020, section 5.2).
    start
        Folder of a checkpoint whose network is the start, instead of random weights.
    shuffle
        Shuffle that network's parameters inside each tensor (zhou2020, section 3.6).
    device
        "cpu", "cuda", or "auto" for a GPU where there is one.
    precision
        "bfloat16" runs the network under autocast, "full" in `dtype`; "auto" is bfloat16 for float32 on
        a GPU.
    others
        See `NetworkConfig` and `OptimizationConfig`.

    Raises
    ------
    InvalidParameter
        Naming the first parameter that cannot be used and what is allowed.
    MissingData
        If the data are not in `data_dir`.
    """

    n_times: ClassVar[int] = 20

    data: Images | str = "digits"
    data_dir: Path | str | None = None
    model: str = "basicnet"
    flip: bool = False
    crop: int = 0
    ensemble: int = 0
    start: Path | str | None = None
    shuffle: bool = False
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rule.torch_equivalent()
        if isinstance(self.data, str):
            folder = None if self.data_dir is None else Path(self.data_dir)
            self._store("data", make_images(self.data, folder))
        elif not isinstance(self.data, Images):
            raise InvalidParameter("data", "Images or their name", self.data)
        setting = self.blueprint.setting
        for name in ("norm", "activation", "slope", "alpha"):
            self._store(name, getattr(setting, name))
        self._check_scales()
        self._check_batch(len(self.images.y_train))
        most = min(MAX_CROP, *(length - 1 for length in self.images.size))
        self._store("crop", check_integer("crop", self.crop, 0, most))
        self._store("ensemble", check_integer("ensemble", self.ensemble, 0, 1000))
        if self.ensemble > len(self.rounds):
            wanted = f"at most the number of rounds of a schedule of restarts ({len(self.rounds)} here)"
            raise InvalidParameter("ensemble", wanted, self.ensemble)
        if self.shuffle and self.start is None:
            raise InvalidParameter("shuffle", "used with start, the checkpoint of a trained network")
        self._store("device", available_device(self.device))
        self._store("precision", check_choice("precision", self.precision, PRECISIONS))
        if self.precision == "auto":
            narrow = self.device == "cuda" and self.dtype == "float32"
            self._store("precision", "bfloat16" if narrow else "full")
        if self.precision == "bfloat16" and self.dtype != "float32":
            raise InvalidParameter("precision", "full in float64", self.precision)

    def _checked_times(self) -> NDArray[np.int64]:
        """The end is always among them and, where no times are given, so are the ends of rounds."""
        more = [self.steps] if self.times is not None else [self.steps, *self.rounds]
        return np.union1d(super()._checked_times(), more).astype(np.int64)

    @cached_property
    def rounds(self) -> tuple[int, ...]:
        """The last step of each round of a schedule with restarts, as far as there are steps."""
        ends: list[int] = []
        if isinstance(self.schedule, CosineRestarts):
            end, length = self.schedule.period, self.schedule.period
            while end <= self.steps:
                ends.append(end)
                length *= self.schedule.growth
                end += length
        return tuple(ends)

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: what is derived of them is derived again in another process."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def images(self) -> Images:
        """The data, which are no longer a name once the configuration is checked."""
        assert isinstance(self.data, Images)
        return self.data

    def make_model(self) -> Network:
        """The network with torch's own random weights."""
        images = self.images
        setting = Setting(
            channels=images.channels,
            size=images.size,
            n_classes=images.n_classes,
            norm=self.norm,
            alpha=self.alpha,
            activation=self.activation,
            slope=self.slope,
        )
        return make_model(self.model, setting)

    @cached_property
    def blueprint(self) -> Network:
        """The network without numbers: its layers and modules."""
        with torch.device("meta"):
            return self.make_model()

    @property
    def normalized(self) -> bool:
        return self.blueprint.setting.norm != "none"

    @property
    def task(self) -> str:
        return str(self.images)

    @property
    def data_name(self) -> str:
        return self.images.name

    @property
    def network(self) -> str:
        return self.model

    @property
    def particulars(self) -> tuple[str, ...]:
        start = f"start {self.start}{', shuffled' * self.shuffle}"
        words = {
            "mirrored at random": self.flip,
            f"shifted by up to {self.crop} pixels": self.crop,
            start: self.start is not None,
            "bfloat16 under autocast": self.precision == "bfloat16",
        }
        return tuple(word for word, said in words.items() if said)


def available_device(device: str) -> str:
    """One of `DEVICES` as the one that is meant, or InvalidParameter where torch does not have it."""
    check_choice("device", device, DEVICES)
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidParameter("device", "cpu or auto: torch finds no GPU here", device)
    return device
