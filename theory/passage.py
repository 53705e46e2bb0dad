"""First passage below the threshold, rule by rule: from the update rules to the closed forms.

Run it: `python theory/passage.py`.
"""

from collections.abc import Callable

import mpmath
import sympy as sp

from regdyn.optimizers import SGD, Adam, decay_placement
from regdyn.theorems import closure, passage

mpmath.mp.dps = 50

eta, lam, sigma, theta, theta0, end, y, t, s0, s, delta, a, b = sp.symbols(
    "eta lambda sigma theta theta0 theta_end y t s0 s delta A B", positive=True
)


def linear_decays() -> None:
    """SGD, Adadelta with small gradients, and both weight decays multiply the mean by a constant."""
    after, _ = SGD().step(theta, lam * theta, (sp.S.Zero,), (sp.S.Zero, 1, sp.S.Zero, 1, eta))
    assert sp.simplify(after / theta - (1 - eta * lam)) == 0
    g, v, u, eps = lam * theta, sp.Symbol("v", nonnegative=True), sp.Symbol("u", nonnegative=True), y
    size = eta * sp.sqrt((u + eps) / (v + eps)) * g
    assert sp.limit(sp.limit(size, v, 0), u, 0) == eta * lam * theta
    # Without memory both averages obey v = g^2, u = (u + eps)/(v + eps) g^2, so u = v at any size.
    solution = sp.solve(sp.Eq(u, (u + eps) / (g**2 + eps) * g**2), u)
    assert [sp.simplify(x - g**2) for x in solution] == [0]
    assert sp.nsimplify(decay_placement("decoupled", lam, eta, 1)[1]) == 1 - eta * lam
    assert sp.nsimplify(decay_placement("paper", lam, eta, 1)[2]) == 1 - lam
    print("SGD, Adadelta: rate eta lambda; decoupled: eta lambda; mehta2019's: lambda")
    print("t = ln(theta0/theta_end) / -ln(1 - rate)")


def momentum() -> None:
    """w[t] = c+ z+^t + (1 - c+) z-^t solves w[t+1] = (1 + mu - a) w[t] - mu w[t-1], w[-1] = w[0]."""
    z1, z2 = sp.symbols("z1 z2", positive=True)
    rate = 1 + z1 * z2 - z1 - z2  # a, by Vieta: z1 z2 = mu and z1 + z2 = 1 + mu - a
    c = (1 - rate - z2) / (z1 - z2)

    def w(n: int) -> sp.Expr:
        return c * z1**n + (1 - c) * z2**n

    for n in (0, 1, 5):
        assert sp.simplify(w(n + 1) - (z1 + z2) * w(n) + z1 * z2 * w(n - 1)) == 0
    assert sp.simplify(w(0) - 1) == 0
    assert sp.simplify(w(-1) - 1) == 0
    print("momentum: c+ = (1 - a - z-)/(z+ - z-), t = (ln(theta0/theta_end) + ln c+) / -ln z+")


def adaptive_without_memory() -> sp.Expr:
    """theta' = -eta lambda theta/sqrt(sigma^2 + lambda^2 theta^2) takes sigma/(eta lambda) F(y)."""
    form = sp.sqrt(1 + y**2) + sp.log(y / (1 + sp.sqrt(1 + y**2)))
    # dt = -dtheta / speed with theta = sigma y / lambda.
    assert sp.simplify(sp.diff(form, y) - sp.sqrt(1 + y**2) / y) == 0
    assert sp.simplify(form - (sp.sqrt(1 + y**2) - sp.asinh(1 / y)).rewrite(sp.log)) == 0
    print("Adam, RMSProp: F(y) =", form)
    return form


def delay() -> sp.Expr:
    """What the fall of v = B + (A - B) e^(-delta t) costs: the integral of 1 - sqrt(B/v)."""
    r = sp.Symbol("r", positive=True)  # sqrt(v/B), with t = (1/delta) ln((A/B - 1)/(r^2 - 1))
    integrand = sp.simplify((1 - 1 / r) * 2 * r / (delta * (r**2 - 1)))
    assert sp.simplify(integrand - 2 / (delta * (r + 1))) == 0
    closed = sp.integrate(integrand, (r, 1, sp.sqrt(a / b)))
    assert sp.simplify(closed - 2 / delta * sp.log((1 + sp.sqrt(a / b)) / 2)) == 0
    print("delay of the burn-in:", 2 / delta * sp.log((1 + sp.sqrt(a / b)) / 2))
    return 2 / delta * sp.log((1 + sp.sqrt(a / b)) / 2)


def adagrad() -> sp.Expr:
    """theta' = -eta lambda theta/s and (s^2)' = lambda^2 theta^2; then the noise alone in s."""
    # The slope ds/dtheta (lambda^2 theta^2 / (2 s)) / (-eta lambda theta / s) has no s.
    slope = sp.simplify((lam**2 * theta**2 / (2 * s)) / (-eta * lam * theta / s))
    sum_ = s0 + sp.integrate(slope.subs(theta, y), (y, theta0, theta))
    time = sp.integrate(sp.expand(sum_ / (eta * lam * theta)), (theta, end, theta0))
    closed = ((theta0**2 + 4 * eta * s0 / lam) * sp.log(theta0**2 / end**2) - (theta0**2 - end**2)) / (
        8 * eta**2
    )
    assert sp.simplify(sp.expand_log(time - closed, force=True)) == 0
    print("Adagrad, decay in the sum: 8 eta^2 t =")
    print("  ", 8 * eta**2 * closed)
    # ln(theta0/theta) = eta lambda int dt / sqrt(s0^2 + sigma^2 t).
    far = sp.Symbol("L", positive=True)
    noisy = s0 * far / (eta * lam) + (sigma * far / (2 * eta * lam)) ** 2
    fallen = eta * lam * sp.integrate(1 / sp.sqrt(s0**2 + sigma**2 * t), (t, 0, y)).subs(y, noisy)
    numbers = {x: sp.Rational(1, n) for x, n in ((eta, 100), (lam, 1000), (sigma, 10**4), (s0, 50))}
    assert abs(sp.N((fallen - far).subs(numbers).subs(far, 7), 40)) < 1e-35
    print("Adagrad, noise in the sum: t =", noisy)
    # The first noisy steps: sum of eta lambda / (E sqrt(t)) over N steps is 2 eta lambda sqrt(N)/E.
    assert sp.integrate(1 / sp.sqrt(t), (t, 0, y)) == 2 * sp.sqrt(y)
    return closed


def falling_maximum() -> sp.Expr:
    """AdaMax: u = u1 e^(-delta t), so ln(theta0/theta) = (eta lambda/(delta u1)) (e^(delta t) - 1)."""
    u1, far = sp.symbols("u1 L", positive=True)
    fallen = sp.integrate(eta * lam / u1 * sp.exp(delta * y), (y, 0, t))
    closed = sp.log(1 + delta * u1 * far / (eta * lam)) / delta
    assert sp.simplify(fallen.subs(t, closed) - far) == 0
    # The largest of N: P(max |z| <= x) = (2 Phi(x) - 1)^N = 1/2.
    print("AdaMax: t =", closed, "from u1 = sigma1 Phi^-1((1 + 2^(-1/N))/2)")
    return closed


def reflection() -> None:
    """Half have reached 0 where P(theta_t < 0) = 1/4: the mean is Phi^-1(3/4) stds away."""
    level = mpmath.sqrt(2) * mpmath.erfinv(mpmath.mpf(1) / 2)
    assert abs(level - closure.MEDIAN) < 1e-15
    milne = -mpmath.zeta(mpmath.mpf(1) / 2)
    assert abs(milne / mpmath.sqrt(2 * mpmath.pi) - 0.5826) < 1e-4
    assert abs(milne - 1.4603) < 1e-4
    print("barrier at 0:", mpmath.nstr(level, 10), "stds; -zeta(1/2) =", mpmath.nstr(milne, 8))


def greatest_difference(
    name: str,
    shipped: Callable[..., object],
    exact: Callable[..., object],
    points: list[tuple[float, ...]],
) -> None:
    """Compare a shipped function with its value at 50 digits."""
    worst = max(abs(float(shipped(*p)) / float(exact(*map(mpmath.mpf, p))) - 1) for p in points)
    print(f"regdyn.theorems.passage.{name}: greatest relative difference at 50 digits over", end=" ")
    print(f"{len(points)} points: {worst:.0e}")
    assert worst < 1e-12, name


def agrees_with_shipped() -> None:
    """The shipped functions against integrals and recursions at 50 digits."""
    f = sp.lambdify(y, adaptive_without_memory(), "mpmath")
    points = [(10.0**k,) for k in range(-6, 7)]
    greatest_difference("slowed_time", lambda x: passage.slowed_time(x), f, points)

    greatest_difference(
        "memory_delay",
        lambda b2, early, late: passage.memory_delay(beta2=b2, early=early, late=late),
        lambda b2, early, late: mpmath.quad(
            lambda x: (
                1 - 1 / mpmath.sqrt(1 + ((early / late) ** 2 - 1) * mpmath.exp(x * mpmath.log(b2)))
            ),
            [0, 100, 1000, 10**4, 10**5],
        ),
        [(0.99, 1e-3, 1e-5), (0.9, 2.0, 1.0), (0.999, 1e-3, 1e-4)],
    )

    def recursion(mu: mpmath.mpf, rate: mpmath.mpf) -> mpmath.mpf:
        last = now = mpmath.mpf(1)
        for n in range(2000):
            if n == 1000:
                early = now
            last, now = now, (1 + mu - rate) * now - mu * last
        return (now / early) ** (mpmath.mpf(1) / 1000)

    greatest_difference(
        "momentum_roots",
        lambda mu, rate: passage.momentum_roots(lr=1.0, momentum=mu, lam=rate)[0],
        recursion,
        [(0.9, 1e-3), (0.5, 1e-2), (0.9, 1e-5)],
    )

    def adagrad_time(lr: mpmath.mpf, l2: mpmath.mpf, noise: mpmath.mpf) -> mpmath.mpf:
        n = mpmath.mpf(100)
        root = mpmath.sqrt(n) * mpmath.sqrt(noise**2 + l2**2)
        start = mpmath.exp(-2 * n * lr * l2 / root)

        def slowness(x: mpmath.mpf) -> mpmath.mpf:
            return (root + l2 * (start**2 - x**2) / (4 * lr)) / (lr * l2 * x)

        return n + mpmath.quad(slowness, [mpmath.mpf(1) / 1000, 0.01, 0.1, start])

    greatest_difference(
        "adagrad",
        lambda lr, l2, noise: passage.adagrad(lr=lr, lam=l2, burn_in_sigma=noise, burn_in_steps=100),
        adagrad_time,
        [(0.01, 1e-4, 1e-3), (0.01, 1e-3, 1e-3), (0.1, 1e-2, 1e-2)],
    )

    def largest(b2: mpmath.mpf) -> mpmath.mpf:
        """Bisection for the median of max b2^k |z|, from the sum itself."""
        low, high = mpmath.mpf(1), mpmath.mpf(5)
        for _ in range(30):
            x = (low + high) / 2
            terms = int(mpmath.log(9 / x) / -mpmath.log(b2)) + 1
            total = sum(mpmath.log(mpmath.erf(x * b2**-k / mpmath.sqrt(2))) for k in range(terms))
            low, high = (x, high) if total < -mpmath.log(2) else (low, x)
        return low

    for b2, limit in ((0.9, 3e-3), (0.99, 1e-3)):
        off = abs(float(passage.largest_gradient(beta2=b2)) / float(largest(mpmath.mpf(b2))) - 1)
        print("regdyn.theorems.passage.largest_gradient: Euler and Maclaurin off by", end=" ")
        print(f"{off:.0e} at beta2 = {b2}")
        assert off < limit


def closure_map() -> None:
    """One step of Adam at a fixed second moment is the linear map that the closure takes powers of."""
    m = sp.Symbol("m", positive=True)
    beta1, xi = sp.symbols("beta1 xi", real=True)
    gain = sp.Symbol("P", positive=True)
    # sqrt(v corrected) = 1 through beta2 = 1, so that `size` is the gain.
    g = lam * theta + xi
    one, zero = sp.Integer(1), sp.Integer(0)
    constants = (beta1, 1 - beta1, one, zero, gain, one, zero, zero)
    new_theta, (new_m, _) = Adam().step(theta, g, (m, 1), constants)
    new = sp.Matrix([new_theta, new_m])
    matrix = new.jacobian([theta, m])
    expected = sp.Matrix([[1 - gain * (1 - beta1) * lam, -gain * beta1], [(1 - beta1) * lam, beta1]])
    assert sp.simplify(matrix - expected) == sp.zeros(2, 2)
    print("closure: (theta, m)' =", expected.tolist(), "(theta, m)")


def delta_method() -> None:
    """E[m / sqrt v] to second order in the fluctuations of m and v."""
    dm, dv, mean, v = sp.symbols("dm dv mu v", positive=True)
    h = sp.Symbol("h")
    series = sp.series(((mean + h * dm) / sp.sqrt(v + h * dv)), h, 0, 3).removeO().coeff(h, 2)
    expected = mean / sp.sqrt(v) * (sp.Rational(3, 8) * dv**2 / v**2 - dm * dv / (2 * mean * v))
    assert sp.simplify(series - expected) == 0
    print("delta method: 1 + 3/8 Var v / (E v)^2 - 1/2 Cov(m, v) / (E m E v)")


def main() -> None:
    """Derive, print, compare."""
    linear_decays()
    momentum()
    delay()
    adagrad()
    falling_maximum()
    reflection()
    closure_map()
    delta_method()
    agrees_with_shipped()
    print("regdyn.theorems.passage agrees")


if __name__ == "__main__":
    main()
