"""Layers that compute a function of each element: what `gather_functions` finds, as one layer."""

from torch import Tensor, nn
from torch.fx import GraphModule


class ScaledActivation(nn.Module):
    """``factor * activation(x) + offset``, as the learned scale and bias of PP-LCNet and HGNetV2.

    Args:
        activation: An activation function of `torch.nn`.
        factor: What its result is multiplied by: a number, or one for each channel, of a shape that
            broadcasts to the result, ``[C, 1, 1]`` behind a convolution and ``[C]`` behind a linear
            layer.
        offset: What is added then: a number, or one for each channel in the same shape.
    """

    factor: float | Tensor
    offset: float | Tensor

    def __init__(
        self, activation: nn.Module, factor: float | Tensor, offset: float | Tensor
    ) -> None:
        super().__init__()
        self.activation = activation
        for name, value in (("factor", factor), ("offset", offset)):
            if isinstance(value, Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    def forward(self, input: Tensor) -> Tensor:
        """Map a tensor of any shape to one of the same shape."""
        result: Tensor = self.activation(input) * self.factor + self.offset
        return result

    @property
    def channels(self) -> int | None:
        """How many channels it tells apart; None if it treats all alike."""
        sizes = [each.numel() for each in (self.factor, self.offset) if isinstance(each, Tensor)]
        return max(sizes, default=None)

    def extra_repr(self) -> str:
        """The numbers, for `print`."""
        if self.channels is not None:
            return f"channels={self.channels}"
        return f"factor={self.factor:g}, offset={self.offset:g}"


class ElementwiseFunction(nn.Module):
    """Steps that treat each element alone, or each in the same way as others of its channel.

    Args:
        body: The steps, as a graph with one input.
        channels: How many channels it tells apart, on the second axis; None if it treats all alike.
    """

    def __init__(self, body: GraphModule, channels: int | None) -> None:
        super().__init__()
        self.body = body
        self.channels = channels

    def forward(self, input: Tensor) -> Tensor:
        """Map a tensor to one of the same shape."""
        result: Tensor = self.body(input)
        return result
