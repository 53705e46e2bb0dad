"""Closed forms and claims: leaves that import nothing of regdyn but each other."""

from __future__ import annotations

from regdyn.theorems.base import Claim

_SUBJECTS: tuple[tuple[Claim, ...], ...] = ()

CLAIMS: dict[str, Claim] = {claim.id: claim for subject in _SUBJECTS for claim in subject}
