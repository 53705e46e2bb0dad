"""How Adam's decay scales with the batch and with the noise, from the update rule.

Run it: `python theory/scaling.py`.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import mpmath
import sympy as sp

from regdyn.optimizers import Adam, decay_placement
from regdyn.theorems import scaling

eta, lam, sigma, k, d, R = sp.symbols("eta lambda sigma k d R", positive=True)
beta1, beta2, D, V = sp.symbols("beta1 beta2 D V", positive=True)
theta, m, xi, a = sp.symbols("theta m xi a", real=True)
z = sp.Symbol("z")


def adam_step(theta: Any, g: Any, state: Any, c: Any) -> Any:
    """Adam's shipped step with SymPy's root for that of `math`."""
    namespace = {**Adam.step.__globals__, "sqrt": sp.sqrt}
    return FunctionType(Adam.step.__code__, namespace)(Adam(), theta, g, state, c)


def slow_root() -> sp.Expr:
    """The mean of Adam with L2 where v has averaged to V: linear, with the mean step times D."""
    # beta2 = 1 keeps v at V; D multiplies the learning rate of the mean.
    constants = (beta1, 1 - beta1, 1, 0, eta * D, 1, 0, 0)
    new, (moment, _) = adam_step(theta, lam * theta, (m, V), constants)
    matrix = sp.Matrix([new, moment]).jacobian(sp.Matrix([theta, m]))
    polynomial = matrix.charpoly(z).as_expr().subs(eta, a * sp.sqrt(V) / (lam * D))
    expected = z**2 - (1 + beta1 - (1 - beta1) * a) * z + beta1
    assert sp.expand(sp.expand(polynomial) - expected) == 0
    print("mean of Adam with L2:  0 =", expected, "  with  a = eta lambda D / sigma")
    pull = (1 - beta1) * a
    middle = 1 - beta1 + pull
    root = 1 - 2 * pull / (middle + sp.sqrt(middle**2 - 4 * pull))
    assert sp.simplify(expected.subs(z, root)) == 0
    return root


def memoryless_steps() -> None:
    """Under decoupled decay two weights under the same noise draw nearer by 1 - eta lambda a step."""
    l2, before, after = decay_placement("decoupled", lam, eta, 1)
    v, difference = sp.symbols("v difference", positive=True)
    constants = (beta1, 1 - beta1, beta2, 1 - beta2, eta, 1, 0, 0)

    def step(weight: sp.Expr) -> sp.Expr:
        return after * adam_step(before * weight, xi + l2 * weight, (m, v), constants)[0]

    ratio = sp.nsimplify(sp.simplify((step(theta + difference) - step(theta)) / difference))
    assert sp.simplify(ratio - (1 - eta * lam)) == 0
    print("AdamW, difference of two weights under the same noise:  times", ratio, "a step")


def invariants() -> None:
    """What the square-root rule leaves as it was, when time counts k-fold."""
    rule = {eta: sp.sqrt(k) * eta, sigma: sigma / sp.sqrt(k), d: k * d}
    for name, quantity, per_step in (
        ("decay rate", eta * lam / sigma, True),
        ("spread", eta * sigma / (2 * lam), False),
        ("rate of the moments", d, True),
    ):
        scaled = quantity.subs(rule, simultaneous=True) / (k if per_step else 1)
        assert sp.simplify(scaled - quantity) == 0
        print(f"unchanged:  {name} {quantity}{' per step, t -> t / k' if per_step else ''}")


def first_changes(root: sp.Expr) -> sp.Expr:
    """Relative change of the decay rate per unit of k - 1, to first order in d, R and y^2."""
    # Fluctuations of v: D = 1 - 5/8 d (theory/stationary.py).
    fluctuations = sp.Rational(5, 8) * d
    # The share of theta's own spread, q = R / 2, in v: a = R / sqrt(1 + q).
    share = -sp.diff(1 / sp.sqrt(1 + R / 2), R).subs(R, 0) * R
    # The length of a step: rate -ln z+, per unit of the old time; rest = 1 - beta1.
    rest = sp.Symbol("rest", positive=True)
    rate = sp.series(-sp.log(root.subs(beta1, 1 - rest)), a, 0, 3).removeO()
    scaled = rate.subs({a: k * a, rest: k * rest}, simultaneous=True) / k
    length = sp.simplify((scaled - rate) / (a * (k - 1)))
    assert sp.simplify(length + a / 2) == 0
    # The weight's own gradient: rate / sqrt(1 + y^2), y falling from y0 by 1/e.
    y, s = sp.symbols("y s", positive=True)
    own = sp.integrate((y * sp.exp(-s)) ** 2 / 2, (s, 0, 1))
    total = fluctuations + share + R / 2 + own
    print("relative change of the decay rate / (k - 1):  -(", sp.N(sp.expand(total), 3), ")")
    return total


def greatest_difference(
    name: str, shipped: Callable[..., Any], exact: Callable[..., Any], points: list[dict[str, float]]
) -> None:
    """Print and bound the relative difference of a shipped function from 50 digits."""
    worst = 0.0
    with mpmath.workdps(50):
        for point in points:
            reference = exact(**{key: mpmath.mpf(value) for key, value in point.items()})
            worst = max(worst, float(abs(mpmath.mpf(float(shipped(**point))) / reference - 1)))
    print(
        f"regdyn.theorems.scaling.{name}: "
        f"greatest relative difference at 50 digits over {len(points)} points: {worst:.0e}"
    )
    assert worst < 1e-13


def agrees_with_shipped(root: sp.Expr) -> None:
    """The shipped functions equal what was derived."""
    slow = sp.lambdify([a, beta1], root, "mpmath")

    def rate(lr: Any, lam: Any, sigma: Any, beta1: Any, beta2: Any) -> Any:
        w = 2 * (1 - beta2) / (1 + beta2)
        factor = 1 + 3 * w / 8 - (1 - beta1) * (1 - beta2) / (1 - beta1 * beta2)
        return -mpmath.log(slow(lr * lam / sigma * factor, beta1))

    points = [
        {"lr": 1e-3, "lam": strength, "sigma": 1e-3, "beta1": b1, "beta2": b2}
        for strength in (1e-12, 1e-5, 0.002) for b1 in (0.0, 0.5, 0.9) for b2 in (0.95, 0.9999)
    ]  # fmt: skip
    greatest_difference("adam_l2_decay_rate", scaling.adam_l2_decay_rate, rate, points)
    greatest_difference(
        "decoupled_decay_rate",
        scaling.decoupled_decay_rate,
        lambda lr, lam: -mpmath.log(1 - lr * lam),
        [{"lr": 1e-3, "lam": x} for x in (1e-9, 1e-2, 500.0)],
    )


def main() -> None:
    """Derive, print, compare."""
    root = slow_root()
    memoryless_steps()
    invariants()
    first_changes(root)
    agrees_with_shipped(root)
    print("regdyn.theorems.scaling agrees")


if __name__ == "__main__":
    main()
