"""Settings of every test: `reference` can be imported, hypothesis draws the same cases each time."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

# With --import-mode=importlib pytest puts no folder of tests on the path.
sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("regdyn", derandomize=True, deadline=None)
settings.load_profile("regdyn")
