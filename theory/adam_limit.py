"""Where Adam with L2 alone ends: the 2-cycle, its stability, the threshold, the only limit.

Run it: `python theory/adam_limit.py`.
"""

from unittest.mock import patch

import mpmath
import sympy as sp

from regdyn.optimizers import Adam
from regdyn.theorems import adam_limit

b1, b2, eta, lam, eps = sp.symbols("beta1 beta2 eta lambda epsilon", positive=True)
w, m, v, A, kappa = sp.symbols("w m v A kappa", positive=True)
z = sp.symbols("z")


def late_step(w: sp.Expr, m: sp.Expr, v: sp.Expr) -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """One step of the rule that regdyn ships, so late that the bias corrections are 1."""
    one, zero = sp.Integer(1), sp.Integer(0)
    constants = (b1, 1 - b1, b2, 1 - b2, eta, one, zero, eps)
    # The rule calls math.sqrt, which does not take symbols.
    with patch("regdyn.optimizers.adam.sqrt", sp.sqrt):
        new, (m, v) = Adam().step(w, lam * w, (m, v), constants)
    return new, m, v


def only_limit() -> sp.Expr:
    """At rest at w both moments forget all but the gradient lambda w; the step is then not 0."""
    new, m_fixed, v_fixed = late_step(w, lam * w, (lam * w) ** 2)
    assert sp.simplify(m_fixed - lam * w) == 0
    assert sp.simplify(v_fixed - (lam * w) ** 2) == 0
    step = sp.factor(sp.simplify((w - new).subs(sp.sqrt(v_fixed), lam * w)))
    expected = eta * lam * w / (lam * w + eps)
    assert sp.simplify(step.subs(sp.Abs(w), w) - expected) == 0
    return expected


def cycle() -> sp.Expr:
    """w -> -w, m -> -m, v -> v is a step of the rule for one amplitude, for every beta2."""
    m_cycle, v_cycle = lam * A * (1 - b1) / (1 + b1), (lam * A) ** 2
    # The gradient lambda A follows the first moment of the opposite sign.
    new, new_m, new_v = late_step(A, -m_cycle, v_cycle)
    assert sp.simplify(new_m - m_cycle) == 0
    assert sp.simplify(new_v - v_cycle) == 0
    new = sp.simplify(new.subs(sp.sqrt(new_v), lam * A))
    (amplitude,) = sp.solve(sp.numer(sp.together((new + A) / A)), A)
    expected = eta * (1 - b1) / (2 * (1 + b1)) - eps / lam
    assert sp.simplify(amplitude - expected) == 0
    return expected


def characteristic_polynomial() -> sp.Poly:
    """Of the map about the 2-cycle, every other sign reversed; kappa = A / (A + eps/lambda).

    In units with lambda = 1 and A + eps = A0 = eta (1 - beta1)/(2 (1 + beta1)).
    """
    new, new_m, new_v = (part.subs(lam, 1) for part in late_step(w, -m, v))
    jacobian = sp.Matrix([-new, new_m, new_v]).jacobian([w, m, v])
    root, a0 = sp.symbols("r A0", positive=True)
    jacobian = jacobian.subs(new_v, root**2).subs({root: kappa * a0, eps: (1 - kappa) * a0})
    at_cycle = {w: kappa * a0, m: kappa * a0 * (1 - b1) / (1 + b1), v: (kappa * a0) ** 2}
    jacobian = jacobian.subs(at_cycle).subs(eta, 2 * (1 + b1) * a0 / (1 - b1))
    polynomial = sp.Poly(sp.simplify(jacobian).charpoly(z).as_expr(), z)
    trace = 1 + b1 + b2 - 2 * kappa * (1 - b2)
    minors = b1 + b2 + b1 * b2 + 2 * kappa * b1 * (1 - b2)
    expected = z**3 - trace * z**2 + minors * z - b1 * b2
    assert sp.simplify(polynomial.as_expr() - expected) == 0
    return sp.Poly(expected, z)


def stability() -> tuple[sp.Expr, sp.Expr]:
    """The conditions of Jury on z^3 + c2 z^2 + c1 z + c0, of which only the last can fail."""
    polynomial = characteristic_polynomial()
    _, c2, c1, c0 = polynomial.all_coeffs()
    assert sp.expand(polynomial.eval(1) - 2 * kappa * (1 + b1) * (1 - b2)) == 0
    other = 2 * (1 + b1) * (1 + b2) - 2 * kappa * (1 - b1) * (1 - b2)  # positive for kappa <= 1
    assert sp.expand(-polynomial.eval(-1) - other) == 0
    minor = (b1 + b2) * (1 - b1 * b2) + 2 * b1 * kappa * (1 - b2) * (1 + b2)  # positive
    assert sp.expand(c1 - c0 * c2 - minor) == 0
    last = (1 - b2) * ((1 - b1) * (1 - b1 * b2) - 2 * b1 * kappa * (1 + b2))
    assert sp.expand(1 - c0**2 - minor - last) == 0
    bound = (1 - b1) * (1 - b1 * b2) / (2 * b1 * (1 + b2))
    assert sp.simplify(last.subs(kappa, bound)) == 0
    critical = 2 / (3 * (1 + b2) + sp.sqrt(9 * (1 + b2) ** 2 - 4 * b2))
    assert sp.simplify(sp.radsimp(last.subs({kappa: 1, b1: critical}))) == 0
    assert sp.simplify(critical.subs(b2, 1) - (3 - 2 * sp.sqrt(2))) == 0
    assert critical.subs(b2, 0) == sp.Rational(1, 3)
    return bound, critical


def threshold() -> sp.Expr:
    """Near 0, with w, m and sqrt(v) of order h, the map is linear; one of its roots passes -1."""
    h, a = sp.symbols("h a", positive=True)  # a = eta lambda / eps
    new, new_m, _ = late_step(h * w, h * m, h**2 * v)
    linear = sp.Matrix([sp.limit(part / h, h, 0) for part in (new, new_m)])
    polynomial = linear.jacobian([w, m]).subs(eta, a * eps / lam).charpoly(z).as_expr()
    assert sp.expand(polynomial - (z**2 - (1 + b1 - a * (1 - b1)) * z + b1)) == 0
    (passes,) = sp.solve(polynomial.subs(z, -1), a)
    expected = 2 * (1 + b1) / (1 - b1)
    assert sp.simplify(passes - expected) == 0
    return expected


def agree_with_shipped() -> dict[str, tuple[float, int]]:
    """Greatest relative difference of each shipped function at 50 digits, and the number of points."""
    names = ("cycle_amplitude", "largest_stable_share", "critical_beta1", "rate_near_zero")
    errors: dict[str, list[float]] = {name: [] for name in names}

    def note(name: str, shipped: object, exact: mpmath.mpf) -> None:
        errors[name].append(float(abs(mpmath.mpf(float(shipped)) / exact - 1)))  # type: ignore[arg-type]

    coefficients = sp.lambdify((b1, b2, kappa), characteristic_polynomial().all_coeffs(), "mpmath")

    def spectral_radius(*numbers: mpmath.mpf) -> mpmath.mpf:
        return max(abs(root) for root in mpmath.polyroots(coefficients(*numbers), 200, extraprec=200))

    with mpmath.workdps(50):
        for first, second in [(0.9, 0.99), (0.9, 0.999), (0.2, 0.5), (0.5, 0.9)]:
            x, y = mpmath.mpf(first), mpmath.mpf(second)
            case = dict(lr=1e-3, beta1=first, lam=1e-2, eps=1e-8)
            amplitude = mpmath.mpf(1e-3) * (1 - x) / (2 * (1 + x)) - mpmath.mpf(1e-8) / mpmath.mpf(1e-2)
            note("cycle_amplitude", adam_limit.cycle_amplitude(**case), amplitude)
            # Where the spectral radius is 1, of all the map and not of Jury's condition.
            share = mpmath.findroot(
                lambda s, x=x, y=y: spectral_radius(x, y, s) - 1,
                (1 - x) * (1 - x * y) / (2 * x * (1 + y)) * mpmath.mpf("1.01"),
            )
            note(
                "largest_stable_share",
                adam_limit.largest_stable_share(beta1=first, beta2=second),
                share,
            )
            root = mpmath.findroot(lambda b, y=y: spectral_radius(b, y, mpmath.mpf(1)) - 1, 0.19)
            note("critical_beta1", adam_limit.critical_beta1(beta2=second), root)
            for ratio in (0.01, 5.0, 50.0):
                half = (1 + x - (1 - x) * ratio) / 2
                split = mpmath.sqrt(half**2 - x)
                exact = max(abs(half + split), abs(half - split))
                shipped = adam_limit.rate_near_zero(lr=ratio, beta1=first, lam=1.0, eps=1.0)
                note("rate_near_zero", shipped, exact)
    assert max(max(found) for found in errors.values()) < 1e-13
    return {name: (max(found), len(found)) for name, found in errors.items()}


def main() -> None:
    """Derive, print, compare."""
    print("step at rest:", only_limit())
    print("2-cycle amplitude A:", cycle())
    _, second, first, last = characteristic_polynomial().all_coeffs()
    print("linearised about it, kappa = A/(A + eps/lambda): z^3 + c2 z^2 + c1 z + c0,")
    print("c2 =", second, " c1 =", first, " c0 =", last)
    bound, critical = stability()
    print("stable iff kappa <", bound)
    print("at eps = 0 iff beta1 <", critical)
    print("0 is stable iff eta lambda/eps <", threshold())
    for name, (error, points) in agree_with_shipped().items():
        print(
            f"regdyn.theorems.adam_limit.{name}: "
            f"greatest relative difference at 50 digits over {points} points: {error:.0e}"
        )
    print("regdyn.theorems.adam_limit agrees")


if __name__ == "__main__":
    main()
