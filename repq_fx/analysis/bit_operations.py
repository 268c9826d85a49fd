"""Bit operations of a network: multiply-accumulates times the widths of both factors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..backend.reference import ReferenceConv2d, ReferenceLinear
from ..lowering.grids import DEQUANTIZE
from ..lowering.int8.instructions import Int8Program
from ..passes.graph.run import GraphRun

_FLOAT_BITS = 32
_REFERENCE_LAYERS = (ReferenceConv2d, ReferenceLinear)
_FLOAT_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_TRANSPOSED_LAYERS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class LayerBitOperations:
    """The cost of one call of one weighted layer.

    Attributes:
        name: Qualified name of the layer.
        macs: Multiply-accumulates of the whole kernel; that of the fine part, if it is split.
        coarse_macs: Multiply-accumulates of the coarse part, a 1x1 product; 0 without a split.
        weight_bits: Width of the weights.
        coarse_bits: Width of the coarse weights; 0 without a split.
        activation_bits: Width of the layer's input.
    """

    name: str
    macs: int
    coarse_macs: int
    weight_bits: int
    coarse_bits: int
    activation_bits: int

    @property
    def bit_operations(self) -> int:
        """``(macs * weight_bits + coarse_macs * coarse_bits) * activation_bits``."""
        products = self.macs * self.weight_bits + self.coarse_macs * self.coarse_bits
        return products * self.activation_bits


def count_bit_operations(
    model: GraphModule, example_inputs: Tensor | tuple[Tensor, ...]
) -> list[LayerBitOperations]:
    """Count one forward pass, layer by layer, in the order of execution.

    A coarse part counts as the 1x1 convolution that it is, ``1 / k**2`` of its layer. Padding
    counts like any other input, biases not at all. Layers in float, also the observed ones of a
    prepared graph, count as 32x32 bits. What has no layer of its own (a functional convolution, a
    product of two activations, the inside of a leaf module) is not counted.

    Args:
        model: A merged graph, or one converted with ``backend="reference"``.
        example_inputs: The inputs of the pass; the counts are for all images of the batch.

    Raises:
        TypeError: `model` is not a graph, or one of lowered layers, which know no bit widths.

    Example:
        >>> import torch, repq_fx
        >>> merged = repq_fx.reparameterize(torch.nn.Conv2d(3, 8, 3, padding=1).eval(),
        ...                                 torch.randn(1, 3, 4, 4))
        >>> [row.macs for row in repq_fx.analysis.count_bit_operations(
        ...     merged, torch.randn(1, 3, 4, 4))]
        [3456]
    """
    if not isinstance(model, GraphModule):
        raise TypeError(
            f"count_bit_operations: expected a graph, got {type(model).__name__}; "
            "merge it with repq_fx.reparameterize first."
        )
    counter = _Counter(model)
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    with torch.no_grad():
        counter.run(*inputs)
    return counter.rows


class _Counter(GraphRun):
    """Runs a graph and adds a row whenever it calls a weighted layer."""

    def __init__(self, model: GraphModule) -> None:
        super().__init__(model)
        self.rows: list[LayerBitOperations] = []

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_module":
            layer = self.fetch_attr(str(n.target))
            if isinstance(layer, Int8Program):
                raise TypeError(
                    f"count_bit_operations: {str(n.target)!r} is a lowered program; "
                    'convert the model with backend="reference".'
                )
            if isinstance(layer, _REFERENCE_LAYERS):
                self.rows.append(_reference_row(n, layer, result))
            elif isinstance(layer, _FLOAT_LAYERS):
                self.rows.append(_float_row(n, layer, result))
            elif isinstance(layer, _TRANSPOSED_LAYERS):
                self.rows.append(_float_row(n, layer, self.env[n.all_input_nodes[0]]))
        return result


def _reference_row(
    node: Node, layer: ReferenceConv2d | ReferenceLinear, output: Tensor
) -> LayerBitOperations:
    coarse = layer.coarse_values
    return LayerBitOperations(
        str(node.target),
        macs=_macs(layer.values, output),
        coarse_macs=0 if coarse is None else _macs(coarse, output),
        weight_bits=_bits(layer, "bits", layer.values),
        coarse_bits=0 if coarse is None else _bits(layer, "coarse_bits", coarse),
        activation_bits=_activation_bits(node.all_input_nodes[0]),
    )


def _float_row(node: Node, layer: nn.Module, counted: Tensor) -> LayerBitOperations:
    weight = layer.get_parameter("weight")
    macs = _macs(weight, counted)
    return LayerBitOperations(str(node.target), macs, 0, _FLOAT_BITS, 0, _FLOAT_BITS)


def _macs(weight: Tensor, output: Tensor) -> int:
    """Each number of a layer's output (a transposed one's input) takes one row of the weight."""
    return output.numel() * weight[0].numel()


def _bits(layer: nn.Module, attribute: str, values: Tensor) -> int:
    """The width that the layer names, or else the one its integers are stored with."""
    return int(getattr(layer, attribute, None) or 8 * values.element_size())


def _activation_bits(source: Node) -> int:
    if source.target is not DEQUANTIZE:
        return _FLOAT_BITS
    quant_min, quant_max = (int(value) for value in source.args[3:5])  # type: ignore[arg-type]
    return (quant_max - quant_min).bit_length()
