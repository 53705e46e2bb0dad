"""Whether there is sparsity without regularisation."""

from __future__ import annotations

import numpy as np

from regdyn.findings.base import DOMAIN, Bench
from regdyn.theorems import estimates
from regdyn.theorems.base import Claim, Comparison, Status


def _unregularised(bench: Bench, *, steps: int, width: int, lam: float) -> Comparison:
    """Shares of dead units of Adam and SGD without decay; the control claims that of Adam with L2."""

    def share(optimizer: str, regularization: str) -> estimates.Estimate:
        runs = bench.runs(
            optimizer=optimizer, regularization=regularization, lam=lam, hidden=(width, width),
            steps=steps,
        )  # fmt: skip
        marked = np.concatenate([mask for run in runs for mask in run.inactive])
        return estimates.share(marked.sum(), len(marked))

    without = [share(optimizer, "none") for optimizer in ("adam", "sgd")]
    return Comparison(
        measured=estimates.joined(*without),
        predicted=np.zeros(2),
        control=np.full(2, share("adam", "l2").value[0]),
        scale=np.ones(2),
        x=[1, 2],
        x_label="1: Adam, 2: SGD, without decay",
        y_label="share of dead units",
    )


CLAIMS = (
    Claim(
        id="F1",
        paper="mehta2019, section 2.2, table 1",
        statement="Without regularisation no unit dies, under Adam or SGD.",
        status=Status.PRINTED,
        printed="Sparsity needs L2 or weight decay; with neither there is none.",
        finding="",
        experiment=_unregularised,
        control="as many units die as under Adam with L2",
        cases=({"steps": 6000, "width": 256, "lam": 1e-3},),
        domain={name: DOMAIN[name] for name in ("steps", "width", "lam")},
        exact=False,
        tolerance=0.01,
        recorded="holds",
    ),
)
