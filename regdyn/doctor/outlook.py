r"""Which filters die next: first passages of their scales below the threshold, predicted.

A filter that sees nothing but noise and decay loses its scale at a rate that the optimizer, its decay
and the noise determine (`regdyn.prediction`). What a filter learns holds it against that, so that the
number over all filters is an upper bound; for filters that practically never fire it is a prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from regdyn.cnn.psbn import ALPHA
from regdyn.doctor.crossing import Circumstances, Counts, Schedule
from regdyn.doctor.readings import NEVER_FIRES
from regdyn.doctor.reports import LayerReport
from regdyn.errors import InvalidParameter, OutsideDomain
from regdyn.nets.sparsity import Array, Mask
from regdyn.optimizers import REGULARIZATIONS, Optimizer, make_optimizer
from regdyn.parameters import check_choice, check_integer, check_number
from regdyn.theorems.unit_decay import steps_until_active

SIGMA = 1e-5
"""Std of the gradient noise unless told: that of mehta2019, figure 4."""

MOST_READ = 10**7
"""Steps of which a schedule given as a function is read."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Outlook:
    """The filters that are predicted to fall below the threshold.

    Attributes
    ----------
    circumstances
        For which it is predicted.
    counts
        Of the filters above the threshold.
    of_idle, of_all
        How many filters above it practically never fire, and how many are above it.
    reach
        The largest scale that crosses; None where none does.
    by_layer
        For each layer the filters, of all of them, that may cross: masks of shape (filters,).
    monotone
        Whether every scale below `reach` crosses too, as far as was looked.
    caveats
        Of the prediction for that scale, in words.
    changes
        The counts under other circumstances, by what is changed; None where a scale diverges.
    revived, of_silent, psbn_decay
        Of the filters that practically never fire, how many psBN would let fire again within the steps
        (`regdyn.theorems.unit_decay`, claim C8), how many there are, and under which decay; None for a
        network with psBN, or without decay.
    """

    circumstances: Circumstances
    counts: Counts
    of_idle: int
    of_all: int
    reach: float | None
    by_layer: tuple[Mask, ...]
    monotone: bool
    caveats: tuple[str, ...]
    changes: Mapping[str, Counts | None]
    revived: int | None
    of_silent: int
    psbn_decay: str

    def lines(self) -> list[str]:
        """The prediction, and what would change it, a line each."""
        now, counts = self.circumstances, self.counts
        idle = f"no filter above {now.threshold:g} is idle"
        if self.of_idle:
            idle = (
                f"{counts.idle:,} of the {self.of_idle:,} idle filters (above {now.threshold:g}, "
                f"practically never firing) fall below {now.threshold:g}"
            )
        reach = "" if self.reach is None else f" (|gamma| up to {self.reach:.3g})"
        words = [
            f"Within {now.steps:,} further steps of {now.words}: {idle}; of all {self.of_all:,} above, "
            f"at most {counts.at_most:,} do{reach}. Below at the end: {counts.idle_below:,.0f}, "
            f"at most {counts.at_most_below:,.0f}.",
        ]
        changes = [
            f"{name} {'(diverges)' if other is None else other.words()}"
            for name, other in self.changes.items()
        ]
        if self.revived is not None and self.of_silent:
            changes.append(
                f"psBN (alpha {ALPHA:g}, {self.psbn_decay}) wakes {self.revived:,} of the "
                f"{self.of_silent:,} that practically never fire"
            )
        words.append(f"What would change it: {'; '.join(changes)}.")
        if not self.monotone:
            words.append("Not every smaller scale crosses: the numbers are interpolated.")
        return words + [f"Of the prediction: {caveat}." for caveat in self.caveats]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        now = self.circumstances
        return {
            "optimizer": now.optimizer.name,
            "hyperparameters": now.optimizer.parameters(),
            "lam": now.lam,
            "regularization": now.regularization,
            "sigma": now.sigma,
            "schedule": now.scheduled,
            "steps": now.steps,
            "threshold": now.threshold,
            "cross": vars(self.counts),
            "idle": self.of_idle,
            "above_threshold": self.of_all,
            "largest_scale_that_crosses": self.reach,
            "by_layer": [int(mask.sum()) for mask in self.by_layer],
            "monotone": self.monotone,
            "caveats": list(self.caveats),
            "changes": {name: None if c is None else vars(c) for name, c in self.changes.items()},
            "psbn": None
            if self.revived is None
            else {
                "alpha": ALPHA,
                "decay": self.psbn_decay,
                "revived": self.revived,
                "never_fire": self.of_silent,
            },
        }


def look_ahead(
    layers: Sequence[LayerReport],
    optimizer: Optimizer | str = "adam",
    *,
    steps: int,
    lam: float = 1e-4,
    regularization: str = "l2",
    sigma: float = SIGMA,
    schedule: Schedule = None,
) -> Outlook:
    r"""Predict which filters fall below the threshold within `steps` further steps.

    A filter is counted if the median first passage of its |gamma| comes within the steps, under
    Gaussian gradient noise of std sigma and the decay alone. Filters that practically never fire get
    the same noise: rare activations give them some gradient; `sigma=0` is for none at all.

    What would change it is computed for the same steps: decoupled decay of the same lambda; a tenth of
    the learning rate for gamma; batches four times as large, which halve sigma (and leave fewer
    batches without gradient, which is not computed); and psBN, introduced with the outputs as they
    are, :math:`\beta \leftarrow \beta - \alpha`, after which decay takes C = (beta + alpha)/|gamma| of
    a filter that never fires to :math:`\Phi^{-1}` of `NEVER_FIRES` in `steps_until_active` steps. That
    holds for plain decay: L2 under SGD (momentum :math:`\mu` makes the rate 1/(1 - mu) as large) and
    decoupled decay, which for other rules takes the place of L2.

    Parameters
    ----------
    layers
        Of an inspection.
    optimizer
        A name, or a rule with its hyperparameters; its learning rate is that of gamma.
    steps
        Further steps, in [1, 1e12].
    lam, regularization
        Of the decay of gamma.
    sigma
        Std of the gradient noise of gamma, in [0, inf).
    schedule
        As for `regdyn.predict`, from the first of the further steps on.

    Raises
    ------
    InvalidParameter
        For a parameter out of range, or a network without batch normalisation.
    OutsideDomain
        Where a scale diverges.

    Source: the closure of `regdyn.theorems.closure`; zhou2020, section 5, for psBN.
    """
    scales = [layer for layer in layers if layer.gamma is not None]
    if not scales:
        raise InvalidParameter("steps", "used with a network that has batch normalisation")
    further = check_integer("steps", steps, 1, 10**12)
    if callable(schedule) and further <= MOST_READ:
        # Once for all predictions; what comes after the steps does not matter.
        schedule = schedule(np.arange(1, further + 1))
    now = Circumstances(
        optimizer=make_optimizer(optimizer) if isinstance(optimizer, str) else optimizer,
        lam=check_number("lam", lam, "[0, inf)"),
        regularization=check_choice("regularization", regularization, REGULARIZATIONS),
        sigma=check_number("sigma", sigma, "[0, inf)"),
        schedule=schedule,
        steps=further,
        threshold=scales[0].threshold,
    )
    candidates = [layer.finite & ~layer.small for layer in scales]
    gamma = np.concatenate([np.abs(g[m]) for g, m in zip(_gammas(scales), candidates)])
    idle = np.concatenate([layer.silent[m] for layer, m in zip(scales, candidates)])
    found = now.crossing(gamma)
    reach = float(gamma[found.crosses].max()) if found.crosses.any() else None
    revived, psbn_decay = _revived(scales, now)
    return Outlook(
        circumstances=now,
        counts=found.count(idle),
        of_idle=int(idle.sum()),
        of_all=len(gamma),
        reach=reach,
        by_layer=tuple(_spread(found.crosses, candidates)),
        monotone=found.monotone,
        caveats=() if reach is None else now.predict(reach).caveats,
        changes={
            name: _counts(other, gamma, idle) for name, other in _alternatives(now).items()
        },
        revived=revived,
        of_silent=sum(int(layer.silent.sum()) for layer in scales),
        psbn_decay=psbn_decay,
    )  # fmt: skip


def _gammas(layers: Sequence[LayerReport]) -> list[Array]:
    return [layer.gamma for layer in layers if layer.gamma is not None]


def _spread(values: Mask, masks: Sequence[Mask]) -> list[Mask]:
    """Values of the marked filters, layer by layer, on all filters of each layer."""
    parts = np.split(values, np.cumsum([int(mask.sum()) for mask in masks])[:-1])
    spread = []
    for mask, part in zip(masks, parts):
        whole = np.zeros(len(mask), dtype=np.bool_)
        whole[mask] = part
        spread.append(whole)
    return spread


def _alternatives(now: Circumstances) -> dict[str, Circumstances]:
    """What could be changed about the training."""
    slower = replace(now.optimizer, lr=now.optimizer.lr / 10)
    found = {"a tenth of gamma's learning rate": replace(now, optimizer=slower)}
    if now.regularization in ("l2", "paper"):
        found = {"decoupled decay": replace(now, regularization="decoupled"), **found}
    if now.sigma > 0:
        found["batches four times as large (half the noise)"] = replace(now, sigma=now.sigma / 2)
    return found


def _counts(other: Circumstances, scales: Array, idle: Mask) -> Counts | None:
    try:
        return other.crossing(scales).count(idle)
    except OutsideDomain:
        return None


def _revived(layers: Sequence[LayerReport], now: Circumstances) -> tuple[int | None, str]:
    """How many filters that never fire psBN would let fire again, and under which decay."""
    rule = now.optimizer
    rate, words = rule.lr * now.lam, "decoupled decay"
    if now.regularization == "paper":
        rate, words = now.lam, "paper decay"
    elif now.regularization == "l2" and rule.name == "sgd":
        rate, words = rate / (1 - rule.parameters()["momentum"]), "l2"
    if any(layer.alpha for layer in layers) or now.regularization == "none" or not 0 < rate < 1:
        return None, words
    revived = 0
    for layer in layers:
        assert layer.gamma is not None and layer.beta is not None
        asleep = layer.silent & (layer.gamma != 0)
        steps = steps_until_active(
            NEVER_FIRES,
            gamma0=layer.gamma[asleep],
            beta0=layer.beta[asleep] - ALPHA,
            rate=rate,
            alpha=ALPHA,
        )
        revived += int(np.count_nonzero(steps <= now.steps))
    return revived, words
