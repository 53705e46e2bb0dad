"""Trained networks of any origin: which filters died, why, which will die next, and their removal.

Needs the extra `torch`; removal needs the extra `prune`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regdyn.lazy import lazy_names

# Names load on first use, as those of `regdyn.cnn` do.
_HOME = {
    "Cost": "regdyn.doctor.cost",
    "Inspection": "regdyn.doctor.inspection",
    "Latency": "regdyn.doctor.cost",
    "Measured": "regdyn.doctor.measured",
    "Opened": "regdyn.doctor.opening",
    "Outlook": "regdyn.doctor.outlook",
    "SavedTensors": "regdyn.doctor.tensors",
    "SlimLayer": "regdyn.doctor.slimming",
    "Slimmed": "regdyn.doctor.slimming",
    "SparsityMonitor": "regdyn.doctor.monitor",
    "compare_latency": "regdyn.doctor.cost",
    "difference": "regdyn.doctor.compare",
    "inspect": "regdyn.doctor.inspection",
    "load_into": "regdyn.doctor.factory",
    "load_slim": "regdyn.doctor.slim_file",
    "load_tensors": "regdyn.doctor.tensors",
    "look_ahead": "regdyn.doctor.outlook",
    "make_model": "regdyn.doctor.factory",
    "measure": "regdyn.doctor.measured",
    "network_cost": "regdyn.doctor.cost",
    "network_of": "regdyn.doctor.factory",
    "open_network": "regdyn.doctor.opening",
    "save_slim": "regdyn.doctor.slim_file",
    "slim": "regdyn.doctor.slimming",
    "watch_activations": "regdyn.doctor.activations",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from regdyn.doctor.activations import watch_activations
    from regdyn.doctor.compare import difference
    from regdyn.doctor.cost import Cost, Latency, compare_latency, network_cost
    from regdyn.doctor.factory import load_into, make_model, network_of
    from regdyn.doctor.inspection import Inspection, inspect
    from regdyn.doctor.measured import Measured, measure
    from regdyn.doctor.monitor import SparsityMonitor
    from regdyn.doctor.opening import Opened, open_network
    from regdyn.doctor.outlook import Outlook, look_ahead
    from regdyn.doctor.slim_file import load_slim, save_slim
    from regdyn.doctor.slimming import SlimLayer, Slimmed, slim
    from regdyn.doctor.tensors import SavedTensors, load_tensors


__getattr__, __dir__ = lazy_names(__name__, _HOME)
