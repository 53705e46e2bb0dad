"""A BN+ReLU unit over many steps: the generator, its powers on Phi, and the equation in two variables.

Run it: `python theory/activation_diffusion.py`.
"""

import mpmath as mp
import sympy as sp

from regdyn.theorems import activation_diffusion as shipped

r = sp.symbols("r", real=True)
phi, Phi = sp.symbols("phi Phi", positive=True)
gamma, s = sp.symbols("gamma s", positive=True)
beta, theta, tau = sp.symbols("beta theta tau", real=True)

# Second moments of (x, 1) over the active inputs x > -r, theory/activation_drift.py.
M_GAMMA, M_MIXED, M_BETA = Phi - r * phi, phi, Phi


def derivative(k: sp.Expr) -> sp.Expr:
    """d/dr of an expression in r, phi(r) and Phi(r)."""
    return sp.expand(sp.diff(k, r) - r * phi * sp.diff(k, phi) + phi * sp.diff(k, Phi))


def generator(k: sp.Expr, power: int) -> sp.Expr:
    """L = m_ab d_a d_b on k(beta/gamma)/gamma^power is this over gamma^(power + 2)."""

    def in_gamma(k: sp.Expr, power: int) -> sp.Expr:
        return sp.expand(-(r * derivative(k) + power * k))

    twice_gamma = in_gamma(in_gamma(k, power), power + 1)
    mixed = derivative(in_gamma(k, power))
    twice_beta = derivative(derivative(k))
    return sp.expand(M_GAMMA * twice_gamma + 2 * M_MIXED * mixed + M_BETA * twice_beta)


def powers() -> list[sp.Expr]:
    """L Phi = K/gamma^2, L^2 Phi = K_2/gamma^4, L^3 Phi = K_3/gamma^6."""
    first = generator(Phi, 0)
    assert sp.expand(first - ((r**4 - 2) * phi**2 + (r - r**3) * phi * Phi)) == 0
    second = generator(first, 2)
    return [first, second, generator(second, 4)]


def two_variables() -> None:
    """For F = f(theta, tau), theta = arctan(beta/gamma), tau = ln(s/(gamma^2 + beta^2)).

    Checked on f = exp(p theta + q tau), whose p and q stand for the derivatives.
    """
    p, q = sp.symbols("p q")
    gg, gb, bb = sp.symbols("m_gg m_gb m_bb")
    f = sp.exp(p * sp.atan(beta / gamma) + q * sp.log(s / (gamma**2 + beta**2)))
    left = sp.diff(f, s)
    right = (
        gg * sp.diff(f, gamma, 2) + 2 * gb * sp.diff(f, gamma, beta) + bb * sp.diff(f, beta, 2)
    ) / 2
    size = gamma**2 + beta**2
    cos, sin = gamma / sp.sqrt(size), beta / sp.sqrt(size)
    along = cos**2 * gg + 2 * sin * cos * gb + sin**2 * bb
    across = sin**2 * gg - 2 * sin * cos * gb + cos**2 * bb
    mixed = sin * cos * (bb - gg) + (cos**2 - sin**2) * gb
    stated = (along * (4 * q**2 + 2 * q) - 2 * mixed * (2 * p * q + p) + across * (p**2 - 2 * q)) / 2
    assert sp.simplify(left / f * s - q) == 0
    assert sp.simplify(right / f * size - stated) == 0


def agrees_with_shipped(first: sp.Expr, second: sp.Expr, third: sp.Expr) -> None:
    """The coefficients at 50 digits; the numerical solution against three terms of the series."""
    points = [-12.0, -4.0, -2.0, -1.0, -0.25, 0.0, 0.5, 1.0, 3.0, 10.0]
    with mp.workdps(50):
        exact = [sp.lambdify((r, phi, Phi), k, "mpmath") for k in (first, second, third)]

        def at(k: int, z: float) -> mp.mpf:
            return exact[k](mp.mpf(z), mp.npdf(z), mp.ncdf(z))

        def two_terms(z: float) -> mp.mpf:
            # s = 1/8 is a number in binary.
            return mp.ncdf(z) + at(0, z) / 16 + at(1, z) / 512

        for name, reference, function in (
            ("second_coefficient", lambda z: at(1, z), shipped.second_coefficient),
            (
                "short_time_mean",
                two_terms,
                lambda z: shipped.short_time_mean(0.125, gamma=1.0, beta=z),
            ),
        ):
            off = max(abs(float(mp.mpf(float(function(z))) / reference(z) - 1)) for z in points)
            assert off < 2e-13, (name, off)
            print(
                f"regdyn.theorems.activation_diffusion.{name}: "
                f"greatest relative difference at 50 digits over {len(points)} points: {off:.0e}"
            )
        time, worst = 0.03, 0.0
        for z in (-1.5, -0.5, 0.0, 1.0, 2.0):
            series = mp.ncdf(z) + sum(
                (mp.mpf(time) / 2) ** (k + 1) * at(k, z) / mp.factorial(k + 1) for k in range(3)
            )
            solved = float(shipped.mean_activation(time, gamma=1.0, beta=z))
            worst = max(worst, abs(solved / float(series) - 1))
    assert worst < 1e-4, worst
    print(f"mean_activation against three terms of the series at s = 0.03 gamma^2: {worst:.0e}")


def main() -> None:
    """Derive, print, compare."""
    first, second, third = powers()
    print("L = m_ab d_a d_b, m = [[Phi - r phi, phi], [phi, Phi]]:  E Phi(r_t) = exp(s L/2) Phi")
    print("L^2 Phi = K_2/gamma^4, K_2 =")
    for factor, rest in (
        (phi**3, second.coeff(phi, 3)),
        (phi**2 * Phi, second.coeff(phi, 2).coeff(Phi, 1)),
        (phi * Phi**2, second.coeff(phi, 1).coeff(Phi, 2)),
    ):
        print(f"    + ({sp.factor(rest)}) {factor}")
    two_variables()
    print("E Phi depends on arctan(r) and ln(s/(gamma^2 + beta^2)) alone: the equation is as shipped")
    agrees_with_shipped(first, second, third)
    print("regdyn.theorems.activation_diffusion agrees")


if __name__ == "__main__":
    main()
