"""Gathering: what a model writes as several steps, as the one layer that computes it."""
