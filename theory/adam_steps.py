"""How far Adam can step: scale invariance, the largest step, the least time to decay.

Run it: `python theory/adam_steps.py`.
"""

from unittest.mock import patch

import mpmath
import sympy as sp

from regdyn.optimizers import Adam
from regdyn.theorems import adam_steps

beta1, beta2, eta, lam = sp.symbols("beta1 beta2 eta lambda", positive=True)
u, m, v, g, x = sp.symbols("u m v g x", positive=True)
t = sp.symbols("t", integer=True, positive=True)


def adam(theta: sp.Expr, gradient: sp.Expr, m: sp.Expr, v: sp.Expr) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """Step t of the rule that regdyn ships, at eps = 0, on symbols."""
    size, correction = eta / (1 - beta1**t), 1 / (1 - beta2**t)
    zero = sp.Integer(0)
    constants = (beta1, 1 - beta1, beta2, 1 - beta2, size, correction, zero, zero)
    # The rule calls math.sqrt, which does not take symbols.
    with patch("regdyn.optimizers.adam.sqrt", sp.sqrt):
        theta, (m, v) = Adam().step(theta, gradient, (m, v), constants)
    return theta, m, v


def scale_invariance() -> sp.Expr:
    """In theta = eta u, m -> eta lambda m, v -> (eta lambda)^2 v neither eta nor lambda is left."""
    theta, new_m, new_v = adam(eta * u, lam * eta * u, eta * lam * m, (eta * lam) ** 2 * v)
    scaled_m, scaled_v = sp.simplify(new_m / (eta * lam)), sp.simplify(new_v / (eta * lam) ** 2)
    assert not {eta, lam} & (scaled_m.free_symbols | scaled_v.free_symbols)
    step = sp.Symbol("m_t") / (1 - beta1**t) / sp.sqrt(sp.Symbol("v_t") / (1 - beta2**t))
    in_full = step.subs({"m_t": scaled_m, "v_t": scaled_v})
    assert sp.simplify((u - theta / eta) ** 2 - in_full**2) == 0
    return u - step


def moments(gradients: list[sp.Expr]) -> tuple[sp.Expr, sp.Expr]:
    """First and second moment from zero after these gradients, by the shipped rule."""
    m = v = sp.Integer(0)
    for gradient in gradients:
        _, m, v = adam(u, gradient, m, v)
    return m, v


def cauchy_schwarz() -> sp.Expr:
    """S v - m^2 is a sum of squares, 0 iff g_k ~ (beta2/beta1)^k; S = (1-beta1)^2/(1-beta2) sum x^j."""
    gradients = list(sp.symbols("g1:4", real=True))
    m, v = moments(gradients)
    n = len(gradients)
    total = sum((beta1**2 / beta2) ** k for k in range(n))
    excess = (1 - beta1) ** 2 / (1 - beta2) * total * v - m**2
    squares = sum(
        (gradients[k] * beta2 ** (n - 1 - k) * beta1 ** (n - 1 - i)
         - gradients[i] * beta2 ** (n - 1 - i) * beta1 ** (n - 1 - k)) ** 2
        / beta2 ** (2 * n - 2 - i - k)
        for i in range(n) for k in range(i)
    )  # fmt: skip
    assert sp.simplify(excess - (1 - beta1) ** 2 * squares) == 0
    steepest = {gradient: (beta2 / beta1) ** k for k, gradient in enumerate(gradients)}
    assert sp.simplify(excess.subs(steepest)) == 0
    geometric = (1 - x**t) / (1 - x)
    assert all(
        sp.simplify(geometric.subs(t, k) - sum(x**i for i in range(k))) == 0 for k in range(1, 8)
    )
    return (1 - beta1) ** 2 / (1 - beta2) * geometric


def largest_step() -> sp.Expr:
    """sqrt(S) with both bias corrections, in units of eta; for x = beta1^2/beta2 < 1 it tends to C."""
    step = (
        (1 - beta1) * sp.sqrt((1 - x**t) / ((1 - beta2) * (1 - x)))
        * sp.sqrt(1 - beta2**t) / (1 - beta1**t)
    )  # fmt: skip
    assert sp.simplify(step.subs(t, 1) ** 2) == 1
    second = step.subs(t, 2).subs(x, beta1**2 / beta2)
    assert sp.simplify(second**2 - (1 + beta1**2 / beta2) * (1 + beta2) / (1 + beta1) ** 2) == 0
    # Longer than eta unless beta1 = beta2: two gradients are enough.
    assert sp.factor((1 + beta1**2 / beta2) * (1 + beta2) - (1 + beta1) ** 2) == (
        (beta1 - beta2) ** 2 / beta2
    )
    return step


def late_weights_dominate() -> None:
    """The share (1 - b^j)/(1 - b^t) of the latest j gradients falls with b: so m <= v's mean of g.

    Then on falling gradients mean_m(g) <= mean_v(g) <= sqrt(mean_v(g^2)) for beta1 <= beta2.
    """
    b = sp.symbols("b", positive=True)
    for length in range(2, 8):
        for latest in range(1, length):
            numerator = sum(b**k for k in range(latest))
            denominator = sum(b**k for k in range(length))
            slope = sp.expand(sp.diff(numerator, b) * denominator - numerator * sp.diff(denominator, b))
            assert all(c <= 0 for c in sp.Poly(slope, b).coeffs())


def agree_with_shipped() -> dict[str, tuple[float, int]]:
    """Greatest relative difference of each shipped function at 50 digits, and the number of points."""
    errors: dict[str, list[float]] = {"largest_step": [], "largest_step_limit": [], "scaled_path": []}
    with mpmath.workdps(50):
        for first, second in [(0.9, 0.99), (0.9, 0.999), (0.5, 0.3), (0.9, 0.81), (0.99, 0.9999)]:
            b1, b2 = mpmath.mpf(first), mpmath.mpf(second)
            for step in (1, 2, 10, 1000):
                gradients = [(b2 / b1) ** k for k in range(step)]
                ages = range(step - 1, -1, -1)
                m = (1 - b1) * mpmath.fdot((b1**age for age in ages), gradients)
                v = (1 - b2) * mpmath.fdot((b2**age for age in ages), (h * h for h in gradients))
                exact = (m / (1 - b1**step)) / mpmath.sqrt(v / (1 - b2**step))
                shipped = float(adam_steps.largest_step(step, beta1=first, beta2=second))
                errors["largest_step"].append(float(abs(shipped / exact - 1)))
            if first**2 < second:
                limit = (1 - b1) / mpmath.sqrt((1 - b2) * (1 - b1**2 / b2))
                shipped = float(adam_steps.largest_step_limit(beta1=first, beta2=second))
                errors["largest_step_limit"].append(float(abs(shipped / limit - 1)))
            w, m, v = mpmath.mpf(30), mpmath.mpf(0), mpmath.mpf(0)
            path = adam_steps.scaled_path(25, ratio=30.0, beta1=first, beta2=second)
            for k in range(1, 26):
                m, v = b1 * m + (1 - b1) * w, b2 * v + (1 - b2) * w * w
                w -= (m / (1 - b1**k)) / mpmath.sqrt(v / (1 - b2**k))
                errors["scaled_path"].append(float(abs(path[k] / w - 1)))
    assert max(max(found) for found in errors.values()) < 1e-12
    return {name: (max(found), len(found)) for name, found in errors.items()}


def main() -> None:
    """Derive, print, compare."""
    print("w[t]/eta, without eta and lambda:", scale_invariance())
    print("m^2 <= S v with S =", cauchy_schwarz(), " x = beta1^2/beta2")
    print("|step t| / eta <=", largest_step())
    print("second step / eta <= sqrt((1 + beta1^2/beta2)(1 + beta2)) / (1 + beta1) >= 1")
    late_weights_dominate()
    print("on falling gradients and beta1 <= beta2: m_hat <= sqrt(v_hat), so each step <= eta")
    for name, (error, points) in agree_with_shipped().items():
        print(
            f"regdyn.theorems.adam_steps.{name}: "
            f"greatest relative difference at 50 digits over {points} points: {error:.0e}"
        )
    print("regdyn.theorems.adam_steps agrees")


if __name__ == "__main__":
    main()
