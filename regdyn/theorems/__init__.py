"""Closed forms and claims: leaves that import nothing of regdyn but each other."""

from __future__ import annotations

from regdyn.theorems import (
    activation_diffusion,
    activation_drift,
    adam_decay,
    adam_limit,
    adam_steps,
    adamw_limit,
    closure,
    expected_activation,
    momentum_sgd,
    passage,
    scaling,
    stationary,
    unit_decay,
)
from regdyn.theorems.base import Claim

_SUBJECTS = (
    momentum_sgd,
    adam_steps,
    adam_decay,
    adam_limit,
    closure,
    passage,
    stationary,
    scaling,
    adamw_limit,
    activation_drift,
    activation_diffusion,
    unit_decay,
    expected_activation,
)


def _order(claim: Claim) -> tuple[str, int, str]:
    letters = claim.id[1:].lstrip("0123456789")
    return claim.id[0], int(claim.id[1 : len(claim.id) - len(letters)]), letters


CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in sorted((c for subject in _SUBJECTS for c in subject.CLAIMS), key=_order)
}
"""Every claim by its id: A1a, A1b, A2, …"""
