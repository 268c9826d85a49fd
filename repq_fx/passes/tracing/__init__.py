"""Tracing: from any model to a graph of layers that computes the same."""
