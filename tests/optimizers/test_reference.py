"""The compiled engine against the rules' own Python form, and what the other comparisons rest on."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import math
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import types
from reference import (
    OPTAX,
    PLACEMENTS,
    RULES,
    SCHEDULES,
    STEPS,
    TORCH,
    TRAJECTORIES,
    UNSHRUNK,
    Paths,
    assert_same_paths,
    configs,
    engine_paths,
    noise_of,
    optax_paths,
    optimizers,
    python_paths,
    torch_paths,
)

import regdyn
from regdyn.dynamics._jit import RuleType
from regdyn.dynamics._scalar_kernel import weight_step
from regdyn.optimizers import OPTIMIZERS


def case(optimizer: Any, **changes: Any) -> regdyn.ScalarConfig:
    """A fixed case in which the rule matters at every step."""
    settings = dict(
        lam=1e-2, noise=regdyn.Gaussian(1e-3), theta0=20 * optimizer.lr, steps=STEPS,
        trajectories=TRAJECTORIES, keep=TRAJECTORIES, times=[0, STEPS],
    ) | changes  # fmt: skip
    return regdyn.ScalarConfig(optimizer=optimizer, **settings)


# --- Its own Python form --------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", RULES)
@settings(max_examples=2, phases=UNSHRUNK)
@given(data=st.data())
def test_equals_python(name: str, placement: str, schedule: type, data: st.DataObject) -> None:
    kind = OPTIMIZERS[name]
    rules = optimizers(kind, kind.parameter_names())
    config = data.draw(configs(rules, placement, schedule))
    # Many recorded times cut the run into many calls of the kernel.
    config = dataclasses.replace(config, times=range(0, STEPS + 1, 10))
    assert_same_paths(engine_paths(config), python_paths(config), config.optimizer.lr)


# --- Nothing escapes the comparisons --------------------------------------------------------------


def unrolled_adam(rule: regdyn.Adam, g: Paths) -> Paths:
    """theta_t - theta_0 of Adam without bias correction, from the sums over all earlier gradients."""
    age = np.subtract.outer(np.arange(len(g)), np.arange(len(g)))
    m = (1 - rule.beta1) * np.tril(rule.beta1 ** np.abs(age)) @ g
    v = (1 - rule.beta2) * np.tril(rule.beta2 ** np.abs(age)) @ g**2
    return -rule.lr * np.cumsum(m / (np.sqrt(v + rule.eps_root) + rule.eps), axis=0)


def unrolled_adamax(rule: regdyn.AdaMax, g: Paths) -> Paths:
    """theta_t - theta_0 of AdaMax without bias correction, from all earlier gradients."""
    age = np.subtract.outer(np.arange(len(g)), np.arange(len(g)))
    m = (1 - rule.beta1) * np.tril(rule.beta1 ** np.abs(age)) @ g
    decayed = np.tril(rule.beta2 ** np.abs(age))
    u = np.stack([np.max(decayed * (np.abs(x) + rule.eps), axis=1) for x in g.T], axis=1)
    return -rule.lr * np.cumsum(m / (u + rule.eps_denominator), axis=0)


# Neither torch nor optax has these; each is a rule that has them on, and its formula without recursion.
OWN: dict[str, tuple[regdyn.ScalarConfig, set[str], Callable[..., Paths]]] = {
    "adam": (
        case(regdyn.Adam(bias_correction=False), regularization="none"),
        {"bias_correction"},
        unrolled_adam,
    ),
    "adamax": (
        case(regdyn.AdaMax(bias_correction=False, eps_denominator=1e-4), regularization="none"),
        {"bias_correction", "eps_denominator"},
        unrolled_adamax,
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_every_hyperparameter_is_compared(name: str) -> None:
    compared = {*TORCH[name].varied, *OPTAX[name].varied, *OPTAX[name].fixed}
    own = OWN[name][1] if name in OWN else set()
    assert compared | own == set(OPTIMIZERS[name].parameter_names())
    assert not compared & own


@pytest.mark.parametrize("name", OWN)
def test_equals_the_unrolled_sums(name: str) -> None:
    config, _, formula = OWN[name]
    paths = config.theta0 + formula(config.optimizer, noise_of(config))
    assert_same_paths(engine_paths(config)[1:], paths, config.optimizer.lr)


# --- The comparison can fail ----------------------------------------------------------------------

ADAM, AMSGRAD, SGD = regdyn.Adam(), regdyn.AMSGrad(), regdyn.SGD()

# What is right, its oracle, and something else that must not pass for it.
WRONG: dict[str, tuple[Callable[..., Paths], regdyn.ScalarConfig, regdyn.ScalarConfig]] = {
    "eps inside the root": (
        torch_paths,
        case(regdyn.Adam(eps=1e-4)),
        case(regdyn.Adam(eps=0.0, eps_root=1e-8)),
    ),
    "no eps": (torch_paths, case(ADAM), case(regdyn.Adam(eps=0.0))),
    "maximum after correction": (
        torch_paths,
        case(AMSGRAD),
        case(regdyn.AMSGrad(max_after_correction=True)),
    ),
    "maximum before correction": (
        optax_paths,
        case(regdyn.AMSGrad(max_after_correction=True)),
        case(AMSGRAD),
    ),
    "decay after the step": (
        torch_paths,
        case(ADAM, regularization="decoupled", lam=0.1),
        case(ADAM, regularization="paper", lam=0.1 * ADAM.lr),
    ),
    "decay before the step": (
        torch_paths,
        case(ADAM, regularization="paper", lam=0.1 * ADAM.lr),
        case(ADAM, regularization="decoupled", lam=0.1),
    ),
    "l2 for decoupled": (
        torch_paths,
        case(ADAM, regularization="decoupled"),
        case(ADAM, regularization="l2"),
    ),
    "the schedule one step late": (
        torch_paths,
        case(ADAM, schedule=regdyn.Step((500,))),
        case(ADAM, schedule=regdyn.Step((501,))),
    ),
    "the paper's decay without its schedule": (
        python_paths,
        case(SGD, regularization="paper", schedule=regdyn.Step((500,))),
        case(SGD, regularization="paper"),
    ),
    "no look-ahead": (torch_paths, case(regdyn.SGD(nesterov=True)), case(SGD)),
    "no bias correction": (
        optax_paths,
        case(regdyn.RMSProp(bias_correction=True)),
        case(regdyn.RMSProp()),
    ),
    "accumulator from 0": (
        optax_paths,
        case(regdyn.Adagrad(eps=0.0, initial_accumulator=1e-12)),
        case(regdyn.Adagrad(eps=0.0)),
    ),
    "learning rate off in the tenth digit": (
        torch_paths,
        case(ADAM),
        dataclasses.replace(case(ADAM), optimizer=regdyn.Adam(lr=ADAM.lr * (1 + 1e-10))),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_refuted(name: str) -> None:
    oracle, right, wrong = WRONG[name]
    lr, expected = right.optimizer.lr, oracle(right)
    assert_same_paths(engine_paths(right), expected, lr)
    with pytest.raises(AssertionError, match="differ by more than"):
        assert_same_paths(engine_paths(wrong), expected, lr)


def test_one_wrong_number_is_refuted() -> None:
    paths = engine_paths(case(ADAM))
    for wrong in (paths[500, 3] + 2e-12 * max(abs(paths[500, 3]), ADAM.lr), np.nan):
        spoiled = paths.copy()
        spoiled[500, 3] = wrong
        with pytest.raises(AssertionError, match="at step 500, trajectory 3"):
            assert_same_paths(spoiled, paths, ADAM.lr)


# --- One precision throughout ---------------------------------------------------------------------


def body(step: Callable[..., Any]) -> list[ast.AST]:
    """Every node in the body of a step, without its signature."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(step))).body
    assert isinstance(function, ast.FunctionDef)
    return [node for statement in function.body for node in ast.walk(statement)]


def literals(step: Callable[..., Any]) -> list[object]:
    """The numbers written in a step."""
    constants = (node.value for node in body(step) if isinstance(node, ast.Constant))
    return [value for value in constants if isinstance(value, (int, float, complex))]


def outside_names(step: Callable[..., Any]) -> set[str]:
    """What a step uses besides its arguments, `math`, abs, max and min; `self` counts as outside."""
    names = [node for node in body(step) if isinstance(node, ast.Name)]
    own = {"theta", "g", "state", "c"} | {x.id for x in names if isinstance(x.ctx, ast.Store)}
    used = {x.id for x in names} - own - {"abs", "max", "min"}
    return {x for x in used if step.__globals__.get(x) is not getattr(math, x, "not in math")}


def variable_types(name: str, step: Callable[..., Any], real: types.Float) -> tuple[Any, set[Any]]:
    """What `step` returns and the types of all its variables when it is compiled for `real`."""
    state, c = argument_types(name, real)
    arguments = (RuleType(name), real, real, state, c)
    compiled = numba.njit(FunctionType(step.__code__, step.__globals__, step.__name__))
    compiled.compile(arguments)
    result = compiled.overloads[arguments]
    return result.signature.return_type, set(result.type_annotation.typemap.values())


def argument_types(name: str, real: types.Float) -> tuple[types.UniTuple, types.UniTuple]:
    rule = OPTIMIZERS[name]()
    return (
        types.UniTuple(real, len(rule.state_names)),
        types.UniTuple(real, len(rule.constants(1, 1.0))),
    )


class Literal(regdyn.SGD):
    """What base.py forbids."""

    def step(self, theta: Any, g: Any, state: Any, c: Any) -> Any:
        (buffer,) = state
        return theta - 0.5 * c[0] * g * self.lr, (buffer,)


@pytest.mark.parametrize("name", RULES)
def test_a_step_holds_no_numbers(name: str) -> None:
    assert literals(OPTIMIZERS[name].step) == []
    assert outside_names(OPTIMIZERS[name].step) == set()


def test_numbers_in_a_step_are_found() -> None:
    assert literals(Literal.step) == [0.5, 0]
    assert outside_names(Literal.step) == {"self"}


@pytest.mark.parametrize("real", [types.float32, types.float64], ids=str)
@pytest.mark.parametrize("name", RULES)
def test_a_step_stays_in_its_type(name: str, real: types.Float) -> None:
    state, c = argument_types(name, real)
    returned, inside = variable_types(name, OPTIMIZERS[name].step, real)
    assert returned == types.Tuple((real, state))
    assert {x for x in inside if isinstance(x, types.Float)} == {real}

    whole = numba.njit(weight_step.py_func)
    arguments = (RuleType(name), real, real, state, c, *[real] * 6, types.boolean)
    whole.compile(arguments)
    assert whole.overloads[arguments].signature.return_type == types.Tuple((real, state))


def test_promotion_is_found() -> None:
    def step(self: Any, theta: Any, g: Any, state: Any, c: Any) -> Any:
        (buffer,) = state
        return theta - 0.5 * g, (buffer,)

    returned, inside = variable_types("sgd", step, types.float32)
    assert returned[0] == types.float64
    assert types.float64 in inside


def test_float32_equals_python() -> None:
    # Compared on the scale of theta: near 0 the rounding of float32 is a large part of lr.
    noise = regdyn.Trace(noise_of(case(ADAM)).astype(np.float32))
    config = case(ADAM, dtype="float32", noise=noise)
    paths, expected = engine_paths(config), python_paths(config)
    assert paths.dtype == expected.dtype == np.float32
    assert_same_paths(paths, expected, config.theta0, tolerance=1e-5)
