"""What the papers report of trained networks, as claims on a small one; one file per subject.

They are checked as the theorems are (`regdyn.verdicts`), with training runs over several seeds in place
of ensembles.
"""

from __future__ import annotations

from regdyn.findings import (
    activations,
    batches_and_tasks,
    collapse,
    optimizers,
    regularization,
    remedies,
    width_and_depth,
)
from regdyn.theorems.base import Claim

_SUBJECTS = (
    regularization,
    optimizers,
    batches_and_tasks,
    width_and_depth,
    remedies,
    collapse,
    activations,
)


def _order(claim: Claim) -> tuple[int, str]:
    digits = claim.id[1:].rstrip("abcdefgh")
    return int(digits), claim.id


FINDINGS: dict[str, Claim] = {
    claim.id: claim
    for claim in sorted((claim for subject in _SUBJECTS for claim in subject.CLAIMS), key=_order)
}
"""All findings by id: F1 … F10, with a letter where the paper's sentence says several things."""
