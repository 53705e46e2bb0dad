"""A stand-in for CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from regdyn.cnn._batches import Choice
from regdyn.cnn._run import Run


def compute_in_place_of_replaying(monkeypatch: pytest.MonkeyPatch, going: Run) -> None:
    """A graph of the run's step computes anew what was recorded."""
    recorded: list[Choice] = []
    compute = going._forward_backward

    class Graph:
        def replay(self) -> None:
            compute(recorded[-1])

    @contextmanager
    def graph(graph: Graph, stream: object) -> Iterator[None]:
        # What is recorded is not computed.
        with monkeypatch.context() as patched:
            patched.setattr(going, "_forward_backward", recorded.append)
            yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
