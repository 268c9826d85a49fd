"""The walk that chooses integers: ranges, rounding and biases, given all that came before."""
