"""The stationary spread of one weight under noise and decay, from the update rules.

Run it: `python theory/stationary.py`.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import mpmath
import sympy as sp

from regdyn.optimizers import SGD, Adam
from regdyn.theorems import stationary

eta, lam, sigma, V = sp.symbols("eta lambda sigma V", positive=True)
mu, beta1, beta2, rho, d = sp.symbols("mu beta1 beta2 rho d", positive=True)
e, e_root = sp.symbols("e e_root", nonnegative=True)
theta, m, xi, z = sp.symbols("theta m xi z", real=True)


def adam_step(theta: Any, g: Any, state: Any, c: Any) -> Any:
    """Adam's shipped step with SymPy's root for that of `math`."""
    namespace = {**Adam.step.__globals__, "sqrt": sp.sqrt}
    step = FunctionType(Adam.step.__code__, namespace)
    return step(Adam(), theta, g, state, c)


def fixed_variance(new: sp.Matrix, state: sp.Matrix, std: sp.Expr) -> sp.Expr:
    """Variance of the first entry where Cov = M Cov M' + std^2 q q', for the linear step `new`."""
    matrix, intake = new.jacobian(state), new.jacobian([xi])
    v, c, w = sp.symbols("v c w")
    covariance = sp.Matrix([[v, c], [c, w]])
    change = matrix * covariance * matrix.T + std**2 * intake * intake.T - covariance
    return sp.solve([change[0, 0], change[0, 1], change[1, 1]], [v, c, w], dict=True)[0][v]


def sgd_variance(nesterov: bool, l2: sp.Expr, before: sp.Expr) -> sp.Expr:
    """SGD's, from the shipped step: L2 of strength l2, theta times `before` ahead of the update."""
    ahead, along = (1, mu) if nesterov else (0, 1)
    g = l2 * theta + xi
    new, (buffer,) = SGD().step(before * theta, g, (m,), (mu, sp.Integer(1), ahead, along, eta))
    return fixed_variance(sp.Matrix([new, buffer]), sp.Matrix([theta, m]), sigma)


def frozen_adam_variance(l2: sp.Expr, before: sp.Expr) -> sp.Expr:
    """Adam's where the second moment has averaged to V: beta2 = 1, eps = 0."""
    constants = (beta1, 1 - beta1, 1, 0, eta, 1, 0, 0)
    new, (moment, v) = adam_step(before * theta, l2 * theta + xi, (m, V), constants)
    assert v == V
    return fixed_variance(sp.Matrix([new, moment]), sp.Matrix([theta, m]), sigma)


def sgd_laws() -> None:
    """The four closed forms of `sgd_std`."""
    a, r = eta * lam, 1 - rho
    heavy = (1 + mu) / (a * (1 - mu) * (2 * (1 + mu) - a))
    ahead = (1 + mu + a * mu * (1 + 2 * mu)) / (
        a * (1 - mu + a * mu) * (2 * (1 + mu) - a * (1 + 2 * mu))
    )
    walk = (1 - mu**2) * (1 - rho**2) * (1 - rho * mu)
    heavy_walk = (1 + rho * mu) / walk
    ahead_walk = (1 + mu * (1 + r) - 2 * mu**3 * r) / walk
    for (nesterov, l2, before), closed in (
        ((False, lam, 1), heavy),
        ((True, lam, 1), ahead),
        ((False, 0, rho), heavy_walk),
        ((True, 0, rho), ahead_walk),
    ):
        assert sp.simplify(sgd_variance(nesterov, l2, before) / (eta * sigma) ** 2 - closed) == 0
    print("SGD, L2:         Var / (eta sigma)^2 =", heavy)
    print("SGD, decoupled:  Var / (eta sigma)^2 =", heavy_walk)


def closure() -> None:
    """V = sigma^2 (1 + q) with q = lambda^2 Var / sigma^2 closes the law of Adam with L2."""
    a = sp.Symbol("a", positive=True)
    law = a * (1 + beta1) / (2 * (1 + beta1) - (1 - beta1) * a)
    variance = frozen_adam_variance(lam, sp.Integer(1))
    # eta = a sqrt(V) / lambda says what a is: the mean step is -a theta.
    assert sp.simplify((lam / sigma) ** 2 * variance.subs(eta, a * sp.sqrt(V) / lam) - law) == 0
    print("Adam, L2:  q =", law, " with  a sqrt(1 + q) = eta lambda / sigma")

    # Strong noise: a -> R, so that q -> R / 2 and Var -> eta sigma / (2 lambda).
    assert sp.simplify(sp.cancel(law / a).subs(a, 0) - sp.Rational(1, 2)) == 0
    # No noise: q -> oo, where a is at its pole and the amplitude is sqrt(q) sigma / lambda = eta / a.
    (pole,) = sp.solve(1 / law, a)
    amplitude = eta * (1 - beta1) / (2 * (1 + beta1))
    assert sp.simplify(eta / pole - amplitude) == 0
    print("           sigma -> oo: eta sigma / (2 lambda);  sigma -> 0: 2-cycle", amplitude)

    # On the cycle v is the square of the gradient and m alternates: one step turns theta over.
    constants = (beta1, 1 - beta1, 1, 0, eta, 1, 0, 0)
    size = sp.Symbol("A", positive=True)
    g = lam * size
    moment = -(1 - beta1) / (1 + beta1) * g
    new, (turned, _) = adam_step(size, g, (moment, g**2), constants)
    assert sp.simplify(turned + moment) == 0
    assert sp.simplify((new + size).subs(size, amplitude)) == 0


def expansion() -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """f(w) = 1 / (sqrt(1 + w + e_root) + e): f(0), then h and c of f / f(0) = 1 - h w/2 + c w^2/2."""
    w = sp.Symbol("w")
    f = 1 / (sp.sqrt(1 + w + e_root) + e)
    f0, f1, f2 = (sp.diff(f, w, k).subs(w, 0) for k in range(3))
    s = sp.sqrt(1 + e_root)
    h, c = 1 / (s * (s + e)), (3 * s + e) / (4 * s**3 * (s + e) ** 2)
    assert sp.simplify(f1 / f0 + h / 2) == 0 and sp.simplify(f2 / f0 - c) == 0
    return f0, h, c


def normal_mean(expr: sp.Expr) -> sp.Expr:
    """Of an even function of the standard normal z."""
    return sp.integrate(2 * expr * sp.exp(-(z**2) / 2) / sp.sqrt(2 * sp.pi), (z, 0, sp.oo))


def geometric(x: sp.Expr) -> sp.Expr:
    """Sum of x^j over j >= 0."""
    return 1 / (1 - x)


def lags(x: sp.Expr) -> sp.Expr:
    """Sum of x^|k| over all k."""
    return (1 + x) / (1 - x)


def fluctuations() -> tuple[sp.Expr, sp.Expr, sp.Expr]:
    """Drift, mean square step and variance with v = 1 + w, to first order in d = 1 - beta2.

    Of the gradient j steps ago m holds (1 - beta1) beta1^j, and w holds d beta2^j times z^2 - 1.
    """
    f0, h, c = expansion()
    square, shared = normal_mean((z**2 - 1) ** 2), normal_mean(z**2 * (z**2 - 1))
    var_w = square * d**2 * geometric(beta2**2)

    # A mean shifts m by itself, and v by twice its product with the average of z.
    drift = f0 * (1 + c * var_w / 2 - h * (1 - beta1) * d * geometric(beta1 * beta2))

    # E z_j^2 f(w_0) f(w_k) / f0^2 with B = beta2^j, K = beta2^k: w_0 holds d B, w_k holds d B K of z_j.
    B, K = sp.symbols("B K")
    term = 1 - h / 2 * shared * d * (B + B * K) + c * var_w + h**2 / 4 * var_w * K
    term = sp.Poly(term, B)
    moment = (1 - beta1) ** 2 * (
        term.coeff_monomial(1) * geometric(beta1**2)
        + term.coeff_monomial(B) * geometric(beta1**2 * beta2)
    )
    step = f0**2 * moment.subs(K, 1)

    # The autocovariance of the steps is beta1^k moment; theta sums them with weights rho^k.
    moment = sp.Poly(moment, K)
    variance = f0**2 / (1 - rho**2) * (
        lags(rho * beta1) * moment.coeff_monomial(1)
        + lags(rho * beta1 * beta2) * moment.coeff_monomial(K)
    )  # fmt: skip

    plain = {e: 0, e_root: 0, beta2: 1 - d}
    for name, expr in (("E step / eta g ", drift), ("E step^2 / eta^2", step)):
        print(f"Adam:  {name} =", sp.series(expr.subs(plain).subs(beta1, 0), d, 0, 2), " (beta1 = 0)")
    frozen = frozen_adam_variance(sp.Integer(0), rho).subs(V, sigma**2) / eta**2
    assert sp.simplify(variance.subs(d, 0).subs({e: 0, e_root: 0}) - frozen) == 0
    print("AdamW: Var / eta^2 =", sp.factor(frozen), " for beta2 -> 1")
    return drift, step, variance


def adadelta() -> sp.Expr:
    """u = E delta^2 with delta^2 = (u + eps) z^2 / (v + eps), to first order in d = 1 - rho."""
    u, eps, h = sp.symbols("u eps h", positive=True)
    # h = sigma^2 / (sigma^2 + eps); 1 / (v + eps) falls by h w, and w holds d z^2 of the newest z.
    # The variance of w, which raises the mean of 1 / (v + eps), cancels against Cov(u, w).
    (solution,) = sp.solve(u - (u + eps) * h * (1 - 2 * d * h), u)
    c = h * (1 - 2 * d * h)
    assert sp.simplify(solution - eps * c / (1 - c)) == 0
    small = solution.subs({h: sigma**2 / (sigma**2 + eps), d: 0})
    assert sp.simplify(small - sigma**2) == 0
    print("Adadelta:  E delta^2 = eps c / (1 - c), c =", c, " -> sigma^2 for d -> 0")
    return sp.sqrt(solution.subs(h, sigma**2 / (sigma**2 + eps))) / sigma


def greatest_difference(
    name: str,
    shipped: Callable[..., Any],
    exact: Callable[..., Any],
    points: list[dict[str, float]],
    tolerance: float = 1e-13,
) -> None:
    """Print and bound the relative difference of a shipped function from 50 digits."""
    worst = 0.0
    with mpmath.workdps(50):
        for point in points:
            reference = exact(**{key: mpmath.mpf(value) for key, value in point.items()})
            worst = max(worst, float(abs(mpmath.mpf(float(shipped(**point))) / reference - 1)))
    print(
        f"regdyn.theorems.stationary.{name}: "
        f"greatest relative difference at 50 digits over {len(points)} points: {worst:.0e}"
    )
    assert worst < tolerance


def adam_l2_reference(lr: Any, lam: Any, sigma: Any, beta1: Any, eps: Any) -> Any:
    """The closure solved by bisection in ln a."""
    ratio, floor = lr * lam / sigma, eps / sigma
    pole = 2 * (1 + beta1) / (1 - beta1)

    def q(p: Any) -> Any:
        a = pole * p / (1 + p)
        return (1 + beta1) * a / (2 * (1 + beta1) - (1 - beta1) * a)

    def excess(x: Any) -> Any:
        p = mpmath.exp(x)
        return mpmath.log(pole * p / (1 + p) * (mpmath.sqrt(1 + q(p)) + floor) / ratio)

    root = mpmath.findroot(excess, (-60, 60), solver="anderson", tol=mpmath.mpf(10) ** -80)
    return mpmath.sqrt(q(mpmath.exp(root))) * sigma / lam


def adamax_reference(beta2: Any) -> tuple[Any, Any]:
    """D and S with the product of all factors instead of its sum by Euler and Maclaurin."""

    def density(x: Any, power: int) -> Any:
        e = mpmath.erf(x / mpmath.sqrt(2))
        product, factor, j = e, e, 1
        while factor < 1 - mpmath.mpf(10) ** -20:
            factor = mpmath.erf(x * beta2**-j / mpmath.sqrt(2))
            product, j = product * factor, j + 1
        newest = 2 * mpmath.npdf(x) / e
        return product * (1 - x * newest) * power / x ** (power + 1)

    edges = [0.5, 1.5, 2.5, 3.5, 5, 10, mpmath.inf]
    with mpmath.workdps(20):
        return tuple(mpmath.quad(lambda x, k=k: density(x, k), edges, maxdegree=4) for k in (1, 2))


def agrees_with_shipped(
    drift: sp.Expr, step: sp.Expr, variance: sp.Expr, adadelta_size: sp.Expr
) -> None:
    """The shipped functions equal what was derived."""
    betas = [(0.0, 0.9), (0.0, 0.999), (0.5, 0.98), (0.9, 0.99), (0.9, 0.9999)]
    points = [
        {"lr": 1e-3, "lam": lam_, "sigma": sigma_, "beta1": b1, "eps": eps}
        for lam_ in (1e-9, 1e-4, 1e-2) for sigma_ in (1e-8, 1e-5, 1.0)
        for b1, _ in betas[:4] for eps in (0.0, 1e-8)
    ]  # fmt: skip
    greatest_difference("adam_l2_std", stationary.adam_l2_std, adam_l2_reference, points)

    def compiled(expr: sp.Expr) -> Callable[..., Any]:
        names = [beta1, beta2, rho, e, e_root]
        return sp.lambdify(names, expr.subs(d, 1 - beta2), "mpmath")

    drift_at, step_at, variance_at = compiled(drift), compiled(step), compiled(variance)
    points = [
        {"beta1": b1, "beta2": b2, "eps_ratio": x, "eps_root_ratio": y}
        for b1, b2 in betas for x, y in ((0.0, 0.0), (1e-3, 0.0), (1.0, 0.5))
    ]  # fmt: skip
    greatest_difference(
        "drift_factor",
        stationary.drift_factor,
        lambda beta1, beta2, eps_ratio, eps_root_ratio: drift_at(
            beta1, beta2, 0, eps_ratio, eps_root_ratio
        ),
        points,
    )
    scaled = [
        {"lr": 1e-3, "beta1": p["beta1"], "beta2": p["beta2"], "sigma": 2.0**-10,
         "eps": p["eps_ratio"] * 2.0**-10, "eps_root": p["eps_root_ratio"] * 2.0**-20}
        for p in points
    ]  # fmt: skip
    greatest_difference(
        "step_rms",
        stationary.step_rms,
        lambda lr, beta1, beta2, sigma, eps, eps_root: (
            lr * mpmath.sqrt(step_at(beta1, beta2, 0, eps / sigma, eps_root / sigma**2))
        ),
        scaled,
    )
    greatest_difference(
        "adamw_std",
        stationary.adamw_std,
        lambda lr, decay, beta1, beta2, sigma, eps, eps_root: (
            lr * mpmath.sqrt(variance_at(beta1, beta2, 1 - decay, eps / sigma, eps_root / sigma**2))
        ),
        [{"decay": decay, **p} for p in scaled for decay in (1e-8, 1e-2, 0.5)],
    )
    sizes = sp.lambdify([sigma, d, sp.Symbol("eps", positive=True)], adadelta_size, "mpmath")
    greatest_difference(
        "adadelta_rate",
        stationary.adadelta_rate,
        lambda sigma, rho, eps: sizes(sigma, 1 - rho, eps),
        [{"sigma": s, "rho": r, "eps": 1e-6} for s in (1e-8, 1e-5, 9e-4) for r in (0.9, 0.99)],
    )
    with mpmath.workdps(20):
        exact = adamax_reference(mpmath.mpf("0.99"))
    shipped = stationary.adamax_factors(beta2=0.99)
    worst = max(abs(float(a / b) - 1) for a, b in zip(shipped, exact, strict=True))
    print(
        f"regdyn.theorems.stationary.adamax_factors: {worst:.0e} from the whole product, beta2 = 0.99"
    )
    assert worst < 1e-4
    for nesterov in (False, True):
        exact_sgd = sp.lambdify(
            [eta, mu, lam, sigma], sgd_variance(nesterov, lam, sp.Integer(1)), "mpmath"
        )
        greatest_difference(
            f"sgd_std{' (Nesterov)' if nesterov else ''}",
            lambda nesterov=nesterov, **p: stationary.sgd_std(nesterov=nesterov, **p),
            lambda lr, momentum, l2, sigma, f=exact_sgd: mpmath.sqrt(f(lr, momentum, l2, sigma)),
            [{"lr": 0.1, "momentum": 0.9, "l2": x, "sigma": 1e-3} for x in (1e-9, 1e-4, 0.03)],
        )


def main() -> None:
    """Derive, print, compare."""
    sgd_laws()
    closure()
    agrees_with_shipped(*fluctuations(), adadelta())
    print("regdyn.theorems.stationary agrees")


if __name__ == "__main__":
    main()
