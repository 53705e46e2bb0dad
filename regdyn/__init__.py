"""regdyn: what an optimizer's decay does to weights that see little gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regdyn.lazy import lazy_names

__version__ = "0.1.0"

# Names load on first use, so that `import regdyn` and the command line start without numba.
_HOME = {
    "simulate": "regdyn.dynamics.scalar",
    "simulate_neuron": "regdyn.dynamics.neuron",
    "NeuronConfig": "regdyn.dynamics.neuron",
    "NeuronResult": "regdyn.dynamics.neuron_result",
    "sample_noise": "regdyn.dynamics.scalar",
    "ScalarConfig": "regdyn.dynamics.scalar",
    "ScalarResult": "regdyn.dynamics.result",
    "check": "regdyn.verdicts",
    "CheckReport": "regdyn.verdicts",
    "CLAIMS": "regdyn.theorems",
    "FINDINGS": "regdyn.findings",
    "train": "regdyn.nets.training",
    "TrainConfig": "regdyn.nets.training",
    "forecast": "regdyn.nets.forecast",
    "Forecast": "regdyn.nets.forecast",
    "TrainResult": "regdyn.nets.result",
    "save_runs": "regdyn.nets.run_result",
    "Network": "regdyn.nets.mlp",
    "Dataset": "regdyn.nets.data",
    "Pruning": "regdyn.nets.pruning.config",
    "PruningEvent": "regdyn.nets.pruning.events",
    "make_dataset": "regdyn.nets.data",
    "sweep": "regdyn.sweeps.run",
    "Sweep": "regdyn.sweeps.result",
    "make_executor": "regdyn.executors",
    "predict": "regdyn.prediction",
    "prunes": "regdyn.prediction",
    "leaves_alone": "regdyn.prediction",
    "Prediction": "regdyn.prediction",
    "Bound": "regdyn.prediction",
    "combined_dataset": "regdyn.dynamics.result",
    "save_results": "regdyn.dynamics.result",
    "BurnIn": "regdyn.dynamics.noise",
    "Gaussian": "regdyn.dynamics.noise",
    "Gated": "regdyn.dynamics.noise",
    "NoNoise": "regdyn.dynamics.noise",
    "Signal": "regdyn.dynamics.noise",
    "StdTable": "regdyn.dynamics.noise",
    "StudentT": "regdyn.dynamics.noise",
    "Trace": "regdyn.dynamics.noise",
    "Constant": "regdyn.dynamics.schedules",
    "Cosine": "regdyn.dynamics.schedules",
    "CosineRestarts": "regdyn.dynamics.schedules",
    "Step": "regdyn.dynamics.schedules",
    "Table": "regdyn.dynamics.schedules",
    "Adadelta": "regdyn.optimizers",
    "Adagrad": "regdyn.optimizers",
    "Adam": "regdyn.optimizers",
    "AdaMax": "regdyn.optimizers",
    "AMSGrad": "regdyn.optimizers",
    "RMSProp": "regdyn.optimizers",
    "SGD": "regdyn.optimizers",
    "OPTIMIZERS": "regdyn.optimizers",
    "InvalidParameter": "regdyn.errors",
    "OutsideDomain": "regdyn.errors",
    "RegdynError": "regdyn.errors",
    "WorkerLost": "regdyn.errors",
}

__all__ = ["__version__", *sorted(_HOME)]

if TYPE_CHECKING:
    from regdyn.dynamics.neuron import NeuronConfig, simulate_neuron
    from regdyn.dynamics.neuron_result import NeuronResult
    from regdyn.dynamics.noise import (
        BurnIn,
        Gated,
        Gaussian,
        NoNoise,
        Signal,
        StdTable,
        StudentT,
        Trace,
    )  # fmt: skip
    from regdyn.dynamics.result import ScalarResult, combined_dataset, save_results
    from regdyn.dynamics.scalar import ScalarConfig, sample_noise, simulate
    from regdyn.dynamics.schedules import Constant, Cosine, CosineRestarts, Step, Table
    from regdyn.errors import InvalidParameter, OutsideDomain, RegdynError, WorkerLost
    from regdyn.executors import make_executor
    from regdyn.findings import FINDINGS
    from regdyn.nets.data import Dataset, make_dataset
    from regdyn.nets.forecast import Forecast, forecast
    from regdyn.nets.mlp import Network
    from regdyn.nets.pruning.config import Pruning
    from regdyn.nets.pruning.events import PruningEvent
    from regdyn.nets.result import TrainResult
    from regdyn.nets.run_result import save_runs
    from regdyn.nets.training import TrainConfig, train
    from regdyn.optimizers import (
        OPTIMIZERS,
        SGD,
        Adadelta,
        Adagrad,
        Adam,
        AdaMax,
        AMSGrad,
        RMSProp,
    )  # fmt: skip
    from regdyn.prediction import Bound, Prediction, leaves_alone, predict, prunes
    from regdyn.sweeps.result import Sweep
    from regdyn.sweeps.run import sweep
    from regdyn.theorems import CLAIMS
    from regdyn.verdicts import CheckReport, check


__getattr__, __dir__ = lazy_names(__name__, _HOME)
