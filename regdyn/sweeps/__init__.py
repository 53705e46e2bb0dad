"""Sweeps: any parameter of a simulation as an axis, in a store that can be resumed."""
