"""Trained networks of any origin: which filters died, why, which will die next, and their removal.

Needs the extra `torch`; removal needs the extra `prune`.
"""

from __future__ import annotations

from regdyn.lazy import lazy_names

# Names load on first use, as those of `regdyn.cnn` do.
_HOME: dict[str, str] = {}

__all__ = sorted(_HOME)

__getattr__, __dir__ = lazy_names(__name__, _HOME)
