"""Slim networks as files of safetensors, and from there back into the code that builds them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from regdyn.cnn import models
from regdyn.cnn.checkpoints import write_tensors
from regdyn.cnn.models import Setting
from regdyn.doctor.factory import make_model
from regdyn.doctor.kinds import CONVOLUTIONS, TRANSPOSED, Mixing, Norm, is_depthwise
from regdyn.doctor.tensors import load_tensors
from regdyn.errors import InvalidParameter
from regdyn.files import written_whole

FORMAT = 1
KEY = "regdyn.slim"
"""Where the metadata of the file hold what `save_slim` was told, as JSON."""


def save_slim(
    model: nn.Module,
    path: str | os.PathLike[str],
    about: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    name: str = "out",
) -> None:
    """Write the state dict of a slim network as safetensors, whole or not at all.

    Parameters
    ----------
    model
        Such as `Slimmed.model`.
    path
        The file.
    about
        JSON about its making that goes into the metadata. "network", with "model" as for
        `regdyn.cnn.make_model` and the fields of its "setting", lets `load_slim` build a network of
        regdyn's own.
    force
        Overwrite a file that is there.
    name
        Of the parameter that errors speak of.

    Raises
    ------
    InvalidParameter
        For `name`: an existing file without `force`, or one that cannot be written.
    """
    record = {"format": FORMAT, "regdyn_version": version("regdyn")}
    metadata = {"format": "pt", KEY: json.dumps(record | dict(about or {}))}
    # Copies: two names of one tensor would be refused.
    tensors = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
        if isinstance(value, Tensor)
    }
    with written_whole(name, path, force) as temporary:
        write_tensors(tensors, temporary, metadata)


def about_slim(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """What the metadata of a file of `save_slim` say; None for any other file.

    Raises
    ------
    InvalidParameter
        For "file": another format of regdyn.
    """
    try:
        if not Path(path).is_file():
            return None
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
        about = None if text is None else json.loads(text)
    except (OSError, ValueError, SafetensorError):
        return None
    if about is None:
        return None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        wanted = f"a slim network of regdyn, format {FORMAT}"
        raise InvalidParameter("file", wanted, f"{path}, another format")
    return about


def load_slim(
    path: str | os.PathLike[str], model: nn.Module | Callable[[], nn.Module] | str | None = None
) -> nn.Module:
    """The slim network in a file of `save_slim`, ready to run, in evaluation mode.

    Parameters
    ----------
    path
        The file.
    model
        The network before anything was removed, what makes it, or "package.module:factory"; it is
        shrunk in place to the shapes in the file. None for a network of regdyn's own, which the file
        describes. No code that a file names is ever imported.

    Raises
    ------
    InvalidParameter
        For "file": no slim network. For "model": None with a network of another origin, or one that
        does not have the layers in the file.
    """
    about = about_slim(path)
    tensors = load_tensors(path).tensors
    if about is None:
        raise InvalidParameter("file", "a slim network that regdyn prune wrote", path)
    if isinstance(model, str):
        model = make_model(model)
    elif model is None:
        model = _rebuilt(path, about)
    elif not isinstance(model, nn.Module):
        model = model()
    shrink(model, tensors)
    return model.eval()


def shrink(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a network the weights of a slim one and cut its layers to their shapes, in place.

    Shapes tell it all: convolutions, linear maps and normalisations get the numbers of channels that
    their tensors have, a depthwise convolution as many groups, and a bias where there was none.

    Parameters
    ----------
    model
        The network as its code builds it; stays as it was if the tensors do not fit.
    tensors
        Of the slim network, by name.

    Raises
    ------
    InvalidParameter
        For "model": tensors that are missing, unknown, or not smaller versions of those of the network.
    """
    own = model.state_dict()
    problems = [
        f"{key} is missing"
        for key in own
        if key not in tensors and not key.endswith("num_batches_tracked")
    ]
    for key, value in tensors.items():
        if key in own:
            shape, was = tuple(value.shape), tuple(own[key].shape)
            if len(shape) != len(was) or any(a > b for a, b in zip(shape, was)):
                problems.append(f"{key} has shape {shape} in the file, {was} in the network")
        elif not _may_get_bias(model, key):
            problems.append(f"{key} is in the file alone")
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        wanted = "the network of which the file holds a slim one"
        raise InvalidParameter("model", wanted, "; ".join(problems[:3]) + more)
    depthwise = {module for module in model.modules() if is_depthwise(module)}
    for key, value in tensors.items():
        path, _, name = key.rpartition(".")
        module = model.get_submodule(path)
        old = module._parameters.get(name, module._buffers.get(name))
        if old is not None and old.shape == value.shape:
            continue
        like = module.weight if old is None else old
        assert isinstance(like, Tensor)
        empty = torch.empty(value.shape, dtype=like.dtype, device=like.device)
        if name in module._buffers:
            module._buffers[name] = empty
        else:
            module._parameters[name] = nn.Parameter(empty, like.requires_grad)
    for module in model.modules():
        _fit(module, module in depthwise)
    model.load_state_dict(dict(tensors), strict=False)


def _may_get_bias(model: nn.Module, key: str) -> bool:
    path, _, name = key.rpartition(".")
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return False
    return name == "bias" and isinstance(module, Mixing) and module.bias is None


def _fit(module: nn.Module, depthwise: bool) -> None:
    """Set what a layer says of its size to the size of its tensors."""
    weight = module._parameters.get("weight")
    if isinstance(module, Norm):
        known = weight if weight is not None else module._buffers.get("running_mean")
        if known is not None:
            module.num_features = len(known)
    elif weight is None:
        return
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, (*CONVOLUTIONS, *TRANSPOSED)):
        if depthwise:
            module.groups = len(weight)
        outside, inside = len(weight), weight.shape[1] * module.groups
        transposed = isinstance(module, TRANSPOSED)
        module.in_channels, module.out_channels = (outside, inside) if transposed else (inside, outside)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(weight)


def _rebuilt(path: str | os.PathLike[str], about: Mapping[str, Any]) -> nn.Module:
    described = about.get("network")
    if described is None:
        factory = about.get("model") or "package.module:factory"
        wanted = f"given, as the file holds the weights of a network of other code ({factory})"
        raise InvalidParameter("model", wanted)
    try:
        return models.make_model(described["model"], Setting(**described["setting"]))
    except (KeyError, TypeError, ValueError) as error:
        got = f"{path} ({type(error).__name__}: {error})"
        raise InvalidParameter("file", "a slim network with a whole description", got) from None
