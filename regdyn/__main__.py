"""`python -m regdyn`."""

from regdyn.cli import script

script()
