"""SGD with momentum and L2 under Gaussian noise, from the update rule to its stationary variance.

Run it: `python theory/momentum_sgd.py`.
"""

import mpmath
import sympy as sp

from regdyn.optimizers import SGD
from regdyn.theorems import momentum_sgd

eta, lam, sigma = sp.symbols("eta lambda sigma", positive=True)
mu = sp.symbols("mu", nonnegative=True)
theta, buffer, xi = sp.symbols("theta b xi", real=True)


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
    z, a = sp.symbols("z a")
    polynomial = matrix.charpoly(z).as_expr().subs(lam, a / eta)
    assert sp.expand(polynomial - (z**2 - (1 + mu - a) * z + mu)) == 0
    return polynomial


def stationary_variance() -> sp.Expr:
    """The fixed point of Cov = M Cov M' + sigma^2 q q', solved for the variance of theta."""
    matrix, intake = transition()
    v, c, w = sp.symbols("v c w")
    covariance = sp.Matrix([[v, c], [c, w]])
    fixed_point = matrix * covariance * matrix.T + sigma**2 * intake * intake.T - covariance
    solution = sp.solve(
        [fixed_point[0, 0], fixed_point[0, 1], fixed_point[1, 1]], [v, c, w], dict=True
    )[0]
    closed = eta * sigma**2 * (1 + mu) / (lam * (1 - mu) * (2 * (1 + mu) - eta * lam))
    assert sp.simplify(solution[v] - closed) == 0
    return closed


def agrees_with_shipped() -> None:
    """The shipped functions equal the symbols at 50 digits, to double precision."""
    matrix, intake = transition()
    numbers = {eta: sp.Rational(1, 10), mu: sp.Rational(9, 10), lam: sp.Rational(3, 100)}
    shipped_matrix, shipped_intake = momentum_sgd.transition_matrix(lr=0.1, momentum=0.9, lam=0.03)
    assert all(
        abs(float(entry.subs(numbers)) - value) < 1e-15
        for entry, value in zip(
            [*matrix, *intake], [*shipped_matrix.flat, *shipped_intake], strict=True
        )
    )
    with mpmath.workdps(50):
        exact = stationary_variance().subs(numbers | {sigma: sp.Rational(1, 1000)}).evalf(50)
    shipped = momentum_sgd.stationary_variance(lr=0.1, momentum=0.9, lam=0.03, sigma=1e-3)
    assert abs(shipped / float(exact) - 1) < 1e-14


def main() -> None:
    """Derive, print, compare."""
    matrix, intake = transition()
    print("M =", matrix.tolist(), " q =", list(intake))
    print("characteristic polynomial:", sp.collect(characteristic_polynomial(), sp.Symbol("z")))
    print("stationary variance:", stationary_variance())
    agrees_with_shipped()
    print("regdyn.theorems.momentum_sgd agrees")


if __name__ == "__main__":
    main()
