"""Detectors of ultralytics with random weights, and images for them."""

from tests.detectors import data, make_yolo, ultralytics

__all__ = ["data", "make_yolo", "ultralytics"]
