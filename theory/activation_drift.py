"""Theorem 1 of zhou2020 and what follows from it, from the update rule to the closed forms.

Run it: `python theory/activation_drift.py`.
"""

from collections.abc import Callable
from functools import cache

import mpmath as mp
import sympy as sp

from regdyn.optimizers import SGD
from regdyn.theorems import activation_drift as shipped

r = sp.symbols("r", real=True)
x, g = sp.symbols("x g", real=True)
eta, gamma = sp.symbols("eta gamma", positive=True)
beta = sp.symbols("beta", real=True)
# The normal density and distribution function at r.
phi, Phi = sp.symbols("phi Phi", positive=True)


def update() -> None:
    """Eq. (1): an active unit moves by -eta g x in gamma and by -eta g in beta."""
    constants = (sp.Integer(0), sp.Integer(1), sp.Integer(0), sp.Integer(1), eta)
    for parameter, gradient in ((gamma, g * x), (beta, g)):
        new, _ = SGD(momentum=0.0).step(parameter, gradient, (sp.Integer(0),), constants)
        assert sp.expand(new - (parameter - eta * gradient)) == 0


def derivative(k: sp.Expr) -> sp.Expr:
    """d/dr of an expression in r, phi(r) and Phi(r)."""
    return sp.expand(sp.diff(k, r) - r * phi * sp.diff(k, phi) + phi * sp.diff(k, Phi))


def partial(k: sp.Expr, power: int, in_gamma: int, in_beta: int) -> sp.Expr:
    """gamma^(power + n) times the n-th partial derivative of k(beta/gamma) / gamma^power."""
    for _ in range(in_gamma):
        k, power = sp.expand(-(r * derivative(k) + power * k)), power + 1
    for _ in range(in_beta):
        k, power = derivative(k), power + 1
    return k


@cache
def active_moments() -> list[sp.Expr]:
    """E x^k [x > -r] for k = 0 … 4, by m_k = (-r)^(k-1) phi + (k - 1) m_(k-2)."""
    moments = [Phi, phi]
    for k in range(2, 5):
        moments.append(sp.expand((-r) ** (k - 1) * phi + (k - 1) * moments[k - 2]))
    # Each is 0 at minus infinity and grows with r by the integrand at x = -r.
    assert all(sp.expand(derivative(m) - (-r) ** k * phi) == 0 for k, m in enumerate(moments))
    return moments


def fold(order: int, k: sp.Expr, power: int = 0) -> sp.Expr:
    """E (x d_gamma + d_beta)^order k(r)/gamma^power over the active inputs."""
    moments = active_moments()
    terms = (
        sp.binomial(order, j) * moments[j] * partial(k, power, j, order - j) for j in range(order + 1)
    )
    return sp.expand(sum(terms))


def coefficients() -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """K, K4 and M. Odd orders vanish: g is symmetric, and independent of x."""
    second = fold(2, Phi)
    assert sp.expand(second - ((r**4 - 2) * phi**2 + (r - r**3) * phi * Phi)) == 0
    fourth = fold(4, Phi)
    m = active_moments()
    # Two different samples of a batch: the pairs of indices are averaged each on its own.
    crossed = sp.expand(
        sum(
            sp.binomial(2, i) * sp.binomial(2, j) * m[i] * m[j] * partial(Phi, 0, i + j, 4 - i - j)
            for i in range(3)
            for j in range(3)
        )
    )
    return second, fourth, crossed


def batch_weights() -> None:
    """E (sum_b g_b a_b / B)^4 = kappa c^4 E a^4 / B^3 + 3 (B - 1) c^4 (E a^2)^2 / B^3."""
    b, kappa, fourth, square = sp.symbols("B kappa a4 a2", positive=True)
    # B terms with all four samples equal, 3 B (B - 1) with two pairs of equal samples.
    total = (b * kappa * fourth + 3 * b * (b - 1) * square**2) / b**4
    assert sp.simplify(total - (kappa * fourth + 3 * (b - 1) * square**2) / b**3) == 0


def integral_of_k(second: sp.Expr) -> sp.Expr:
    """The antiderivative of K, and its integral over all r."""
    erf = sp.erf(r)
    rest = (r**2 + 1) * phi * Phi - (r**3 / 2 + r / 4) * phi**2
    # phi^2 = exp(-r^2)/(2 pi) and d erf(r)/dr = 2 exp(-r^2)/sqrt(pi) = 4 sqrt(pi) phi^2.
    slope = derivative(rest) - sp.Rational(11, 16) / sp.sqrt(sp.pi) * 4 * sp.sqrt(sp.pi) * phi**2
    assert sp.expand(slope - second) == 0
    whole = -sp.Rational(11, 16) / sp.sqrt(sp.pi) * (sp.limit(erf, r, sp.oo) + 1)
    assert sp.simplify(whole + 11 / (8 * sp.sqrt(sp.pi))) == 0
    return whole


def mills(a: mp.mpf) -> mp.mpf:
    """(1 - Phi(a)) / phi(a)."""
    return mp.ncdf(-a) / mp.npdf(a)


def one_zero() -> mp.mpf:
    """K < 0 above one r and > 0 below it.

    For r = -a < 0, K/phi^2 = (a^4 - 2) + (a^3 - a) M(a), M the Mills ratio. Up to a = 1 neither term is
    positive, from a = 2^(1/4) on neither negative. Between, both rise: M' = a M - 1 and M > a/(1 + a^2)
    give ((a^3 - a) M)' > 2 a^3/(1 + a^2) > 0. So there is one zero.

    For r >= 0, K < 0 where (r - r^3) Phi < (2 - r^4) phi. On [0, 1] this holds on each of three
    intervals, with the greatest left side and the least right side; on [1, 2^(1/4)] the signs do it;
    beyond, (r^4 - 2)/(r^3 - r) <= r + 1/r and (r + 1/r) phi < 1/2 <= Phi.
    """
    a = sp.symbols("a", positive=True)
    bound = a / (1 + a**2)
    rise = (3 * a**2 - 1) * bound + (a**3 - a) * (a * bound - 1)
    assert sp.simplify(rise - 2 * a**3 / (1 + a**2)) == 0
    top = mp.sqrt(mp.mpf(1) / 3)
    for low, high in ((0.0, 0.8), (0.8, 0.9), (0.9, 1.0)):
        peak = min(max(top, low), high)
        assert (peak - peak**3) * mp.ncdf(high) < (2 - high**4) * mp.npdf(high)
    assert sp.simplify((r**4 - 2) / (r**3 - r) - (r + (r**2 - 2) / (r**3 - r))) == 0
    start = mp.root(2, 4)
    # (r^2 - 2)/(r^3 - r) < 1/r, and (r + 1/r) phi falls for r > 1.
    assert (start + 1 / start) * mp.npdf(start) < mp.mpf(1) / 2
    zero = mp.findroot(lambda a: (a**4 - 2) + (a**3 - a) * mills(a), 1.15)
    assert abs(float(-zero) - shipped.SIGN_CHANGE) < 1e-15
    return -zero


def even_part_is_negative() -> None:
    """K(r) + K(-r) = 2 (r^4 - 2) phi^2 - (r^3 - r) phi (2 Phi - 1) < 0 for every r.

    On [0, 1]: 2 Phi - 1 <= 2 r phi(0), so r^2 - r^4 < (2 - r^4) exp(-r^2/2) is enough, at most 1/4
    against at least exp(-1/2). On [1, 2^(1/4)] the signs do it. On [2^(1/4), sqrt 2] the quotient
    (r^4 - 2)/(r^3 - r) is at most r, beyond at most r + 1/r; 2 r phi and 2 (r + 1/r) phi fall for
    r > 1, and 2 Phi - 1 rises.
    """
    assert mp.mpf(1) / 4 < mp.exp(-0.5)
    start, middle = mp.root(2, 4), mp.sqrt(2)
    assert 2 * start * mp.npdf(start) < 2 * mp.ncdf(start) - 1
    assert 2 * (middle + 1 / middle) * mp.npdf(middle) < 2 * mp.ncdf(middle) - 1


def gaussian_beta() -> sp.Expr:
    """E K(r) for r ~ N(0, rho^2), by Stein's identity E[r f(r)] = p E f'(r)."""
    rho = sp.symbols("rho", positive=True)
    # phi(r) times the law of r is 1/sqrt(2 pi (1 + rho^2)) times N(0, p); phi(r)^2 times it likewise.
    p, q = rho**2 / (1 + rho**2), rho**2 / (1 + 2 * rho**2)
    # Both prefactors are 1/(2 pi sqrt(1 + 2 rho^2)); under N(0, p) the density at r of N(0, 1) has mean
    # 1/sqrt(2 pi (1 + p)), and r^2 times it p/(1 + p) as much.
    assert sp.simplify((1 + rho**2) * (1 + p) - (1 + 2 * rho**2)) == 0
    assert sp.simplify(p / (1 + p) - q) == 0
    first = p
    third = p * (2 * first + q)
    closed = 3 * q**2 - 2 + first - third
    numerator, denominator = sp.fraction(sp.together(closed))
    # A quotient of polynomials in rho^2 with coefficients of one sign each: negative for every rho.
    assert all(c < 0 for c in sp.Poly(sp.expand(numerator), rho).coeffs())
    assert all(c > 0 for c in sp.Poly(sp.expand(denominator), rho).coeffs())
    return sp.factor(closed)


def density_at_zero() -> mp.mpf:
    """Units with a density of gamma at 0 and beta = 0.

    With u = eta c/gamma their mean change is p eta c int_0^oo D(0, u)/u^2 du on either side. For fixed
    x and |g| take w = u |g|, then y = w/(1 + x w) for g < 0 and y = w/|1 - x w| for g > 0:
    dw/w^2 = dy/y^2 each time, but y runs from 0 to 1/x for the one, and from 0 to oo and back to 1/x
    for the other. What is left is -2 int_(1/x)^oo (Phi(y) - 1/2) dy/y^2, whose mean over x > 0 is -2 C
    after y = 1/t.
    """
    w = sp.symbols("w", positive=True)
    for y in (w / (1 + x * w), w / (1 - x * w)):
        assert sp.simplify(sp.diff(y, w) / y**2 - 1 / w**2) == 0

    def difference(number: float) -> float:
        def change(w: mp.mpf) -> mp.mpf:
            above = mp.ncdf(w / abs(1 - number * w)) if number * w != 1 else 1
            return (mp.ncdf(w / (1 + number * w)) - above) / w**2

        shares = [1e-9, 0.5, 0.9, 1, 1.1, 2, 8, 64]
        direct = mp.quad(change, [*(share / number for share in shares), mp.inf])
        other = mp.quad(lambda y: (1 - 2 * mp.ncdf(y)) / y**2, [1 / number, 3, 8, 64, mp.inf])
        return float(direct - other)

    assert all(abs(difference(number)) < 1e-7 for number in (0.5, 1.0, 3.0))
    # Below 0.01 Phi(1/t) is 1 to all digits.
    constant = mp.quad(lambda t: mp.ncdf(-t) / 2, [0, 0.01])
    edges = [0.01, 0.1, 0.2, 0.35, 0.5, 1, 2, 4, 8, 16]
    constant += mp.quad(lambda t: (mp.ncdf(1 / t) - 0.5) * mp.ncdf(-t), edges)
    assert abs(constant - shipped.DENSITY_CONSTANT) < 1e-15
    return constant


def greatest_difference(
    exact: Callable[[mp.mpf], mp.mpf], function: Callable[[float], object], points: list[float]
) -> float:
    """Greatest relative difference between a shipped function and 50 digits."""
    with mp.workdps(50):
        return max(abs(float(mp.mpf(float(function(at))) / exact(mp.mpf(at)) - 1)) for at in points)


def agrees_with_shipped(second: sp.Expr, fourth: sp.Expr, crossed: sp.Expr) -> None:
    """Every shipped closed form at 50 digits."""
    points = [-15.0, -6.0, -2.5, -1.25, -1.0, -0.25, 0.5, 1.0, 2.0, 5.0, 15.0]

    def at(expression: sp.Expr) -> Callable[[mp.mpf], mp.mpf]:
        function = sp.lambdify((r, phi, Phi), expression, "mpmath")
        return lambda z: function(z, mp.npdf(z), mp.ncdf(z))

    k = at(second)

    def mean_of_k(m: mp.mpf, tau: mp.mpf) -> mp.mpf:
        return mp.quad(lambda z: k(m + tau * z) * mp.npdf(z), mp.linspace(-11, 11, 12))

    cases: list[tuple[str, Callable[[mp.mpf], mp.mpf], Callable[[float], object], list[float]]] = [
        ("drift_coefficient", k, shipped.drift_coefficient, points),
        ("next_coefficient", at(fourth), shipped.next_coefficient, points),
        ("crossed_coefficient", at(crossed), shipped.crossed_coefficient, points),
        (
            "antiderivative",
            lambda z: mp.quad(k, mp.linspace(z - 12, z, 7)),
            shipped.antiderivative,
            [-4.0, -1.0, 0.5, 3.0],
        ),
        (
            "uniform_beta_coefficient",
            lambda z: mp.quad(k, mp.linspace(-z, z / 2, 3)) / (3 * z / 2),
            lambda b: shipped.uniform_beta_coefficient(gamma=1.0, low=-b, high=b / 2),
            [0.25, 2.0],
        ),
        (
            "gaussian_beta_coefficient",
            lambda tau: mean_of_k(mp.mpf(-1.5), tau),
            lambda tau: shipped.gaussian_beta_coefficient(gamma=1.0, tau=tau, mean=-1.5),
            [0.25, 1.0],
        ),
    ]
    for name, exact, function, where in cases:
        worst = greatest_difference(exact, function, where)
        assert worst < 2e-13, (name, worst)
        print(
            f"regdyn.theorems.activation_drift.{name}: "
            f"greatest relative difference at 50 digits over {len(where)} points: {worst:.0e}"
        )


def main() -> None:
    """Derive, print, compare."""
    update()
    second, fourth, crossed = coefficients()
    batch_weights()
    print("u = eta c/|gamma|: E Phi(r') = Phi(r) + (u^2/2) K + (u^4/24) kappa K4 + O(u^6)")
    for name, value in (("K ", second), ("K4", fourth)):
        parts = {phi**2: value.coeff(phi, 2), phi * Phi: value.coeff(phi, 1).coeff(Phi, 1)}
        pieces = [f"({sp.factor(factor)}) {power}" for power, factor in parts.items()]
        print(f"{name} =", " + ".join(pieces))
    print("integral of K over r:", integral_of_k(second))
    print("the one zero of K: r =", mp.nstr(one_zero(), 17), " K(r) + K(-r) < 0 for every r")
    even_part_is_negative()
    print("beta ~ N(0, rho^2 gamma^2): 2 pi sqrt(1 + 2 rho^2) J =")
    print("   ", gaussian_beta())
    constant = mp.nstr(density_at_zero(), 12)
    print("density p of gamma at 0, beta = 0: drop 2 C p eta E|g|, C =", constant)
    agrees_with_shipped(second, fourth, crossed)
    print("regdyn.theorems.activation_drift agrees")


if __name__ == "__main__":
    main()
