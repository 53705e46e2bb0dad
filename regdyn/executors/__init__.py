"""Where independent work is done: in this process, in others on this machine, or on a cluster.

Everything that goes through an executor is a function of one item alone, so that each gives the same
bits.
"""

from __future__ import annotations

from regdyn.executors.base import Executor, InProcess
from regdyn.executors.choice import EXECUTORS, make_executor

__all__ = ["EXECUTORS", "Executor", "InProcess", "make_executor"]
