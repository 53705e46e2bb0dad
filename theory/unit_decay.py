"""A dead BN+ReLU unit under decay: beta/gamma, and the way back that psBN opens.

Run it: `python theory/unit_decay.py`.
"""

import mpmath as mp
import sympy as sp

from regdyn.optimizers import SGD, Adam
from regdyn.optimizers.base import decay_placement
from regdyn.theorems import unit_decay as shipped

eta, lam, alpha, gamma = sp.symbols("eta lambda alpha gamma", positive=True)
beta, buffer_gamma = sp.symbols("beta b_gamma", real=True)
mu = sp.symbols("mu", nonnegative=True)
a = sp.symbols("a", positive=True)
t = sp.symbols("t", integer=True, nonnegative=True)


def decayed(theta: sp.Expr, buffer: sp.Expr, regularization: str, scale: sp.Expr) -> list[sp.Expr]:
    """Weight and momentum buffer after one step of the shipped SGD without gradient."""
    l2, before, after = decay_placement(regularization, lam, eta, scale)
    constants = (mu, sp.Integer(1), sp.Integer(0), sp.Integer(1), eta)
    new, (new_buffer,) = SGD().step(before * theta, l2 * theta, (buffer,), constants)
    return [after * new, new_buffer]


def ratio_is_kept() -> None:
    """A step is linear and the same for both: if beta = r gamma, buffers alike, so it stays."""
    r = sp.symbols("r", real=True)
    for regularization in ("l2", "decoupled", "paper"):
        of_gamma = decayed(gamma, buffer_gamma, regularization, sp.Integer(1))
        of_beta = decayed(r * gamma, r * buffer_gamma, regularization, sp.Integer(1))
        assert all(sp.expand(b - r * g) == 0 for g, b in zip(of_gamma, of_beta, strict=True))


def adam_changes_it() -> sp.Expr:
    """The first step of the shipped Adam with L2 and eps = 0: beta < 0 < gamma move by eta each."""
    beta1, beta2 = sp.symbols("beta1 beta2", positive=True)
    down = sp.symbols("beta_down", positive=True)
    step = {}
    for name, theta in (("gamma", gamma), ("beta", -down)):
        gradient = lam * theta
        m, v = (1 - beta1) * gradient, (1 - beta2) * gradient**2
        # Kingma and Ba: both moments divided by 1 - beta^1.
        step[name] = sp.simplify(theta - eta * (m / (1 - beta1)) / sp.sqrt(v / (1 - beta2)))
    ratio = step["beta"] / step["gamma"]
    assert sp.simplify(ratio - (-down + eta) / (gamma - eta)) == 0
    rule = Adam(lr=1e-3, eps=0.0)
    for gamma0, beta0 in ((0.1, -1.0), (0.5, -2.0)):
        new = [
            rule.step(theta, 0.01 * theta, rule.initial_state(), rule.constants(1, rule.lr))[0]
            for theta in (gamma0, beta0)
        ]
        closed = shipped.adam_first_ratio(gamma0=gamma0, beta0=beta0, lr=1e-3, lam=0.01)
        assert abs(float(new[1] / new[0] / closed) - 1) < 1e-14
    return ratio


def shifted_law() -> sp.Expr:
    """C_t from the steps of plain SGD with L2, a = eta lambda."""
    numbers = {mu: 0, lam: a / eta}
    new = [
        decayed(theta, sp.Integer(0), "l2", sp.Integer(1))[0].subs(numbers) for theta in (gamma, beta)
    ]
    assert sp.expand(new[0] - (1 - a) * gamma) == 0 and sp.expand(new[1] - (1 - a) * beta) == 0
    before, after = (beta + alpha) / gamma, (new[1] + alpha) / new[0]
    assert sp.simplify(after - before - a / (1 - a) * alpha / gamma) == 0
    law = beta / gamma + alpha / (gamma * (1 - a) ** t)
    assert sp.simplify(law.subs(t, 0) - before) == 0
    following = a / (1 - a) * alpha / (gamma * (1 - a) ** t)
    kept = sp.symbols("q", positive=True)
    assert sp.expand((law.subs(t, t + 1) - law - following).subs(a, 1 - kept)) == 0
    return law


def time_to(goal: sp.Expr) -> sp.Expr:
    """The t at which C_t is `goal`."""
    time = sp.log((goal * gamma - beta) / alpha) / -sp.log(1 - a)
    law = beta / gamma + alpha / gamma * sp.exp(sp.expand(-time * sp.log(1 - a)))
    assert sp.simplify(law - goal) == 0
    return time


def agrees_with_shipped() -> None:
    """The shipped functions at 50 digits."""
    with mp.workdps(50):
        worst = {"ratio_after": 0.0, "steps_until_ratio": 0.0, "steps_until_active": 0.0}
        for g, b, shift, rate in (
            (0.1, -0.5, 0.1, 5e-5),
            (0.25, -2.0, 0.01, 1e-12),
            (-0.5, -3.0, 1.0, 0.5),
        ):
            unit = {"gamma0": g, "beta0": b, "alpha": shift, "rate": rate}
            size, start, add, share = mp.mpf(abs(g)), mp.mpf(b), mp.mpf(shift), mp.mpf(rate)
            for steps in (0.0, 1.0, 50.0):
                exact = start / size + add / (size * (1 - share) ** mp.mpf(steps))
                off = abs(float(mp.mpf(float(shipped.ratio_after(steps, **unit))) / exact - 1))
                worst["ratio_after"] = max(worst["ratio_after"], off)
            for probability in (1e-3, 0.5, 0.9):
                goal = mp.sqrt(2) * mp.erfinv(2 * mp.mpf(probability) - 1)
                exact = mp.log((goal * size - start) / add) / -mp.log1p(-share)
                for name, target in (
                    ("steps_until_active", probability),
                    ("steps_until_ratio", float(goal)),
                ):
                    got = float(getattr(shipped, name)(target, **unit))
                    worst[name] = max(worst[name], abs(float(mp.mpf(got) / exact - 1)))
    for name, off in worst.items():
        assert off < 1e-13, (name, off)
        print(
            f"regdyn.theorems.unit_decay.{name}: "
            f"greatest relative difference at 50 digits over 9 points: {off:.0e}"
        )


def main() -> None:
    """Derive, print, compare."""
    ratio_is_kept()
    print("L2 under SGD with momentum, decoupled and paper decay: beta/gamma is kept")
    print(
        "Adam with L2, first step from beta = -beta_down < 0 < gamma: beta/gamma =", adam_changes_it()
    )
    print("psBN: C_t =", shifted_law())
    half = time_to(sp.Integer(0))
    print("C = 0 at t =", half)
    agrees_with_shipped()
    print("regdyn.theorems.unit_decay agrees")


if __name__ == "__main__":
    main()
