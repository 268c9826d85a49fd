"""The values of a graph as convolutions of earlier ones, by rules of what operators do to them."""
