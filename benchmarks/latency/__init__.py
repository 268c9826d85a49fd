"""Latency of quantized models."""
