"""Closed forms: leaves that import nothing of regdyn but each other's base."""
