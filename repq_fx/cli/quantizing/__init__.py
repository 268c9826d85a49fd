"""What `repq quantize` does: the same for networks and detectors, but for what they differ in."""
