"""How the papers train, in small: settings of `TrainConfig` that the findings share.

Networks and data are those of a laptop, and runs are some thousand steps long instead of some hundred
thousand. What was changed so that as much happens in them is said here, once for each paper.
"""

from __future__ import annotations

from typing import Any

from regdyn.dynamics.schedules import Cosine, Step
from regdyn.optimizers import SGD, Adam

FAST = 3e-3
"""Three times the usual learning rate of Adam.

An idle weight falls from 1 to 0 in 1 / FAST = 333 steps, and at a tenth of it in 3,333.
"""


def mehta(*, steps: int, width: int, lam: float, **others: Any) -> dict[str, Any]:
    """mehta2019, section 2.1: Adam with L2, batches of 40, a tenth of the learning rate at the end.

    The last quarter of the steps instead of the last 75 of 325 epochs; `FAST` instead of 1e-3.
    """
    return {
        "optimizer": Adam(lr=FAST), "regularization": "l2", "lam": lam, "hidden": (width, width),
        "steps": steps, "schedule": Step((max(1, 3 * steps // 4),)), **others,
    }  # fmt: skip


def yaguchi(*, steps: int, hidden: tuple[int, ...], lam: float, **others: Any) -> dict[str, Any]:
    """yaguchi2018, table I: Adam with L2, batches of 64, the learning rate halved after each quarter.

    Learning rate and lambda are lost from our copy of the paper. Its runs of 100 epochs on MNIST have
    94,000 steps: ours have an eighth of them at most, and so take `FAST` and lambda = 1e-2.
    """
    quarters = [steps // 4, steps // 2, 3 * steps // 4]
    return {
        "optimizer": Adam(lr=FAST), "regularization": "l2", "lam": lam, "hidden": hidden, "batch": 64,
        "steps": steps, "schedule": Step(tuple(quarters), 0.5), **others,
    }  # fmt: skip


def zhou(*, steps: int, width: int, lam: float, lr: float, **others: Any) -> dict[str, Any]:
    """zhou2020, section 3.1: SGD with momentum 0.9, weight decay, batches of 128, half a cosine.

    A collapsed unit's gamma shrinks by lr lam / (1 - 0.9) a step. For that to bring it from 0.3 to 1e-3
    within a fifth of the paper's 39,000 steps or less, lambda is 2.5e-3 instead of 5e-4. Units collapse
    in the first hidden layer only, and there only if another one follows: that has half as many.
    """
    return {
        "optimizer": SGD(lr=lr), "regularization": "l2", "lam": lam, "batch": 128, "steps": steps,
        "hidden": (width, max(1, width // 2)), "schedule": Cosine(steps), **others,
    }  # fmt: skip
