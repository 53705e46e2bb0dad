"""Trained networks of any origin: which filters died, why, which will die next, and their removal.

Needs the extra `torch`; removal needs the extra `prune`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regdyn.lazy import lazy_names

# Names load on first use, as those of `regdyn.cnn` do.
_HOME = {
    "Inspection": "regdyn.doctor.inspection",
    "Measured": "regdyn.doctor.measured",
    "Outlook": "regdyn.doctor.outlook",
    "SavedTensors": "regdyn.doctor.tensors",
    "inspect": "regdyn.doctor.inspection",
    "load_into": "regdyn.doctor.factory",
    "load_tensors": "regdyn.doctor.tensors",
    "look_ahead": "regdyn.doctor.outlook",
    "make_model": "regdyn.doctor.factory",
    "measure": "regdyn.doctor.measured",
    "network_of": "regdyn.doctor.factory",
    "SparsityMonitor": "regdyn.doctor.monitor",
    "watch_activations": "regdyn.doctor.activations",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from regdyn.doctor.activations import watch_activations
    from regdyn.doctor.factory import load_into, make_model, network_of
    from regdyn.doctor.inspection import Inspection, inspect
    from regdyn.doctor.measured import Measured, measure
    from regdyn.doctor.monitor import SparsityMonitor
    from regdyn.doctor.outlook import Outlook, look_ahead
    from regdyn.doctor.tensors import SavedTensors, load_tensors


__getattr__, __dir__ = lazy_names(__name__, _HOME)
