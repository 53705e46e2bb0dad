"""SGD with momentum and L2, from the update rule to the mean in closed form and the stationary law.

Run it: `python theory/momentum_sgd.py`.
"""

import mpmath
import sympy as sp

from regdyn.optimizers import SGD
from regdyn.theorems import momentum_sgd

eta, lam, sigma, a = sp.symbols("eta lambda sigma a", positive=True)
mu = sp.symbols("mu", nonnegative=True)
theta, buffer, xi = sp.symbols("theta b xi", real=True)
z, z_plus, z_minus = sp.symbols("z z_+ z_-")
t = sp.symbols("t", integer=True, nonnegative=True)


def transition() -> tuple[sp.Matrix, sp.Matrix]:
    """One step of the rule that regdyn ships, with symbols for numbers, is linear: x' = M x + q xi."""
    # A plain step after the first: momentum, intake, Nesterov's two weights, learning rate.
    constants = (mu, sp.Integer(1), sp.Integer(0), sp.Integer(1), eta)
    gradient = lam * theta + xi
    new_theta, (new_buffer,) = SGD().step(theta, gradient, (buffer,), constants)
    new = sp.Matrix([new_theta, new_buffer])
    matrix = new.jacobian([theta, buffer])
    intake = new.jacobian([xi])
    assert sp.simplify(matrix * sp.Matrix([theta, buffer]) + intake * xi - new) == sp.zeros(2, 1)
    return matrix, intake


def characteristic_polynomial() -> sp.Expr:
    """The mean obeys w[t+1] = (1 + mu - a) w[t] - mu w[t-1] with a = eta lambda."""
    matrix, _ = transition()
    polynomial = matrix.charpoly(z).as_expr().subs(lam, a / eta)
    assert sp.expand(polynomial - (z**2 - (1 + mu - a) * z + mu)) == 0
    return polynomial


def real_roots() -> sp.Expr:
    """The discriminant is positive for a < (1 - sqrt mu)^2, below the critical momentum."""
    discriminant = sp.discriminant(characteristic_polynomial(), z)
    factors = ((1 - sp.sqrt(a)) ** 2 - mu) * ((1 + sp.sqrt(a)) ** 2 - mu)
    assert sp.expand(discriminant - factors) == 0
    return factors


def mean() -> sp.Expr:
    """With w[0] = 1 and a buffer of 0, hence w[1] = 1 - a, the recursion has one solution."""
    weight = (1 - a - z_minus) / (z_plus - z_minus)
    closed = weight * z_plus**t + (1 - weight) * z_minus**t
    assert sp.simplify(closed.subs(t, 0)) == 1
    assert sp.simplify(closed.subs(t, 1) - (1 - a)) == 0
    # The roots add up to 1 + mu - a, and their product is mu.
    recursion = (
        closed.subs(t, t + 2)
        - (z_plus + z_minus) * closed.subs(t, t + 1)
        + z_plus * z_minus * closed
    )  # fmt: skip
    assert sp.simplify(sp.expand(sp.powsimp(sp.expand(recursion)))) == 0
    return closed


def critical_mean() -> sp.Expr:
    """At mu = (1 - sqrt a)^2 both roots are s = sqrt mu = 1 - sqrt a, and a factor 1 + c t appears."""
    s = sp.symbols("s", positive=True)
    closed = s**t * (1 + (1 - s) * t)
    assert closed.subs(t, 0) == 1
    assert sp.expand(closed.subs(t, 1) - (1 - (1 - s) ** 2)) == 0
    assert sp.expand(2 * s - (1 + s**2 - (1 - s) ** 2)) == 0
    recursion = closed.subs(t, t + 2) - 2 * s * closed.subs(t, t + 1) + s**2 * closed
    assert sp.simplify(sp.expand(recursion / s**t)) == 0
    return closed.subs(s, 1 - sp.sqrt(a))


def slow_root() -> sp.Expr:
    """z+ for small a: as plain SGD with the learning rate eta / (1 - mu), and a bit faster."""
    largest = (1 + mu - a + sp.sqrt((1 + mu - a) ** 2 - 4 * mu)) / 2
    series = sp.series(largest.subs(mu, sp.Rational(9, 10)), a, 0, 3).removeO()
    expected = 1 - a / (1 - mu) - mu * a**2 / (1 - mu) ** 3
    assert sp.expand(series - expected.subs(mu, sp.Rational(9, 10))) == 0
    m = sp.symbols("m", positive=True)
    general = sp.series(largest.subs(mu, 1 - m), a, 0, 3).removeO()
    assert sp.simplify(general - expected.subs(mu, 1 - m)) == 0
    return expected


def stationary_covariance() -> sp.Matrix:
    """The fixed point of Cov = M Cov M' + sigma^2 q q'."""
    matrix, intake = transition()
    v, c, w = sp.symbols("v c w")
    covariance = sp.Matrix([[v, c], [c, w]])
    fixed_point = matrix * covariance * matrix.T + sigma**2 * intake * intake.T - covariance
    solution = sp.solve(
        [fixed_point[0, 0], fixed_point[0, 1], fixed_point[1, 1]], [v, c, w], dict=True
    )[0]
    bracket = (1 - mu) * (2 * (1 + mu) - eta * lam)
    closed = {
        v: eta * sigma**2 * (1 + mu) / (lam * bracket),
        c: -eta * sigma**2 / bracket,
        w: 2 * sigma**2 / bracket,
    }
    assert all(sp.simplify(solution[symbol] - closed[symbol]) == 0 for symbol in closed)
    return covariance.subs(closed)


def difference(shipped: object, reference: mpmath.mpf) -> float:
    """Relative difference of a shipped number from its reference."""
    return float(abs(mpmath.mpf(float(shipped)) / reference - 1))  # type: ignore[arg-type]


def agree_with_shipped() -> dict[str, tuple[float, int]]:
    """Greatest relative difference of each shipped function at 50 digits, and the number of points."""
    cases = [(0.1, 0.9, 0.01), (0.5, 0.0, 0.3), (0.1, 0.5, 0.5), (1e-3, 0.99, 1e-3), (1.0, 0.25, 0.25)]
    errors: dict[str, list[float]] = {"roots": [], "mean": [], "stationary_covariance": []}
    with mpmath.workdps(50):
        for lr, momentum, decay in cases:
            numbers = {"lr": lr, "momentum": momentum, "lam": decay}
            m, x = mpmath.mpf(momentum), mpmath.mpf(lr) * mpmath.mpf(decay)
            root = mpmath.sqrt(((1 - mpmath.sqrt(x)) ** 2 - m) * ((1 + mpmath.sqrt(x)) ** 2 - m))
            high, low = (1 + m - x + root) / 2, (1 + m - x - root) / 2
            shipped_roots = momentum_sgd.roots(**numbers)
            errors["roots"] += [difference(shipped_roots[0], high)]
            errors["roots"] += [difference(shipped_roots[1], low)] if momentum else []
            for steps in (1, 2, 17, 400, 5000):
                if root > 1e-40:
                    share = (1 - x - low) / (high - low)
                    exact = share * high**steps + (1 - share) * low**steps
                else:
                    exact = high**steps * (1 + mpmath.sqrt(x) * steps)
                if exact > 1e-300:
                    errors["mean"].append(difference(momentum_sgd.mean(steps, **numbers), exact))
            values = {eta: lr, mu: momentum, lam: decay, sigma: 1}
            exactly = {symbol: sp.Rational(value) for symbol, value in values.items()}
            reference = stationary_covariance().subs(exactly).evalf(50)
            shipped = momentum_sgd.stationary_covariance(**numbers, sigma=1.0)
            errors["stationary_covariance"] += [
                difference(number, mpmath.mpf(entry))
                for number, entry in zip(shipped.flat, reference, strict=True)
            ]
    assert max(max(found) for found in errors.values()) < 1e-11
    return {name: (max(found), len(found)) for name, found in errors.items()}


def main() -> None:
    """Derive, print, compare."""
    matrix, intake = transition()
    print("x = (theta, b), x' = M x + q xi: M =", matrix.tolist(), " q =", list(intake))
    print("characteristic polynomial:", sp.collect(characteristic_polynomial(), z))
    print("its discriminant:", real_roots())
    print("mean, w[0] = 1:", mean())
    print("at mu = (1 - sqrt a)^2:", critical_mean())
    print("larger root for small a:", slow_root())
    covariance = stationary_covariance()
    print("stationary variance of theta:", covariance[0, 0])
    print("of the buffer:", covariance[1, 1], "  covariance:", covariance[0, 1])
    for name, (error, points) in agree_with_shipped().items():
        print(
            f"regdyn.theorems.momentum_sgd.{name}: "
            f"greatest relative difference at 50 digits over {points} points: {error:.0e}"
        )
    print("regdyn.theorems.momentum_sgd agrees")


if __name__ == "__main__":
    main()
