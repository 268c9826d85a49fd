"""What the modules of quantized models have in common."""

from torch import nn


class QuantizedModule(nn.Module):
    """Base of modules that hold integers in the place of a float layer's weights.

    Passes, which know no backend, tell by it that a model is quantized already.
    """
