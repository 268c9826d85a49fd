"""What was found for a network: rounded weights, biases and ranges."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.fx import GraphModule

from ..quant import AffineParameters, QuantizedWeight

# Where `reconstruct` leaves a `Refinement` for `convert`, in a prepared model's `meta`.
_KEY = "repq_fx_refinement"


@dataclass
class Refinement:
    """Found values under the qualified names of layers and observers.

    Attributes:
        weights: Integers and scales of layers.
        biases: Float biases of the same layers.
        ranges: Scale and zero point of observers.
    """

    weights: dict[str, QuantizedWeight] = field(default_factory=dict)
    biases: dict[str, Tensor | None] = field(default_factory=dict)
    ranges: dict[str, AffineParameters] = field(default_factory=dict)

    def update(self, other: "Refinement") -> None:
        """Take over what was found elsewhere."""
        self.weights |= other.weights
        self.biases |= other.biases
        self.ranges |= other.ranges

    def only(self, names: set[str]) -> "Refinement":
        """What was found for some layers and observers."""
        return Refinement(
            {name: weight for name, weight in self.weights.items() if name in names},
            {name: bias for name, bias in self.biases.items() if name in names},
            {name: parameters for name, parameters in self.ranges.items() if name in names},
        )

    def write(self, network: nn.Module) -> None:
        """Let the layers of `network` compute with the weights and biases, in place."""
        for name, quantized in self.weights.items():
            compute_with(network.get_submodule(name), quantized, self.biases[name])

    def leave_on(self, prepared: GraphModule) -> None:
        """For `convert` to find with `left_on`."""
        prepared.meta[_KEY] = self

    @staticmethod
    def left_on(prepared: GraphModule) -> "Refinement | None":
        """What `reconstruct` has found for a prepared model."""
        found = prepared.meta.get(_KEY)
        return found if isinstance(found, Refinement) else None


def compute_with(layer: Any, quantized: QuantizedWeight, bias: Tensor | None) -> None:
    """Give a float layer the values of a quantized weight, and a bias, in place."""
    device = layer.weight.device  # A checkpoint is on the CPU, and a model may have moved since.
    # New parameters: another layer may be tied to the old ones.
    dequantized = quantized.to(device).dequantize().to(layer.weight.dtype)
    layer.weight = nn.Parameter(dequantized, requires_grad=False)
    layer.bias = (
        None if bias is None else nn.Parameter(bias.detach().to(device), requires_grad=False)
    )
