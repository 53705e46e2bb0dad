"""The network that a user's own code builds, and the weights of a file in it."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any

from torch import Tensor, nn

from regdyn.cnn import models
from regdyn.cnn.models import Network, Setting
from regdyn.doctor.tensors import SavedTensors
from regdyn.errors import InvalidParameter

WANTED = "package.module:factory, which takes no arguments and returns a torch.nn.Module"


def make_model(text: str) -> nn.Module:
    """Import `package.module`, call its `factory` without arguments, and return the network.

    Modules are looked for as by `python -m`, in the folder where the command runs too. What the
    factory does is the user's own code: name only one that you would run.

    Raises
    ------
    InvalidParameter
        For "model": another form, an unknown module or name, a factory that fails, with what it raised,
        or that returns something else.
    """
    module, colon, name = str(text).partition(":")
    if not (colon and module and name):
        raise InvalidParameter("model", WANTED, repr(text))
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    factory = _guarded(text, lambda: attrgetter(name)(importlib.import_module(module)))
    if not callable(factory) or isinstance(factory, nn.Module):
        raise InvalidParameter("model", WANTED, f"{text}, which is a {type(factory).__name__}")
    model = _guarded(text, factory)
    if not isinstance(model, nn.Module):
        raise InvalidParameter("model", WANTED, f"{text}, which returned a {type(model).__name__}")
    return model


def _guarded(text: str, call: Callable[[], Any]) -> Any:
    """What `call` returns; whatever it raises becomes one line, SystemExit of a script too."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise InvalidParameter("model", WANTED, f"{text} ({reason})") from None


def network_of(saved: SavedTensors) -> Network | None:
    """The network of a checkpoint of regdyn with its weights; None for another file.

    Raises
    ------
    InvalidParameter
        For "file": its configuration is damaged or belongs to other tensors.
    """
    config = saved.config
    if config is None:
        return None
    try:
        _, rows, columns, channels = config["data"]["x_train"]["shape"]
        setting = Setting(
            channels=channels,
            size=(rows, columns),
            n_classes=config["data"]["n_classes"],
            **{name: config[name] for name in ("norm", "alpha", "activation", "slope")},
        )
        model = models.make_model(config["model"], setting)
    except (KeyError, TypeError, ValueError) as error:
        got = f"{saved.path} ({type(error).__name__}: {error})"
        raise InvalidParameter("file", "a checkpoint with a whole configuration", got) from None
    load_into(model, saved.tensors, "file")
    return model


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], name: str = "model") -> str:
    """Give the network the weights of a file; all of them fit, or none is taken.

    A name that all of the network's parts have in the file before their own, such as "model." in
    checkpoints of Lightning, is found by comparison; tensors beside those are then left alone.

    Parameters
    ----------
    model
        Changed in place.
    tensors
        Such as `SavedTensors.tensors`.
    name
        Of the parameter that errors speak of.

    Returns
    -------
    That name with its dot, "" where there is none.

    Raises
    ------
    InvalidParameter
        For `name`: tensors that are missing, not expected or of another shape; says the first of each
        kind and how many there are.
    """
    own = model.state_dict()
    prefix = _prefix(own, tensors)
    given = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    # Batch normalisation counts its batches since torch 0.4.1.
    missing = [k for k in own if k not in given and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in given if k not in own]
    shapes = {k: (tuple(given[k].shape), tuple(own[k].shape)) for k in own if k in given}
    other = [f"{k} {had}, here {has}" for k, (had, has) in shapes.items() if had != has]
    problems = [
        _some(what, found)
        for what, found in (("another shape", other), ("not in the file", missing),
                            ("in the file alone", unexpected)) if found
    ]  # fmt: skip
    if problems:
        raise InvalidParameter(name, "the network whose tensors the file holds", "; ".join(problems))
    model.load_state_dict(given, strict=False)
    return prefix


def _prefix(own: Iterable[str], tensors: Iterable[str]) -> str:
    """The first part of names in the file behind which most names of the network are found."""
    wanted, names = set(own), list(tensors)
    firsts = dict.fromkeys(["", *(name.partition(".")[0] + "." for name in names if "." in name)])
    return max(firsts, key=lambda first: len(wanted & {_without(name, first) for name in names}))


def _without(name: str, first: str) -> str | None:
    return name.removeprefix(first) if name.startswith(first) else None


def _some(what: str, found: list[str]) -> str:
    """The first two offenders and how many more there are."""
    more = f" and {len(found) - 2} more" if len(found) > 2 else ""
    return f"{what}: {', '.join(found[:2])}{more}"
