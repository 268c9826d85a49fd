"""What reconstruction and training share: layers, steps and roundings that are learned."""
