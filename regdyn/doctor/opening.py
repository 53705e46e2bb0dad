"""A trained network from a file, with the code that builds it where the file is not enough."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from torch import nn

from regdyn.doctor.compare import check_finite
from regdyn.doctor.factory import load_into, make_model, network_of
from regdyn.doctor.slim_file import about_slim, load_slim
from regdyn.doctor.tensors import load_tensors
from regdyn.errors import InvalidParameter


@dataclass(frozen=True, eq=False)
class Opened:
    """A network with the weights of a file.

    Attributes
    ----------
    model
        The network, in evaluation mode.
    about
        What `save_slim` needs to say where it comes from: "model", the factory, or "network", a
        description of one of regdyn's own.
    data
        Name of the data that it was trained on, if the file says so.
    shape
        Of an input without the batch, if the file says so.
    notes
        What the user should know, a sentence each.
    """

    model: nn.Module
    about: dict[str, Any]
    data: str | None
    shape: tuple[int, ...] | None
    notes: tuple[str, ...]


def open_network(
    path: str | os.PathLike[str], model: str | None = None, part: str | None = None
) -> Opened:
    """The network in a file of weights, a checkpoint of regdyn, or a file of `save_slim`.

    Parameters
    ----------
    path, part
        As for `load_tensors`.
    model
        "package.module:factory", which builds the network; may be left out for one of regdyn's own.

    Raises
    ------
    InvalidParameter
        For "file" or "part": what cannot be read, or weights that are not finite. For "model": missing
        where it is needed, a factory that fails, or a network that does not have the tensors in the
        file.
    """
    known = about_slim(path)
    if known is not None:
        network = load_slim(path, model)
        about = {name: known.get(name) for name in ("model", "network", "data", "input")}
        shape = None if known.get("input") is None else tuple(map(int, known["input"]))
        opened = Opened(network, about | _factory(model), known.get("data"), shape, ())
    else:
        saved = load_tensors(path, part)
        own = network_of(saved) if model is None else None
        if model is not None:
            network = make_model(model)
            load_into(network, saved.tensors)
            opened = Opened(network, _factory(model), None, None, saved.notes)
        elif own is None or saved.config is None:
            wanted = "package.module:factory, which builds the network whose weights are in the file"
            raise InvalidParameter("model", wanted)
        else:
            setting = own.setting
            described = {"model": saved.config["model"], "setting": vars(setting)}
            data = saved.config["data"].get("name")
            shape = setting.channels, *setting.size
            opened = Opened(own, {"network": described}, data, shape, saved.notes)
    check_finite(opened.model, "file")
    opened.model.eval()
    return opened


def _factory(model: str | None) -> dict[str, Any]:
    return {} if model is None else {"model": model, "network": None}
