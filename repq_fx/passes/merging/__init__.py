"""Merging: each linear region of a graph becomes one convolution."""
