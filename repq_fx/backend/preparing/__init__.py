"""Preparing: where observers are placed before calibration."""
