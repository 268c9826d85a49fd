"""The `Scheme` that measures best for the detectors of ultralytics."""

from ...quant import LpLoss, MinMax, Scheme


def detector_scheme(weight_bits: int = 8, activation_bits: int = 8) -> Scheme:
    """As `Scheme`, with ranges that keep what only objects produce.

    Objects cover little of an image, so that a range with the smallest squared error over all of it
    cuts off the activations that place their boxes. At 8 bits nothing is cut off, below that errors
    count with their fourth power (`benchmarks/README.md`, "A detector").

    Args:
        weight_bits: 2..8.
        activation_bits: 2..8.
    """
    if activation_bits == 8:
        return Scheme(weight_bits, activation=MinMax(), output_search=False, bias_correction=False)
    return Scheme(weight_bits, activation_bits, activation=LpLoss(4.0))
