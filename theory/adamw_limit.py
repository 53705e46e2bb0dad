"""Where AdamW ends on a quadratic loss, from the update rule.

Run it: `python theory/adamw_limit.py`.
"""

from types import FunctionType
from typing import Any

import mpmath
import sympy as sp

from regdyn.optimizers import Adam, decay_placement
from regdyn.theorems import adamw_limit

eta, lam, h, T, beta1, beta2 = sp.symbols("eta lambda h T beta1 beta2", positive=True)
eps = sp.Symbol("eps", nonnegative=True)
theta, g = sp.symbols("theta g", real=True)


def adamw_step(weight: Any, gradient: Any, state: Any) -> Any:
    """The shipped step with SymPy's root for that of `math`, after many steps (no bias)."""
    l2, before, after = decay_placement("decoupled", lam, eta, 1)
    constants = (beta1, 1 - beta1, beta2, 1 - beta2, eta, 1, 0, eps)
    step = FunctionType(Adam.step.__code__, {**Adam.step.__globals__, "sqrt": sp.sqrt})
    new, state = step(Adam(), before * weight, gradient + l2 * weight, state, constants)
    return after * new, state


def steady_gradient() -> sp.Expr:
    """Under a gradient that stays, m = g and v = g^2 stay too, and the weight moves by its sign."""
    new, (m, v) = adamw_step(theta, g, (g, g**2))
    assert sp.simplify(m - g) == 0 and sp.simplify(v - g**2) == 0
    change = sp.simplify(sp.nsimplify(sp.simplify(new)) - theta)
    assert sp.simplify(change + eta * (lam * theta + g / (sp.Abs(g) + eps))) == 0
    print("under a steady gradient:  change of theta =", sp.factor(change))
    return change


def way_to_the_bound(change: sp.Expr) -> None:
    """Beyond the minimum's side of 1/lam the sign is fixed, and the way left shrinks by 1 - eta lam."""
    toward = change.subs({eps: 0, sp.Abs(g): -g})
    left = sp.simplify((theta + toward - 1 / lam) / (theta - 1 / lam))
    assert sp.simplify(left - (1 - eta * lam)) == 0
    print("for g < 0, eps = 0:  theta - 1/lambda  times ", left, " a step")


def fixed_point(change: sp.Expr) -> sp.Expr:
    """The weight that stays, for a minimum T > 0, where g = h (theta - T) < 0."""
    u = sp.Symbol("u", positive=True)
    balance = -change.subs({sp.Abs(g): -g}).subs(g, h * (theta - T)) / eta
    quadratic = sp.numer(sp.together(balance.subs(theta, u)))
    x, floor = lam * T, lam * eps / h
    spread = sp.sqrt((1 - x) ** 2 + 2 * (1 + x) * floor + floor**2)
    shipped = 2 * T / (1 + x + floor + spread)
    assert sp.simplify(sp.expand(quadratic.subs(u, shipped))) == 0
    print("theta stays at  2 T / (1 + x + f + sqrt((1 - x)^2 + 2 (1 + x) f + f^2)),",
          "x = lambda T, f = lambda eps / h")  # fmt: skip
    return shipped


def clip(shipped: sp.Expr) -> None:
    """Without eps that is T up to 1/lam, and 1/lam beyond."""
    x = sp.Symbol("x", positive=True)
    bare = (lam * shipped).subs(eps, 0).subs(T, x / lam)
    inside = sp.simplify(bare.subs(x, 1 / (1 + x)) - 1 / (1 + x))
    beyond = sp.simplify(bare.subs(x, 1 + x) - 1)
    assert inside == 0 and beyond == 0
    print("eps = 0:  min(T, 1/lambda)")


def agrees_with_shipped(shipped: sp.Expr) -> None:
    """The shipped function equals the root at 50 digits."""
    reference = sp.lambdify([T, lam, h, eps], shipped, "mpmath")
    worst, count = 0.0, 0
    with mpmath.workdps(50):
        for target in (1e-6, 0.3, 1.0, 3.0, 1e6):
            for decay in (1e-9, 0.5, 1.0, 10.0):
                for floor in (0.0, 1e-8, 1.0):
                    exact = reference(*(mpmath.mpf(x) for x in (target, decay, 2.0, floor)))
                    value = adamw_limit.adamw_limit(target=target, lam=decay, curvature=2.0, eps=floor)
                    worst, count = max(worst, float(abs(float(value) / exact - 1))), count + 1
    print(
        "regdyn.theorems.adamw_limit.adamw_limit: "
        f"greatest relative difference at 50 digits over {count} points: {worst:.0e}"
    )
    assert worst < 1e-14


def main() -> None:
    """Derive, print, compare."""
    change = steady_gradient()
    way_to_the_bound(change)
    shipped = fixed_point(change)
    clip(shipped)
    agrees_with_shipped(shipped)
    print("regdyn.theorems.adamw_limit agrees")


if __name__ == "__main__":
    main()
