"""What decides the bits of a result besides its configuration."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from regdyn import __version__

KERNELS = ("dynamics", "nets", "optimizers")
"""Folders of the sources from which kernels are compiled."""


@cache
def source_digest(*folders: str) -> str:
    """Hash of the sources in some folders of the package, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for folder in folders:
        for source in sorted((Path(__file__).parent / folder).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def fingerprint() -> str:
    """Versions of regdyn, of its sources and of the compiler: where they are alike, so are the bits."""
    sources = source_digest(*KERNELS, "sweeps")
    return f"regdyn {__version__} ({sources}), numba {version('numba')}, numpy {version('numpy')}"
