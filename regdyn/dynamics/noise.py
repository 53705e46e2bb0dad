"""Gradient models: what the loss sends to a weight that sees little of it.

Every model gives the gradient of step t as sigma_t * z_t, where z_t has mean 0 and variance 1 (times
the gate, where there is one) and is drawn as :mod:`regdyn.dynamics.random` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from regdyn.dynamics.per_step import PerStep
from regdyn.errors import InvalidParameter
from regdyn.files import load_numbers
from regdyn.parameters import check_choice, check_integer, check_number, real_array

MAX_BURN_IN = 10**12


@dataclass(frozen=True)
class BurnIn:
    """Stds of mehta2019, figure 4: `early` for the first `steps` steps, then `late`.

    The paper's "transition into the low gradient regime" is 1e-3 for 100 steps, then 1e-5.
    """

    late: float = 1e-5
    early: float = 1e-3
    steps: int = 100

    def __post_init__(self) -> None:
        object.__setattr__(self, "late", check_number("sigma", self.late, "[0, inf)"))
        object.__setattr__(self, "early", check_number("burn_in_sigma", self.early, "[0, inf)"))
        steps = check_integer("burn_in_steps", self.steps, 0, MAX_BURN_IN)
        object.__setattr__(self, "steps", steps)

    def __call__(self, t: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.where(np.asarray(t) <= self.steps, self.early, self.late)


class StdTable(PerStep):
    """One std per step, from an array; the last one holds after its end."""

    parameter = "sigma"


Stds = BurnIn | StdTable


def _as_stds(sigma: Stds | ArrayLike) -> Stds:
    return sigma if isinstance(sigma, (BurnIn, StdTable)) else StdTable(sigma)


@dataclass(frozen=True)
class Gaussian:
    """g_t ~ N(0, sigma_t^2), independent from step to step.

    `sigma` is a `BurnIn` (the default is the paper's), a number, or an array with one std per step.
    """

    name: ClassVar[str] = "gaussian"
    sigma: Stds | ArrayLike = BurnIn()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", _as_stds(self.sigma))


@dataclass(frozen=True)
class Gated:
    """g_t ~ N(0, sigma_t^2) with probability p, else exactly 0: the weight of a selective feature.

    A feature that fires on a share p of the inputs sends a gradient only in that share of the steps,
    the mechanism of mehta2019, section 3. sigma_t is the std while the gate is open; p is used to
    2^-32.
    """

    name: ClassVar[str] = "gated"
    p: float = 0.1
    sigma: Stds | ArrayLike = BurnIn()

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", check_number("gate_probability", self.p, "[0, 1]"))
        object.__setattr__(self, "sigma", _as_stds(self.sigma))


@dataclass(frozen=True)
class StudentT:
    """Student's t with `dof` degrees of freedom, scaled so that sigma_t is its std (hence dof > 2).

    Its tails end where they hold a probability of 2^-41, and with it the share 2^(-41 (1 - 2 / dof)) of
    the variance: 1e-5 of it for dof = 3.4, 0.3 percent for 2.5, nearly all of it close to 2.
    """

    name: ClassVar[str] = "student-t"
    dof: float = 5.0
    sigma: Stds | ArrayLike = BurnIn()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dof", check_number("dof", self.dof, "(2, inf)"))
        object.__setattr__(self, "sigma", _as_stds(self.sigma))


@dataclass(frozen=True, eq=False)
class Trace:
    """Recorded gradients: one value per step, or an array of shape (steps, trajectories).

    Used as they are; a memory-mapped array is read piece by piece.
    """

    name: ClassVar[str] = "trace"
    values: NDArray[np.floating]

    def __init__(self, values: ArrayLike) -> None:
        wanted = "numbers of shape (steps,) or (steps, trajectories)"
        array = real_array("trace", values, wanted)
        if array.ndim not in (1, 2) or not array.size:
            raise InvalidParameter("trace", wanted, f"{array.dtype} of shape {array.shape}")
        if array.ndim == 1:
            array = array[:, None]
        for start in range(0, len(array), 4096):
            finite = np.isfinite(array[start : start + 4096])
            if not finite.all():
                row = start + int(np.argmin(finite.all(axis=1)))
                raise InvalidParameter("trace", "finite", f"NaN or infinity at step {row + 1}")
        object.__setattr__(self, "values", array)

    @classmethod
    def load(cls, path: str) -> Trace:
        """From a .npy file, memory-mapped."""
        return cls(load_numbers("trace", path, memory_map=True))

    def check_shape(self, steps: int, trajectories: int) -> None:
        """Raise InvalidParameter unless there is a value for every step and trajectory."""
        rows, columns = self.values.shape
        if rows != steps or columns not in (1, trajectories):
            raise InvalidParameter(
                "trace",
                f"of shape ({steps},) or ({steps}, {trajectories}), one value per step",
                f"shape ({rows}, {columns})" if columns > 1 else f"shape ({rows},)",
            )

    def __repr__(self) -> str:
        return f"Trace{self.values.shape}"


@dataclass(frozen=True)
class NoNoise:
    """g_t = 0: the decay alone."""

    name: ClassVar[str] = "none"


Noise = Gaussian | Gated | StudentT | Trace | NoNoise

NOISES: dict[str, type] = {model.name: model for model in (Gaussian, Gated, StudentT, Trace, NoNoise)}


_DRAWN = ("gaussian", "gated", "student-t")

STD_PARAMETERS = ("sigma", "burn_in_sigma", "burn_in_steps")

NOISE_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(STD_PARAMETERS, _DRAWN),
    "gate_probability": ("gated",),
    "dof": ("student-t",),
    "trace": ("trace",),
}
"""Parameters of the gradient models by their names in `make_noise`, and the models that take them."""


def make_stds(given: Mapping[str, Any]) -> Stds:
    """The std of each step from `STD_PARAMETERS`; one that is missing or None has its default.

    `sigma` may be a .npy file with a std per step; then there is no burn-in.
    """
    given = {name: given[name] for name in STD_PARAMETERS if given.get(name) is not None}
    sigma: Any = given.get("sigma")
    from_file = isinstance(sigma, str) and sigma.endswith(".npy")
    if from_file or isinstance(sigma, (BurnIn, StdTable)) or np.ndim(0 if sigma is None else sigma) > 0:
        for name in ("burn_in_sigma", "burn_in_steps"):
            if name in given:
                raise InvalidParameter(name, "used with a number for sigma", given["sigma"])
        return StdTable(load_numbers("sigma", sigma)) if from_file else _as_stds(sigma)
    names = {"sigma": "late", "burn_in_sigma": "early", "burn_in_steps": "steps"}
    return BurnIn(**{names[name]: value for name, value in given.items()})


def make_noise(name: str | None, given: Mapping[str, Any]) -> Noise:
    """The gradient model called `name` with the `NOISE_PARAMETERS` that are given and not None.

    Without a name it is a Trace where there is a trace, else Gaussian.

    Raises
    ------
    InvalidParameter
        For an unknown name, a parameter that the model does not have, or a value outside its range.
    """
    trace = given.get("trace")
    kind = check_choice("noise", name or ("gaussian" if trace is None else "trace"), NOISES)
    for parameter, kinds in NOISE_PARAMETERS.items():
        if given.get(parameter) is not None and kind not in kinds:
            raise InvalidParameter(parameter, f"used with noise {' or '.join(kinds)}", kind)
    if kind == "none":
        return NoNoise()
    if kind == "trace":
        if trace is None:
            raise InvalidParameter("trace", "given with noise trace: a .npy file or an array")
        return Trace.load(trace) if isinstance(trace, str) else Trace(trace)
    sigma = make_stds(given)
    if kind == "gated":
        gate = given.get("gate_probability")
        return Gated(Gated.p if gate is None else gate, sigma)
    if kind == "student-t":
        dof = given.get("dof")
        return StudentT(StudentT.dof if dof is None else dof, sigma)
    return Gaussian(sigma)


@dataclass(frozen=True)
class Signal:
    """A quadratic loss around `target` with curvature `strength`: its gradient h * (theta - target).

    Added to the noise at every step, whether or not a gate is open.
    """

    strength: float = 0.0
    target: float = 0.0

    def __post_init__(self) -> None:
        strength = check_number("signal", self.strength, "(-inf, inf)")
        object.__setattr__(self, "strength", strength)
        target = check_number("target", self.target, "(-inf, inf)")
        object.__setattr__(self, "target", target)
