"""Equalizing: factors moved between layers, so that one grid suits all channels of a tensor."""
