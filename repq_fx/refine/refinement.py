"""What was found for a prepared model: rounded weights, biases and ranges."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.fx import GraphModule

from ..backend.quantized_layer import quantized_weight_of, set_quantized
from ..quant import ActivationObserver, AffineParameters, QuantizedWeight

# Where `reconstruct` leaves a `Refinement` in a prepared model's `meta`.
REFINEMENT = "repq_fx_refinement"


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

    def read(self, modules: Mapping[str, object]) -> None:
        """Take over what was found for layers and observers, given by qualified name."""
        for name, module in modules.items():
            if isinstance(module, ActivationObserver):
                if module.chosen is not None:
                    self.ranges[name] = module.chosen
                continue
            quantized = quantized_weight_of(module)
            if quantized is not None and isinstance(module, nn.Conv2d | nn.Linear):
                self.weights[name] = quantized
                self.biases[name] = module.bias

    def write(self, refined: GraphModule) -> None:
        """Give the layers and observers of `refined` what was found, in place."""
        for name, parameters in self.ranges.items():
            observer = refined.get_submodule(name)
            if isinstance(observer, ActivationObserver):
                observer.chosen = parameters
        for name, quantized in self.weights.items():
            set_quantized(refined.get_submodule(name), quantized, self.biases[name])
