"""What the compiled engine is compared with: plain Python, torch and optax, and the cases to compare.

A case is a `ScalarConfig`. Each oracle turns it into paths of shape (steps + 1, trajectories), as in
`ScalarResult.paths`; `assert_same_paths` is the only comparison.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from hypothesis import Phase
from hypothesis import strategies as st
from numpy.typing import NDArray

import regdyn
from regdyn.dynamics._scalar_kernel import weight_step
from regdyn.dynamics.noise import Noise
from regdyn.dynamics.schedules import Schedule
from regdyn.optimizers import OPTIMIZERS, REGULARIZATIONS, AMSGrad, Optimizer, decay_placement

jax.config.update("jax_enable_x64", True)
torch.set_num_threads(1)

Paths = NDArray[np.floating]

STEPS = 1000
TRAJECTORIES = 16
TOLERANCE = 1e-12

RULES = list(OPTIMIZERS)
PLACEMENTS = list(REGULARIZATIONS)


# --- The comparison -------------------------------------------------------------------------------


def assert_same_paths(actual: Paths, expected: Paths, lr: float, tolerance: float = TOLERANCE) -> None:
    """Every step of every trajectory agrees within tolerance * max(|theta|, lr)."""
    assert actual.shape == expected.shape
    error = np.abs(actual - expected) / np.maximum(np.abs(expected), lr)
    # A NaN must fail, hence not (error <= tolerance).
    wrong = ~(error <= tolerance)
    if wrong.any():
        step, lane = np.argwhere(wrong)[0]
        raise AssertionError(
            f"{wrong.sum()} of {wrong.size} numbers differ by more than {tolerance:g}; at step {step}, "
            f"trajectory {lane}, {actual[step, lane]!r} instead of {expected[step, lane]!r}"
        )


def engine_paths(config: regdyn.ScalarConfig) -> Paths:
    """The compiled engine."""
    return config.run(threads=1).paths


def noise_of(config: regdyn.ScalarConfig) -> NDArray[np.float64]:
    """The gradients without signal and decay, one row per step."""
    return regdyn.sample_noise(config.noise, config.steps, config.trajectories, config.seed)


# --- Plain Python ---------------------------------------------------------------------------------


def python_paths(config: regdyn.ScalarConfig) -> Paths:
    """A loop over `rule.step`, one weight and one step at a time, in the number type of the case."""
    rule, number = config.optimizer, np.dtype(config.dtype).type
    number = float if number is np.float64 else number
    noise = noise_of(config)
    scales = config.schedule(np.arange(1, config.steps + 1))
    paths = np.empty((config.steps + 1, config.trajectories), config.dtype)
    paths[0] = config.theta0
    states = [tuple(number(x) for x in rule.initial_state())] * config.trajectories
    strength, target = number(config.signal.strength), number(config.signal.target)
    for t in range(1, config.steps + 1):
        scale = float(scales[t - 1])
        lr = rule.lr * scale
        c = tuple(number(x) for x in rule.constants(t, lr))
        placement = [number(x) for x in decay_placement(config.regularization, config.lam, lr, scale)]
        for i in range(config.trajectories):
            paths[t, i], states[i] = weight_step.py_func(
                rule, number(paths[t - 1, i]), number(noise[t - 1, i]), states[i], c,
                number(1), *placement, strength, target, False,
            )  # fmt: skip
    return paths


# --- torch ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TorchRule:
    """A rule in torch: how to make it, and which hyperparameters torch has."""

    make: Callable[..., torch.optim.Optimizer]
    varied: Collection[str]
    make_decoupled: Callable[..., torch.optim.Optimizer] | None = None


def _torch_adam(kind: type[torch.optim.Adam]) -> Callable[..., torch.optim.Optimizer]:
    def make(rule: Any, weights: torch.nn.Parameter, weight_decay: float) -> torch.optim.Optimizer:
        return kind(
            [weights], lr=rule.lr, betas=(rule.beta1, rule.beta2), eps=rule.eps,
            weight_decay=weight_decay, amsgrad=isinstance(rule, AMSGrad),
        )  # fmt: skip

    return make


TORCH: dict[str, TorchRule] = {
    "sgd": TorchRule(
        lambda rule, weights, weight_decay: torch.optim.SGD(
            [weights], lr=rule.lr, momentum=rule.momentum, dampening=rule.dampening,
            nesterov=rule.nesterov, weight_decay=weight_decay,
        ),
        ("lr", "momentum", "dampening", "nesterov"),
    ),
    "adam": TorchRule(
        _torch_adam(torch.optim.Adam),
        ("lr", "beta1", "beta2", "eps"),
        _torch_adam(torch.optim.AdamW),
    ),
    "amsgrad": TorchRule(
        _torch_adam(torch.optim.Adam),
        ("lr", "beta1", "beta2", "eps"),
        _torch_adam(torch.optim.AdamW),
    ),
    "adamax": TorchRule(
        lambda rule, weights, weight_decay: torch.optim.Adamax(
            [weights], lr=rule.lr, betas=(rule.beta1, rule.beta2), eps=rule.eps,
            weight_decay=weight_decay,
        ),
        ("lr", "beta1", "beta2", "eps"),
    ),
    "adagrad": TorchRule(
        lambda rule, weights, weight_decay: torch.optim.Adagrad(
            [weights], lr=rule.lr, lr_decay=rule.lr_decay, eps=rule.eps, weight_decay=weight_decay,
            initial_accumulator_value=rule.initial_accumulator,
        ),
        ("lr", "lr_decay", "eps", "initial_accumulator"),
    ),
    "adadelta": TorchRule(
        lambda rule, weights, weight_decay: torch.optim.Adadelta(
            [weights], lr=rule.lr, rho=rule.rho, eps=rule.eps, weight_decay=weight_decay
        ),
        ("lr", "rho", "eps"),
    ),
    "rmsprop": TorchRule(
        lambda rule, weights, weight_decay: torch.optim.RMSprop(
            [weights], lr=rule.lr, alpha=rule.alpha, eps=rule.eps, weight_decay=weight_decay
        ),
        ("lr", "alpha", "eps"),
    ),
}  # fmt: skip


def torch_scheduler(
    schedule: Schedule, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler:
    """torch's form of a schedule."""
    schedulers, (group,) = torch.optim.lr_scheduler, optimizer.param_groups
    if isinstance(schedule, regdyn.Constant):
        return schedulers.ConstantLR(optimizer, factor=1.0)
    if isinstance(schedule, regdyn.Step):
        return schedulers.MultiStepLR(optimizer, list(schedule.boundaries), schedule.factor)
    if isinstance(schedule, regdyn.Cosine):
        lowest = schedule.final * group["lr"]
        return schedulers.CosineAnnealingLR(optimizer, T_max=schedule.period, eta_min=lowest)
    if isinstance(schedule, regdyn.CosineRestarts):
        lowest = schedule.final * group["lr"]
        return schedulers.CosineAnnealingWarmRestarts(
            optimizer, schedule.period, schedule.growth, lowest
        )
    if isinstance(schedule, regdyn.Table):
        factors = schedule.values.tolist()
        return schedulers.LambdaLR(optimizer, lambda epoch: factors[min(epoch, len(factors) - 1)])
    raise NotImplementedError(f"no counterpart of {schedule} in torch")


def advance_torch_scheduler(
    schedule: Schedule, scheduler: torch.optim.lr_scheduler.LRScheduler
) -> None:
    """One step; torch's cosine would rise again after its period, where ours stays."""
    if not (isinstance(schedule, regdyn.Cosine) and scheduler.last_epoch >= schedule.period):
        scheduler.step()


def torch_paths(config: regdyn.ScalarConfig) -> Paths:
    """torch.optim under torch.optim.lr_scheduler; what torch has no option for, by hand around it."""
    rule, counterpart = config.optimizer, TORCH[config.optimizer.name]
    weights = torch.nn.Parameter(torch.full((config.trajectories,), config.theta0, dtype=torch.float64))
    own_decay = config.regularization == "decoupled" and counterpart.make_decoupled is not None
    make = counterpart.make_decoupled if own_decay else counterpart.make
    option = config.lam if own_decay or config.regularization == "l2" else 0.0
    optimizer = make(rule, weights, option)
    scheduler = torch_scheduler(config.schedule, optimizer)
    (group,) = optimizer.param_groups
    noise = torch.from_numpy(noise_of(config))
    strength, target = config.signal.strength, config.signal.target
    paths = torch.empty((config.steps + 1, config.trajectories), dtype=torch.float64)
    with torch.no_grad():
        paths[0] = weights
        for t in range(config.steps):
            weights.grad = noise[t] + strength * (weights.detach() - target)
            if config.regularization == "decoupled" and not own_decay:
                weights.mul_(1 - group["lr"] * config.lam)
            optimizer.step()
            if config.regularization == "paper":
                weights.mul_(1 - config.lam * (group["lr"] / rule.lr))
            advance_torch_scheduler(config.schedule, scheduler)
            paths[t + 1] = weights
    return paths.numpy()


# --- optax ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OptaxRule:
    """A rule in optax.

    `scale_by` makes the transformation from the hyperparameters by name. Those in `flags` choose among
    programs, the rest are traced, so that each program is compiled once. `fixed` is what optax fixes;
    `settle` makes a drawn rule one that optax has.
    """

    scale_by: Callable[..., optax.GradientTransformation]
    varied: Collection[str]
    flags: Collection[str] = ()
    fixed: dict[str, Any] = field(default_factory=dict)
    settle: Callable[[Any], Optimizer] = lambda rule: rule


def _optax_amsgrad(**p: Any) -> optax.GradientTransformation:
    return optax.scale_by_amsgrad(
        p["beta1"], p["beta2"], p["eps"], p["eps_root"],
        bias_correction_mu=p["bias_correction"], bias_correction_nu=p["bias_correction"],
    )  # fmt: skip


def _optax_rms(**p: Any) -> optax.GradientTransformation:
    inside = p["eps_in_sqrt"]
    return optax.scale_by_rms(
        p["alpha"], p["eps_root" if inside else "eps"], p["initial_accumulator"],
        eps_in_sqrt=inside, bias_correction=p["bias_correction"],
    )  # fmt: skip


OPTAX: dict[str, OptaxRule] = {
    "sgd": OptaxRule(
        lambda **p: optax.trace(p["momentum"], p["nesterov"]),
        ("lr", "momentum", "nesterov"),
        flags=("nesterov",),
    ),
    "adam": OptaxRule(
        lambda **p: optax.scale_by_adam(p["beta1"], p["beta2"], p["eps"], p["eps_root"]),
        ("lr", "beta1", "beta2", "eps", "eps_root"),
    ),
    "amsgrad": OptaxRule(
        _optax_amsgrad,
        ("lr", "beta1", "beta2", "eps", "eps_root", "bias_correction"),
        flags=("bias_correction",),
        fixed={"max_after_correction": True},
    ),
    "adamax": OptaxRule(
        lambda **p: optax.scale_by_adamax(p["beta1"], p["beta2"], p["eps"]),
        ("lr", "beta1", "beta2", "eps"),
    ),
    "adagrad": OptaxRule(
        lambda **p: optax.scale_by_rss(p["initial_accumulator"], p["eps_root"]),
        ("lr", "eps_root", "initial_accumulator"),
        fixed={"eps": 0.0},
    ),
    "adadelta": OptaxRule(
        lambda **p: optax.scale_by_adadelta(p["rho"], p["eps"]), ("lr", "rho", "eps")
    ),
    "rmsprop": OptaxRule(
        _optax_rms,
        ("lr", "alpha", "eps", "eps_root", "initial_accumulator", "bias_correction"),
        flags=("bias_correction", "eps_in_sqrt"),
        settle=lambda rule: dataclasses.replace(rule, eps=0.0) if rule.eps_root else rule,
    ),
}


def optax_schedule(schedule: Schedule, steps: int) -> optax.Schedule:
    """optax's form of a schedule, valid for `steps` steps."""
    if isinstance(schedule, regdyn.Constant):
        return optax.constant_schedule(1.0)
    if isinstance(schedule, regdyn.Step):
        drops = dict.fromkeys(schedule.boundaries, schedule.factor)
        return optax.piecewise_constant_schedule(1.0, drops)
    if isinstance(schedule, regdyn.Cosine):
        return optax.cosine_decay_schedule(1.0, schedule.period, alpha=schedule.final)
    if isinstance(schedule, regdyn.CosineRestarts):
        lengths = [schedule.period]
        while sum(lengths) < steps:
            lengths.append(lengths[-1] * schedule.growth)
        return optax.sgdr_schedule([
            {"init_value": 1.0, "peak_value": 1.0, "warmup_steps": 0, "decay_steps": length,
             "end_value": schedule.final}
            for length in lengths
        ])  # fmt: skip
    if isinstance(schedule, regdyn.Table):
        # All of one length, so that jax compiles the look-up once.
        rest = max(0, steps - len(schedule.values))
        factors = jnp.asarray(np.pad(schedule.values, (0, rest), mode="edge")[:steps])
        return lambda count: factors[count]
    raise NotImplementedError(f"no counterpart of {schedule} in optax")


def optax_scales(schedule: Schedule, steps: int) -> NDArray[np.float64]:
    """The factors that optax's form gives at steps 1 … `steps` (its counts 0 … `steps` - 1)."""
    values = optax_schedule(schedule, steps)(jnp.arange(steps))
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (steps,))


@cache
def _optax_program(name: str, flags: tuple[tuple[str, bool], ...]) -> Callable[..., jax.Array]:
    """The compiled loop of one rule, everything but `flags` an argument."""

    @jax.jit
    def run(
        p: dict[str, Any], lam: dict[str, Any], scales: Any, noise: Any, theta0: Any,
        strength: Any, target: Any,
    ) -> jax.Array:  # fmt: skip
        transformation = optax.chain(
            optax.add_decayed_weights(lam["l2"]),
            OPTAX[name].scale_by(**p, **dict(flags)),
            optax.add_decayed_weights(lam["decoupled"]),
            optax.scale_by_learning_rate(lambda count: p["lr"] * scales[count]),
        )
        weights = jnp.full(noise.shape[1], theta0)

        def step(carry: Any, inputs: Any) -> Any:
            weights, state = carry
            scale, z = inputs
            gradient = z + strength * (weights - target)
            updates, state = transformation.update(gradient, state, weights)
            weights = optax.apply_updates(weights, updates)
            weights = weights * (1 - lam["paper"] * scale)
            return (weights, state), weights

        start = (weights, transformation.init(weights))
        _, path = jax.lax.scan(step, start, (scales, noise))
        return jnp.concatenate([weights[None], path])

    return run


def optax_paths(config: regdyn.ScalarConfig) -> Paths:
    """optax: l2 as decayed weights before the rule, decoupled after it (adamw), paper by hand."""
    rule, counterpart = config.optimizer, OPTAX[config.optimizer.name]
    numbers: dict[str, Any] = dict(rule.parameters())
    # optax chooses between the two places of epsilon by a flag.
    numbers["eps_in_sqrt"] = numbers.get("eps_root", 0.0) > 0
    flags = tuple((name, bool(numbers.pop(name))) for name in counterpart.flags)
    numbers = {name: float(x) for name, x in numbers.items() if not isinstance(x, bool)}
    lam = {name: config.lam * (config.regularization == name) for name in PLACEMENTS}
    program = _optax_program(rule.name, flags)
    scales, noise = optax_scales(config.schedule, config.steps), noise_of(config)
    signal = config.signal
    return np.asarray(
        program(numbers, lam, scales, noise, config.theta0, signal.strength, signal.target)
    )


# --- The cases ------------------------------------------------------------------------------------

# Two correct programs agree within 1e-12 * max(|theta|, lr) where rounding is not amplified. The cases
# are drawn from all of that domain, whose edges are these:
#
# - Decay rates up to 1 - 1e-3, because 1 - beta^t has a relative error of 1e-16 / (1 - beta).
# - beta1 <= beta2. Otherwise the denominator forgets faster than the numerator, and an update is
#   m / |g_t| for a g_t in which noise, signal and decay nearly cancel.
# - Feedback per step, d(update) / d(theta), up to 0.1 with the eps and the earlier noise that the
#   denominator surely has. Beyond, a weight near 0 oscillates on its own and doubles every error
#   within a few steps.
# - A weight starts within 30 lr of 0, or so far away that it does not get there, because the rounding
#   of theta = 1000 lr is as large as the tolerance at 0. So the signal's target is on the same side,
#   and the noise of SGD, which nothing normalises, is at most 1 - momentum.
# - No step has g = 0 exactly where nothing but g is in the denominator: 0 / 0.

NEAR, FAR = 30.0, (3e3, 1e4)

# A failing case reads no better when shrunk, which takes minutes.
UNSHRUNK = (Phase.explicit, Phase.generate)


def log_uniform(low: float, high: float) -> st.SearchStrategy[float]:
    """Floats whose logarithm is uniform."""
    return st.floats(np.log10(low), np.log10(high)).map(lambda x: float(10.0**x))


RATES = st.one_of(st.just(0.0), st.floats(0.0, 0.9), log_uniform(1e-3, 0.1).map(lambda x: 1.0 - x))
EPSILONS = st.one_of(st.just(0.0), log_uniform(1e-12, 1e-3))

HYPERPARAMETERS: dict[str, st.SearchStrategy[Any]] = {
    "beta1": RATES,
    "beta2": RATES,
    "rho": RATES,
    "alpha": RATES,
    "momentum": RATES,
    "dampening": st.floats(0.0, 0.99),
    "eps": EPSILONS,
    "eps_root": st.one_of(st.just(0.0), log_uniform(1e-16, 1e-4)),
    "eps_denominator": EPSILONS,
    "initial_accumulator": st.one_of(st.just(0.0), log_uniform(1e-12, 1.0)),
    "lr_decay": st.one_of(st.just(0.0), log_uniform(1e-4, 1.0)),
    "nesterov": st.booleans(),
    "bias_correction": st.booleans(),
    "max_after_correction": st.booleans(),
}
"""What each hyperparameter besides `lr` is drawn from, next to the default of its rule."""


@st.composite
def optimizers(
    draw: st.DrawFn, kind: type[Optimizer], varied: Collection[str], **fixed: Any
) -> Optimizer:
    """`kind` with the hyperparameters in `varied` drawn, the defaults first, and `fixed` as given."""
    defaults = kind(**fixed).parameters()
    values = dict(fixed)
    for name in varied:
        default = defaults[name]
        if name == "lr":
            other = log_uniform(default / 30, default * 10)
        else:
            other = HYPERPARAMETERS[name]
        values[name] = draw(st.one_of(st.just(default), other))
    if values.get("beta1", 0.0) > values.get("beta2", 1.0):
        values["beta1"], values["beta2"] = values["beta2"], values["beta1"]
    if values.get("nesterov"):
        values.update(dampening=0.0, momentum=values["momentum"] or 0.5)
    return kind(**values)


FACTORS = st.one_of(st.just(0.0), st.floats(0.0, 1.0))

SCHEDULES: dict[type, st.SearchStrategy[Schedule]] = {
    regdyn.Constant: st.just(regdyn.Constant()),
    regdyn.Step: st.builds(
        regdyn.Step,
        st.sets(st.integers(1, STEPS - 1), min_size=1, max_size=5).map(lambda x: tuple(sorted(x))),
        st.one_of(st.just(0.1), FACTORS),
    ),
    regdyn.Cosine: st.builds(
        regdyn.Cosine, st.one_of(st.just(STEPS), st.integers(1, 2 * STEPS)), FACTORS
    ),
    regdyn.CosineRestarts: st.builds(
        regdyn.CosineRestarts, st.integers(20, STEPS), st.integers(1, 3), FACTORS
    ),
    regdyn.Table: st.builds(
        lambda seed, count: regdyn.Table(np.random.default_rng(seed).uniform(0.0, 1.0, count)),
        st.integers(0, 1000),
        st.integers(1, STEPS + 10),
    ),
}  # fmt: skip
"""Every kind of schedule, none above 1."""


@st.composite
def noises(draw: st.DrawFn, zeros: bool, largest: float) -> tuple[Noise, float]:
    """A gradient model with stds up to `largest`, and the least of them.

    One that sends exact zeros, and has no least std, only if `zeros`.
    """
    sigma = draw(st.one_of(st.just(1e-5), log_uniform(1e-6, min(1e-1, largest / 10))))
    kinds = ["burn-in", "constant", "table", "student-t", "trace"] + ["gated", "none"] * zeros
    kind = draw(st.sampled_from(kinds))
    if kind == "none":
        return regdyn.NoNoise(), 0.0
    if kind == "gated":
        return regdyn.Gated(draw(st.floats(0.0, 1.0)), sigma), 0.0
    if kind == "constant":
        return regdyn.Gaussian(sigma), sigma
    if kind == "burn-in":
        early = draw(st.one_of(st.just(100.0), log_uniform(1.0, min(1e3, largest / sigma))))
        length = draw(st.one_of(st.just(100), st.integers(0, STEPS)))
        return regdyn.Gaussian(regdyn.BurnIn(sigma, sigma * early, length)), sigma
    if kind == "student-t":
        return regdyn.StudentT(draw(st.floats(2.5, 30.0)), sigma), sigma
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    if kind == "table":
        return regdyn.Gaussian(sigma * rng.uniform(1.0, 10.0, STEPS)), sigma
    return regdyn.Trace(sigma * rng.standard_normal((STEPS, TRAJECTORIES))), sigma


@st.composite
def configs(
    draw: st.DrawFn,
    optimizer: st.SearchStrategy[Optimizer],
    regularization: str,
    schedule: type,
    *,
    weakest_decoupled: float = 1e-6,
) -> regdyn.ScalarConfig:
    """A case for one placement and one kind of schedule; the simplest has the default hyperparameters.

    `weakest_decoupled` is the least lr * lam under "decoupled".
    """
    rule = draw(optimizer)
    normalised = rule.name not in ("sgd", "adadelta")
    p = rule.parameters()
    floor = p.get("eps", 1.0) + p.get("eps_root", 0.0) ** 0.5 + p.get("eps_denominator", 0.0)
    noise, sigma = draw(noises(floor > 0, 1.0 - p["momentum"] if "momentum" in p else 100.0))
    # The least of the denominator at a step whose g happens to be near 0. With none of it, an update is
    # lr * sign(g), which an error changes only at g = 0.
    least = floor + sigma * p.get("beta2", p.get("alpha", 1.0))
    feedback = rule.lr / (least or sigma) if normalised else rule.lr
    strength = draw(st.one_of(st.just(0.0), log_uniform(1e-6, 1e-2))) / feedback
    if regularization == "l2":
        lam = draw(st.one_of(st.just(1e-2), log_uniform(1e-6, 1e-1))) / feedback
    elif regularization == "decoupled":
        lam = draw(log_uniform(weakest_decoupled, 0.3)) / rule.lr
    else:
        lam = draw(st.one_of(st.just(1e-4), log_uniform(1e-6, 1e-1)))
    near = st.floats(-NEAR, NEAR).map(lambda x: x * rule.lr)
    far = st.tuples(st.sampled_from([1.0, -1.0]), log_uniform(*FAR)).map(
        lambda x: x[0] * x[1] * rule.lr
    )
    start = st.one_of(near, far) if normalised else near
    if rule == type(rule)():
        start = st.one_of(st.just(1.0), start)
    theta0 = draw(start)
    if abs(theta0) > NEAR * rule.lr:
        target = theta0 * draw(st.floats(0.8, 1.25))
    else:
        target = draw(near)
    return regdyn.ScalarConfig(
        optimizer=rule, lam=lam, regularization=regularization, schedule=draw(SCHEDULES[schedule]),
        noise=noise, signal=regdyn.Signal(strength, target), theta0=theta0,
        steps=STEPS, trajectories=TRAJECTORIES, keep=TRAJECTORIES, times=[0, STEPS],
        seed=draw(st.integers(0, 2**64 - 1)),
    )  # fmt: skip
