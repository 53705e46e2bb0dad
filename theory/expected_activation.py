"""Mean, second moment and leaky case of a BN+ReLU unit, from the Gaussian integral to the closed forms.

Run it: `python theory/expected_activation.py`.
"""

from collections.abc import Callable

import mpmath
import sympy as sp

from regdyn.theorems import expected_activation as shipped

x, beta, b = sp.symbols("x beta b", real=True)
s = sp.symbols("s", positive=True)
r = beta / s
phi = sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)


def cdf(z: sp.Expr) -> sp.Expr:
    """The normal distribution function."""
    return (1 + sp.erf(z / sp.sqrt(2))) / 2


def density(z: sp.Expr) -> sp.Expr:
    """The normal density."""
    return sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi)


def active_moment(k: int, sign: int) -> sp.Expr:
    """E y^k [y > 0] of y = gamma x + beta, gamma = sign s, integrated over the active inputs."""
    active = (-r, sp.oo) if sign > 0 else (-sp.oo, r)
    integral = sp.integrate(sp.expand((sign * s * x + beta) ** k * phi), (x, *active))
    return integral.rewrite(sp.erf)


def moments() -> tuple[sp.Expr, sp.Expr]:
    """M1 and M2: the same for either sign of gamma."""
    first = beta * cdf(r) + s * density(r)
    second = (beta**2 + s**2) * cdf(r) + beta * s * density(r)
    for sign in (1, -1):
        assert sp.simplify(active_moment(1, sign) - first) == 0
        assert sp.simplify(active_moment(2, sign) - second) == 0
    return first, second


def truncated_form(sign: int) -> sp.Expr:
    """(1 - Phi(alpha)) (beta + gamma phi(alpha)/(1 - Phi(alpha))), alpha = -beta/gamma."""
    gamma = sign * s
    alpha = -beta / gamma
    return beta * (1 - cdf(alpha)) + gamma * density(alpha)


def raw_gamma() -> None:
    """The form with raw gamma is M1 for gamma > 0, but E min(0, y) = beta - M1 for gamma < 0."""
    first, _ = moments()
    assert sp.simplify(truncated_form(1) - first) == 0
    assert sp.simplify(truncated_form(-1) - (beta - first)) == 0
    assert sp.simplify(truncated_form(-1) + first.subs(beta, -beta)) == 0


def leaky() -> tuple[sp.Expr, sp.Expr]:
    """A leaky unit is P - b N with P = ReLU(y), N = ReLU(-y), P N = 0."""
    first, second = moments()
    mirrored_first, mirrored_second = first.subs(beta, -beta), second.subs(beta, -beta)
    mean = first - b * mirrored_first
    square = second + b**2 * mirrored_second
    assert sp.simplify(mean - (b * beta + (1 - b) * first)) == 0
    assert sp.simplify(square - (b**2 * (beta**2 + s**2) + (1 - b**2) * second)) == 0
    variance_p, variance_n = second - first**2, mirrored_second - mirrored_first**2
    variance = variance_p + b**2 * variance_n + 2 * b * first * mirrored_first
    assert sp.simplify(sp.expand(square - mean**2 - variance)) == 0
    assert sp.simplify((square - mean**2).subs(b, 1)) == s**2
    return mean, square


def tail_recursion() -> None:
    """I_(k+1) = k I_(k-1) - a I_k for I_k = int_0^oo t^k exp(-a t - t^2/2) dt, by parts."""
    t, a = sp.symbols("t a", positive=True)
    k = sp.symbols("k", positive=True)
    weight = sp.exp(-a * t - t**2 / 2)
    total = sp.diff(t**k * weight, t)
    parts = (k * t ** (k - 1) - a * t**k - t ** (k + 1)) * weight
    assert sp.simplify(total - parts) == 0


def greatest_difference(
    exact: sp.Expr, function: Callable[..., object], points: list[dict[str, float]]
) -> float:
    """Greatest relative difference between an expression at 50 digits and a shipped function."""
    worst = 0.0
    for point in points:
        numbers = {s: abs(point["gamma"]), beta: point["beta"], b: point.get("slope", 0.0)}
        with mpmath.workdps(50):
            # The expressions cancel in the tails: 200 digits leave 50.
            reference = exact.subs({k: sp.Rational(v) for k, v in numbers.items()}).evalf(50, maxn=400)
            worst = max(worst, abs(float(sp.Float(float(function(**point)), 50) / reference - 1)))
    return worst


def main() -> None:
    """Derive, print, compare."""
    first, second = moments()
    raw_gamma()
    mean, square = leaky()
    tail_recursion()
    print("r = beta/s, s = |gamma|, y = gamma x + beta")
    print("E ReLU(y)   = beta Phi(r) + s phi(r)")
    print("E ReLU(y)^2 = (beta^2 + s^2) Phi(r) + beta s phi(r)")
    print("truncated form with raw gamma < 0 = beta - E ReLU(y) = E min(0, y)")
    print("leaky: mean = b beta + (1 - b) M1, second moment = b^2 (beta^2 + s^2) + (1 - b^2) M2")
    points = [
        {"gamma": gamma, "beta": abs(gamma) * ratio}
        for gamma in (0.75, -2.0)
        for ratio in (-30.0, -8.0, -2.5, -1.0, -0.25, 0.0, 0.5, 2.0, 6.0)
    ]
    leaks = [point | {"slope": 0.125} for point in points]
    for name, exact, where in (
        ("mean", first, points),
        ("second_moment", second, points),
        ("variance", second - first**2, points),
        ("leaky_mean", mean, leaks),
        ("leaky_second_moment", square, leaks),
        ("leaky_variance", square - mean**2, leaks),
        ("activation_probability", cdf(r), points),
    ):
        worst = greatest_difference(exact, getattr(shipped, name), where)
        assert worst < 2e-13, (name, worst)
        print(
            f"regdyn.theorems.expected_activation.{name}: "
            f"greatest relative difference at 50 digits over {len(where)} points: {worst:.0e}"
        )
    for sign in (1, -1):
        signed = [point for point in points if point["gamma"] * sign > 0]
        assert greatest_difference(truncated_form(sign), shipped.truncated_normal_form, signed) < 2e-13
    print("regdyn.theorems.expected_activation agrees")


if __name__ == "__main__":
    main()
