"""How long it takes to quantize."""
