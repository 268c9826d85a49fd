"""Detectors of other repositories: FP32 beside INT8."""
