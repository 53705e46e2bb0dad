"""Trained networks of any origin: which filters died, why, which will die next, and their removal.

Needs the extra `torch`; removal needs the extra `prune`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regdyn.lazy import lazy_names

# Names load on first use, as those of `regdyn.cnn` do.
_HOME = {
    "SparsityMonitor": "regdyn.doctor.monitor",
    "watch_activations": "regdyn.doctor.activations",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from regdyn.doctor.activations import watch_activations
    from regdyn.doctor.monitor import SparsityMonitor


__getattr__, __dir__ = lazy_names(__name__, _HOME)
