"""What is said to change how many units die under Adam with L2, besides the decay itself."""

from __future__ import annotations

from typing import Any

from regdyn.findings import setups
from regdyn.findings.base import DOMAIN, Array, Bench, ordered, paired, sparsity
from regdyn.theorems.base import Claim, Comparison, Relation, Status


def _shares(bench: Bench, steps: int, width: int, lam: float, **others: Any) -> Array:
    """Share of dead units of each run."""
    return sparsity(bench.runs(**setups.mehta(steps=steps, width=width, lam=lam, **others)))


def _leaky(bench: Bench, *, steps: int, width: int, lam: float) -> Comparison:
    """Dead units with leaky ReLU less three quarters of those with ReLU."""
    relu = _shares(bench, steps, width, lam)
    leaky = _shares(bench, steps, width, lam, activation="leaky_relu")
    return Comparison(
        measured=paired(leaky - 0.75 * relu),
        predicted=[0.0],
        control=[0.0],
        control_measured=paired(0.5 * relu - leaky),
        scale=[1.0],
        x=[1],
        x_label="leaky ReLU less 3/4 of ReLU",
        y_label="difference of shares of dead units",
    )


def _slow_gamma(bench: Bench, *, steps: int, width: int, lam: float) -> Comparison:
    """Dead units of ReLU and of leaky ReLU less those of ReLU with slow gammas."""
    relu = _shares(bench, steps, width, lam)
    leaky = _shares(bench, steps, width, lam, activation="leaky_relu")
    slow = _shares(bench, steps, width, lam, gamma_lr=0.1)
    label = "1: ReLU less slow gammas, 2: leaky ReLU less slow gammas"
    return ordered(label, relu - slow, leaky - slow)


def _positive_beta(bench: Bench, *, steps: int, width: int, lam: float) -> Comparison:
    """Dead units after beta = 1 at the start, less those after 0."""
    zero = _shares(bench, steps, width, lam)
    one = _shares(bench, steps, width, lam, beta0=1.0)
    return ordered("beta = 1 less beta = 0 at the start", one - zero)


_DOMAIN = {name: DOMAIN[name] for name in ("steps", "width", "lam")}
_CASE = {"steps": 8000, "width": 128, "lam": 1e-3}

CLAIMS = (
    Claim(
        id="F7a",
        paper="mehta2019, section 6; its supplement, section 1, table 2",
        statement="Leaky ReLU (slope 0.01) barely helps: at least three quarters as many units die "
        "as with ReLU.",
        status=Status.PRINTED,
        printed="47 percent of the filters are dead with ReLU, 41 with leaky ReLU.",
        finding="43 percent of the units are dead with ReLU and with leaky ReLU; with lambda 1e-4 "
        "7 percent with either.",
        experiment=_leaky,
        control="at most half as many die",
        cases=(_CASE,),
        domain=_DOMAIN,
        relation=Relation.AT_LEAST,
        exact=False,
        tolerance=0.0,
        recorded="holds",
    ),
    Claim(
        id="F7b",
        paper="mehta2019, section 6; its supplement, section 3, table 3",
        statement="A tenth of the learning rate for gamma leaves fewer units dead than the full rate "
        "does, with ReLU or with leaky ReLU.",
        status=Status.PRINTED,
        printed="46 percent of the filters are dead at the full rate, 41 with leaky ReLU, 33 at a "
        "tenth of it, with test errors of 36.6, 36.8 and 35.0.",
        finding="None is dead at a tenth of the rate, where 43 percent are at the full rate, as "
        "with leaky ReLU; the test errors are 1.0, 1.5 and 1.2 percent. It buys time: with Adam at "
        "1e-3 and lambda 1e-4, 1 percent are dead after 80,000 steps with slow gammas and 0.2 "
        "percent after 8,000 with fast ones, but 49 percent after 80,000.",
        experiment=_slow_gamma,
        control="more units are dead",
        cases=(_CASE,),
        domain=_DOMAIN,
        relation=Relation.AT_LEAST,
        exact=False,
        tolerance=0.0,
        recorded="holds",
    ),
    Claim(
        id="F8",
        paper="mehta2019, supplement, section 3, table 3",
        statement="More units die if beta starts at 1 instead of 0.",
        status=Status.PRINTED,
        printed="53 percent of the filters are dead after beta = 1, 46 after 0 and 46 after -0.1.",
        finding="13 percent of the units are dead after beta = 1 and 7 after 0, all of the "
        "difference in the first hidden layer (25 and 11). The start decides how soon units die, "
        "not how many can: with lambda 1e-3, where most that can have died after 8,000 steps, 43 "
        "percent are dead after either. After -0.1 it is 5 percent with lambda 1e-4 and 43 with "
        "1e-3: six seeds do not decide whether -0.1 changes anything.",
        experiment=_positive_beta,
        control="fewer die",
        cases=({**_CASE, "lam": 1e-4},),
        domain=_DOMAIN,
        relation=Relation.AT_LEAST,
        exact=False,
        tolerance=0.0,
        recorded="holds",
    ),
)
