"""Pruning while a network trains, whatever trains it: schedule, importance, choice and record."""
