"""What decides the bits of a result besides its configuration."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from regdyn import __version__


@cache
def source_digest() -> str:
    """Hash of the sources from which kernels are compiled, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for folder in ("dynamics", "nets", "optimizers"):
        for source in sorted((Path(__file__).parent / folder).glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


@cache
def fingerprint() -> str:
    """Versions of regdyn, of its sources and of the compiler: where they are alike, so are the bits."""
    return (
        f"regdyn {__version__} ({source_digest()}), numba {version('numba')}, numpy {version('numpy')}"
    )
