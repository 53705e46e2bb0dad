"""Ensembles of trajectories: noise, schedules, the engine and the systems that it runs."""
