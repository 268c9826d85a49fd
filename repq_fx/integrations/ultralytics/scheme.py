"""The `Scheme` that measures best for the detectors of ultralytics."""

from ...quant import LpLoss, MinMax, Scheme


def detector_scheme(weight_bits: int = 8, activation_bits: int = 8) -> Scheme:
    """As `Scheme`, with what suits objects, which cover little of an image.

    What is best on average over an image is best for its background: a range with the smallest
    squared error cuts off the activations that place the boxes, and a bias that takes up the mean
    effect of 8 bits moves what need not be moved. So at 8 bits nothing is cut off and biases stay;
    below, errors count with their fourth power, and biases are corrected, as the effect is large
    everywhere. Channels are equalized for depthwise layers only, which lose nothing by it: for
    others the largest values decide, and at 6 bits YOLOv9-t lost a point. With
    ``float_elementwise=True`` 6 bits lose a third of a point less and take nearly twice the time
    (`benchmarks/README.md`, "A detector").

    Args:
        weight_bits: 2..8.
        activation_bits: 2..8.
    """
    if activation_bits == 8:
        return Scheme(
            weight_bits, activation=MinMax(), equalization="depthwise", output_search=False,
            bias_correction=False,
        )  # fmt: skip
    return Scheme(weight_bits, activation_bits, activation=LpLoss(4.0), equalization="depthwise")


def as_detector_scheme(scheme: Scheme | str) -> Scheme:
    """The scheme itself, or of a name what suits detectors at its widths; see `Scheme.from_name`.

    Raises:
        TypeError: It is neither.
        ValueError: There is no such scheme.
    """
    named = Scheme.of(scheme)
    if not isinstance(scheme, str) or named == Scheme.vanilla():
        return named
    return detector_scheme(named.weight_bits, named.activation_bits)
