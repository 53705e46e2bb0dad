"""Errors that a user can cause, each of which prints as one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class RegdynError(Exception):
    """Base of the errors that regdyn raises on purpose."""


class InvalidParameter(RegdynError, ValueError):
    """A parameter has a value that cannot be used.

    Parameters
    ----------
    name
        The parameter as Python spells it (the command line turns it into an option).
    requirement
        What is allowed, so that "NAME must be REQUIREMENT" is a sentence.
    value
        What was given; left out of the message where it is None.
    """

    def __init__(self, name: str, requirement: str, value: Any = None) -> None:
        self.name = name
        self.requirement = requirement
        self.value = value
        super().__init__(name, requirement, value)

    def describe(self, name: str) -> str:
        """The message with the parameter called `name`."""
        got = "" if self.value is None else f", got {self.value}"
        return f"{name} must be {self.requirement}{got}"

    def __str__(self) -> str:
        return self.describe(self.name)


class OutsideDomain(RegdynError, ValueError):
    """A closed form was asked for parameters for which it says nothing.

    Parameters
    ----------
    requirement
        The condition that fails, in words and symbols, so that "needs REQUIREMENT" is a sentence.
    got
        The offending values by name.
    """

    def __init__(self, requirement: str, got: Mapping[str, float]) -> None:
        self.requirement = requirement
        self.got = dict(got)
        super().__init__(requirement, self.got)

    def __str__(self) -> str:
        values = ", ".join(f"{name} = {value:g}" for name, value in self.got.items())
        return f"the closed form needs {self.requirement}" + (f"; got {values}" if values else "")


class MissingData(RegdynError):
    """A data set is in files that are not here and that regdyn does not download.

    Parameters
    ----------
    what
        The sentence that says what is missing.
    source
        The address where it is published.
    command
        The shell command that gets it.
    """

    def __init__(self, what: str, source: str, command: str) -> None:
        self.what = what
        self.source = source
        self.command = command
        super().__init__(what, source, command)

    def __str__(self) -> str:
        return f"{self.what}, from {self.source}: {self.command}"


EXTRAS = {
    "torch": "torch",
    "safetensors": "torch",
    "joblib": "workers",
    "dask": "workers",
    "distributed": "workers",
    "tensorboard": "tensorboard",
    "torch_pruning": "prune",
}
"""Libraries that are not installed with regdyn, and the extra that each comes with."""


def missing_library(error: ModuleNotFoundError) -> str:
    """What is not installed, and the command that installs it."""
    extra = EXTRAS.get(error.name or "")
    wanted = f"'regdyn[{extra}]'" if extra else error.name
    return f"{error.name} is not installed: pip install {wanted}"


class CheckFailed(RegdynError):
    """A result is not what it must be; nothing was written."""


class Interrupted(RegdynError):
    """The user stopped a run that can go on."""


class WorkerLost(RegdynError):
    """Workers died, or cannot do the work, and nobody else took it."""
