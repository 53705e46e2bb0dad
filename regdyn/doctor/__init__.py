"""Trained networks of any origin: which filters died, why, which will die next, and their removal.

Needs the extra `torch`; removal needs the extra `prune`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regdyn.lazy import lazy_names

# Names load on first use, as those of `regdyn.cnn` do.
_HOME = {
    "SavedTensors": "regdyn.doctor.tensors",
    "load_into": "regdyn.doctor.factory",
    "load_tensors": "regdyn.doctor.tensors",
    "make_model": "regdyn.doctor.factory",
    "network_of": "regdyn.doctor.factory",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from regdyn.doctor.factory import load_into, make_model, network_of
    from regdyn.doctor.tensors import SavedTensors, load_tensors


__getattr__, __dir__ = lazy_names(__name__, _HOME)
