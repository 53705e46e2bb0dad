"""Which activation functions let units die under Adam with L2, with and without normalisation."""

from __future__ import annotations

import numpy as np

from regdyn.findings import setups
from regdyn.findings.base import DOMAIN, Array, Bench, paired
from regdyn.nets.sparsity import inactive_by_norm, weight_norms
from regdyn.theorems.base import Claim, Comparison, Relation, Status

NEAR_ZERO = 1e-2
"""Norm of a unit's weights below which it counts as dead here.

The paper's threshold is lost from our copy; it says that a small one is easy to choose, because the
weights of dead units are a mode of their own. In these runs few units lie between 8e-3 and 3e-2, and
setting those below to 0 changes no prediction.
"""


def _shares(bench: Bench, *, steps: int, width: int, lam: float, activation: str, norm: str) -> Array:
    """Share of the units of each run whose weights are near zero."""
    settings = setups.yaguchi(steps=steps, lam=lam, hidden=(width,), activation=activation, norm=norm)
    norms = [weight_norms(run.network.weights[0]) for run in bench.runs(**settings)]
    return np.array([inactive_by_norm(norm, NEAR_ZERO).mean() for norm in norms])


def _relu(bench: Bench, *, steps: int, width: int, lam: float) -> Comparison:
    """Shares of dead ReLU units with and without normalisation."""
    found = [
        _shares(bench, steps=steps, width=width, lam=lam, activation="relu", norm=norm)
        for norm in ("batch", "none")
    ]
    return Comparison(
        measured=paired(*found),
        predicted=np.full(2, 0.1),
        control=np.full(2, -0.1),
        control_measured=paired(*(-shares for shares in found)),
        scale=np.ones(2),
        x=[1, 2],
        x_label="1: with batch normalisation, 2: without",
        y_label="share of dead units",
    )


def _elu(bench: Bench, *, steps: int, width: int, lam: float, norm: str) -> Comparison:
    """Shares of ELU less those of ReLU, in units of these; the control claims that no ELU unit dies."""
    relu, elu = (
        _shares(bench, steps=steps, width=width, lam=lam, activation=activation, norm=norm)
        for activation in ("relu", "elu")
    )
    return Comparison(
        measured=paired(elu - relu),
        predicted=[0.0],
        control=[-relu.mean()],
        scale=[max(relu.mean(), 1 / width)],
        x=[1],
        x_label="ELU less ReLU",
        y_label="difference of shares of dead units",
    )


def _tanh(bench: Bench, *, steps: int, width: int, lam: float, norm: str) -> Comparison:
    """Shares of tanh less a tenth of those of ReLU; the control claims that tanh's are greater."""
    relu, tanh = (
        _shares(bench, steps=steps, width=width, lam=lam, activation=activation, norm=norm)
        for activation in ("relu", "tanh")
    )
    return Comparison(
        measured=paired(tanh - relu / 10),
        predicted=[0.0],
        control=[0.0],
        control_measured=paired(relu - tanh),
        scale=[1.0],
        x=[1],
        x_label="tanh less a tenth of ReLU",
        y_label="difference of shares of dead units",
    )


_DOMAIN = {name: DOMAIN[name] for name in ("steps", "width", "lam")}
_CASE = {"steps": 8000, "width": 250, "lam": 1e-2}
_NORMS = ("batch", "none")

CLAIMS = (
    Claim(
        id="F10a",
        paper="yaguchi2018, section V-A, table II",
        statement="Under Adam with L2 at least a tenth of the ReLU units lose their weights (norm "
        "below 1e-2), with batch normalisation and without.",
        status=Status.PRINTED,
        printed="70.0 percent of the units have lost their weights with batch normalisation, 82.1 "
        "without it; none without L2.",
        finding="55 percent of the units with batch normalisation, 45 without. Setting their "
        "weights to 0 changes no prediction on the test set. Without normalisation the dead "
        "weights keep moving: most of their norms are between 1e-3 and 1e-2, with normalisation "
        "below 1e-3.",
        experiment=_relu,
        control="less than a tenth",
        cases=(_CASE,),
        domain=_DOMAIN,
        relation=Relation.AT_LEAST,
        exact=False,
        tolerance=0.0,
        recorded="holds",
    ),
    Claim(
        id="F10b",
        paper="yaguchi2018, section V-A, table II",
        statement="ELU units die like ReLU units: their share differs by at most a quarter of it.",
        status=Status.PRINTED,
        printed="77.0 percent of the units are dead with ELU, 70.0 with ReLU.",
        finding="64 percent of the ELU units and 55 of the ReLU units are dead; without "
        "normalisation 53 and 45.",
        experiment=_elu,
        control="no ELU unit dies",
        cases=({**_CASE, "norm": "batch"},),
        domain={**_DOMAIN, "norm": _NORMS},
        exact=False,
        tolerance=0.25,
        recorded="holds",
    ),
    Claim(
        id="F10c",
        paper="yaguchi2018, section V-A, table II",
        statement="tanh units hardly die: at most a tenth of the share of ReLU units.",
        status=Status.PRINTED,
        printed="The table gives 1.7 percent for one and 0 for the other of tanh and the logistic "
        "function (which is which is lost from our copy), 70.0 for ReLU.",
        finding="37 percent of the tanh units are dead and 55 of the ReLU units. Without "
        "normalisation it is as in the paper, 4 percent of tanh and 45 of ReLU. With it tanh units "
        "die that the task does not need, on the larger set of shapes (clean, lambda 1e-3) more "
        "than ReLU units do: 7 and 1 percent. The paper itself takes the 1.7 percent for a sign "
        "that saturating units can die.",
        counterexample="steps = 8000, width 250, lam 1e-2, batch normalisation: 37 percent of the "
        "tanh units, 55 of the ReLU units.",
        experiment=_tanh,
        control="at least as many tanh units as ReLU units die",
        cases=({**_CASE, "norm": "batch"},),
        domain={**_DOMAIN, "norm": _NORMS},
        relation=Relation.AT_MOST,
        exact=False,
        tolerance=0.0,
        recorded="refuted",
    ),
)
