"""Trained networks of any origin: which filters died, why, which will die next, and their removal.

Needs the extra `torch`; removal needs the extra `prune`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regdyn.lazy import lazy_names

# Names load on first use, as those of `regdyn.cnn` do.
_HOME = {
    "Cost": "regdyn.doctor.cost",
    "Latency": "regdyn.doctor.cost",
    "Opened": "regdyn.doctor.opening",
    "SavedTensors": "regdyn.doctor.tensors",
    "SlimLayer": "regdyn.doctor.slimming",
    "Slimmed": "regdyn.doctor.slimming",
    "compare_latency": "regdyn.doctor.cost",
    "difference": "regdyn.doctor.compare",
    "load_into": "regdyn.doctor.factory",
    "load_slim": "regdyn.doctor.slim_file",
    "load_tensors": "regdyn.doctor.tensors",
    "make_model": "regdyn.doctor.factory",
    "network_cost": "regdyn.doctor.cost",
    "network_of": "regdyn.doctor.factory",
    "open_network": "regdyn.doctor.opening",
    "save_slim": "regdyn.doctor.slim_file",
    "slim": "regdyn.doctor.slimming",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from regdyn.doctor.compare import difference
    from regdyn.doctor.cost import Cost, Latency, compare_latency, network_cost
    from regdyn.doctor.factory import load_into, make_model, network_of
    from regdyn.doctor.opening import Opened, open_network
    from regdyn.doctor.slim_file import load_slim, save_slim
    from regdyn.doctor.slimming import SlimLayer, Slimmed, slim
    from regdyn.doctor.tensors import SavedTensors, load_tensors


__getattr__, __dir__ = lazy_names(__name__, _HOME)
