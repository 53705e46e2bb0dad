"""How Adam with L2 alone decays: theorem III.2 of yaguchi2018, and a law of Bessel functions.

Run it: `python theory/adam_decay.py`.
"""

from unittest.mock import patch

import mpmath
import sympy as sp

from regdyn.optimizers import Adam
from regdyn.theorems import adam_decay

beta1, beta2, eta, lam, alpha, delta = sp.symbols("beta1 beta2 eta lambda alpha delta", positive=True)
w, m, V, x, rho, kappa, y = sp.symbols("w m V x rho kappa y", positive=True)
n, t = sp.symbols("n t", integer=True, positive=True)


# --- The bound ------------------------------------------------------------------------------------


def one_step() -> sp.Expr:
    """With m_hat >= g and V' = sqrt(v')/lambda: w' <= w (1 - eta sqrt(1 - beta2^t) / V').

    m_hat is a mean of the gradients lambda w so far; as long as w > 0 falls, none is below the last.
    """
    zero = sp.Integer(0)
    constants = (
        beta1,
        1 - beta1,
        beta2,
        1 - beta2,
        eta / (1 - beta1**t),
        1 / (1 - beta2**t),
        zero,
        zero,
    )
    with patch("regdyn.optimizers.adam.sqrt", sp.sqrt):
        new, (new_m, new_v) = Adam().step(w, lam * w, (m, (lam * V) ** 2), constants)
    squares = sp.expand(new_v / lam**2)
    assert sp.expand(squares - (beta2 * V**2 + (1 - beta2) * w**2)) == 0
    # Put m_hat = g, which makes the step shortest.
    shortest = sp.solve(new_m / (1 - beta1**t) - lam * w, m)[0]
    step = (w - new).subs(m, shortest)
    assert sp.simplify(step**2 - (eta * w) ** 2 * (1 - beta2**t) / squares) == 0
    return 1 - eta * sp.sqrt(1 - beta2**t) / sp.Symbol("V_t")


def scale_decays() -> sp.Expr:
    """While each step takes a share alpha/sqrt 2 or more, V[tau+n]^2 <= 2 beta2^n V[tau]^2.

    V[tau+n]^2 = beta2^n V^2 + (1 - beta2) sum_{i<n} beta2^(n-1-i) w[tau+i]^2, w[tau+i]^2 <= r^i w^2,
    r = (1 - alpha/sqrt 2)^2, under the theorem's condition. Then the next step, too, takes that share.
    """
    r = sp.Symbol("r", positive=True)
    for length in range(1, 7):
        total = sum(beta2 ** (length - 1 - i) * r**i for i in range(length))
        assert sp.simplify(total - (beta2**length - r**length) / (beta2 - r)) == 0
    # Dropping -r^n leaves an upper bound, for r < beta2.
    factor = V**2 + (1 - beta2) * w**2 / (beta2 - r)
    largest = sp.solve((1 - beta2) * w**2 - V**2 * (beta2 - r), w)[0]
    assert sp.simplify(factor.subs(w, largest) - 2 * V**2) == 0
    return 1 - alpha / sp.sqrt(2) * beta2 ** (-n / 2)


def window() -> sp.Expr:
    """Where a factor of the product turns 0."""
    end = 2 * sp.log(sp.sqrt(2) / alpha) / -sp.log(beta2)
    real = sp.Symbol("n", positive=True)
    factor = 1 - alpha / sp.sqrt(2) * beta2 ** (-real / 2)
    assert sp.simplify(factor.subs(real, end)) == 0
    return end


def doubly_exponential() -> sp.Expr:
    """1 - x <= exp(-x): product <= exp(-(alpha/sqrt 2) (beta2^(-n/2) - 1)/(1 - sqrt beta2))."""
    q = sp.Symbol("q", positive=True)  # beta2^(-1/2)
    for length in range(1, 7):
        total = sum(q**i for i in range(1, length + 1))
        assert sp.simplify(total - (q**length - 1) / (1 - 1 / q)) == 0
    share = sp.Symbol("s", positive=True)
    steps = 2 * sp.log(1 - (1 - sp.sqrt(beta2)) * sp.sqrt(2) / alpha * sp.log(share)) / -sp.log(beta2)
    power = sp.powsimp(sp.exp(-steps / 2 * sp.log(beta2)))
    exponent = alpha / sp.sqrt(2) * (power - 1) / (1 - sp.sqrt(beta2))
    assert sp.simplify(exponent + sp.log(share)) == 0
    return steps


# --- The law --------------------------------------------------------------------------------------


def riccati() -> sp.Expr:
    """For small steps (ln w)' = -eta/V and (V^2)' = -2 delta (V^2 - w^2), in x and rho."""
    small = sp.Symbol("h", positive=True)
    decay = sp.exp(-2 * delta * small)  # beta2 over a time h
    rate = sp.limit((decay * V**2 + (1 - decay) * w**2 - V**2) / small, small, 0)
    assert sp.expand(rate + 2 * delta * (V**2 - w**2)) == 0
    ln_w, ln_v = -eta / V, rate / (2 * V**2)
    x_rate = (delta * w / eta * ln_w).subs(w, rho * V)
    assert sp.simplify(x_rate + delta * rho) == 0
    rho_rate = (rho * (ln_w - ln_v)).subs(w, rho * V).subs(V, eta * x / (delta * rho))
    slope = sp.expand(sp.simplify(rho_rate / x_rate))
    assert sp.simplify(slope - (rho**2 + rho / x - 1)) == 0
    return slope


def bessel() -> sp.Expr:
    """rho = -u'/u, u'' - u'/x - u = 0, solved by x K1 and x I1; the time from d ln F/dx = -1/rho."""
    for u in (x * sp.besselk(1, x), x * sp.besseli(1, x)):
        equation = sp.diff(u, x, 2) - sp.diff(u, x) / x - u
        assert equal_to_zero(equation)
    u = x * (sp.besselk(1, x) + kappa * sp.besseli(1, x))
    growth = sp.besselk(0, x) - kappa * sp.besseli(0, x)
    ratio = growth / (sp.besselk(1, x) + kappa * sp.besseli(1, x))
    assert equal_to_zero(ratio + sp.diff(u, x) / u)
    assert equal_to_zero(sp.diff(ratio, x) - (ratio**2 + ratio / x - 1))
    assert equal_to_zero(sp.diff(sp.log(growth), x) + 1 / ratio)
    start = (sp.besselk(0, x) - rho * sp.besselk(1, x)) / (sp.besseli(0, x) + rho * sp.besseli(1, x))
    assert equal_to_zero(ratio.subs(kappa, start) - rho)
    # By the Wronskian K0 I1 + K1 I0 = 1/x the start needs no difference.
    shipped = rho / (x * (sp.besseli(0, x) + rho * sp.besseli(1, x)))
    assert equal_to_zero(growth.subs(kappa, start) - shipped)
    return growth


def equal_to_zero(expression: sp.Expr) -> bool:
    """Whether an expression in Bessel functions vanishes, at points with 50 digits."""
    function = sp.lambdify((x, kappa, rho), expression, "mpmath")
    with mpmath.workdps(50):
        points = [[mpmath.mpf(number) for number in p] for p in ((0.15, -0.6, 1.2), (2.25, 0.1, 0.5))]
        return all(abs(function(*point)) < mpmath.mpf(10) ** -45 for point in points)


def error_of_the_law() -> sp.Expr:
    """A step at constant V, momentum included: the law keeps the first term in y = eta/V."""
    ln_step = -y - (1 + beta1) / (2 * (1 - beta1)) * y**2
    z = sp.series(sp.exp(ln_step), y, 0, 3).removeO()
    # The recursion of momentum SGD with the learning rate (1 - beta1) y.
    polynomial = sp.expand(z**2 - (1 + beta1 - y * (1 - beta1)) * z + beta1)
    assert all(sp.simplify(polynomial.coeff(y, power)) == 0 for power in (0, 1, 2))
    return ln_step


# --- The shipped functions ------------------------------------------------------------------------


def agree_with_shipped() -> dict[str, tuple[float, int]]:
    """Greatest relative difference of each shipped function at 50 digits, and the number of points."""
    names = ("decay_bound", "doubly_exponential_steps", "decay_time", "log_decay", "relative_step")
    errors: dict[str, list[float]] = {name: [] for name in names}

    def note(name: str, shipped: object, exact: mpmath.mpf) -> None:
        errors[name].append(float(abs(mpmath.mpf(float(shipped)) / exact - 1)))  # type: ignore[arg-type]

    with mpmath.workdps(50):
        for step, second in [(0.3, 0.9), (0.008, 0.99), (0.001, 0.999)]:
            a, b2 = mpmath.mpf(step) / mpmath.sqrt(2), mpmath.mpf(second)
            for count in (1, 7, 15):
                exact = mpmath.fprod(1 - a * b2 ** (-mpmath.mpf(i) / 2) for i in range(1, count + 1))
                note("decay_bound", adam_decay.decay_bound(count, alpha=step, beta2=second), exact)
            for share in (0.5, 1e-10):
                rate = (1 - mpmath.sqrt(b2)) / a
                exact = 2 * mpmath.log(1 - rate * mpmath.log(share)) / -mpmath.log(b2)
                shipped = adam_decay.doubly_exponential_steps(share, alpha=step, beta2=second)
                note("doubly_exponential_steps", shipped, exact)
        for second, start, scale in [(0.99, 300.0, 280.0), (0.9, 0.5, 5.0), (0.999, 1e5, 0.0)]:
            d = -mpmath.log(mpmath.mpf(second)) / 2
            x0 = d * start
            inverse = mpmath.mpf(scale) / start
            k = (inverse * mpmath.besselk(0, x0) - mpmath.besselk(1, x0)) / (
                inverse * mpmath.besseli(0, x0) + mpmath.besseli(1, x0)
            )
            begin = mpmath.besselk(0, x0) - k * mpmath.besseli(0, x0)
            for share in (0.5, 1e-2, 1e-30):
                z = x0 * mpmath.mpf(share)
                above = mpmath.besselk(0, z) - k * mpmath.besseli(0, z)
                below = mpmath.besselk(1, z) + k * mpmath.besseli(1, z)
                time = mpmath.log(above / begin) / d
                state = dict(lr=1.0, beta2=second, theta0=start, scale0=scale)
                note("decay_time", adam_decay.decay_time(share * start, **state), time)
                note("log_decay", adam_decay.log_decay(float(time), **state), mpmath.log(share))
                shipped = adam_decay.relative_step(float(time), **state)
                note("relative_step", shipped, d * above / (z * below))
    # A time rounded to double precision moves ln w by its slope.
    assert max(max(found) for found in errors.values()) < 1e-9
    return {name: (max(found), len(found)) for name, found in errors.items()}


def main() -> None:
    """Derive, print, compare."""
    print("w[t+1] / w[t] <=", one_step())
    print("factor n after tau:", scale_decays(), " it is 0 at n* =", window())
    print("steps for a share s of w[tau], without the window:", doubly_exponential())
    print("d rho / d x =", riccati(), " with x = delta w/eta, rho = w/V, delta = -ln(beta2)/2")
    print("F(x) =", bessel(), " grows as exp(delta t)")
    print("ln(w[t+1]/w[t]) with y = eta/V:", error_of_the_law(), "+ O(y^3)")
    for name, (error, points) in agree_with_shipped().items():
        print(
            f"regdyn.theorems.adam_decay.{name}: "
            f"greatest relative difference at 50 digits over {points} points: {error:.0e}"
        )
    print("regdyn.theorems.adam_decay agrees")


if __name__ == "__main__":
    main()
