"""Inputs that a quantized graph is traced with."""

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves

from ...backend.reference import ReferenceConv2d, ReferenceLayer, ReferenceLinear
from ...errors import ExportError
from ...lowering.reference_view import ReferenceView
from ...passes.graph.example import ExampleInputs, Inputs, as_inputs, run

_SIDE = 224


def example_of(quantized: GraphModule, given: ExampleInputs | None) -> Inputs:
    """What was `given`, on the graph's device; else two images of 224x224, or two vectors.

    Raises:
        ExportError: The graph does not take it, or takes what only its owner knows; or it returns
            something else than tensors.
    """
    device = next((tensor.device for tensor in quantized.buffers()), torch.device("cpu"))
    inputs = (_usual(quantized),) if given is None else as_inputs(given)
    inputs = tuple(entry.to(device) for entry in inputs)
    try:
        outputs = run(quantized, inputs)
    except Exception as error:  # Whatever a step of the graph raises.
        shapes = ", ".join(str(list(entry.shape)) for entry in inputs)
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ExportError(
            f"onnx: the model fails on inputs of {shapes} ({reason}); give example_inputs that it "
            "takes."
        ) from error
    for leaf in tree_leaves(outputs):
        if not isinstance(leaf, Tensor):
            raise ExportError(
                f"onnx: the model returns {leaf!r}, and ONNX files give tensors only."
            )
    return inputs


def _usual(quantized: GraphModule) -> Tensor:
    """Noise of the width that the first layer reads."""
    view = ReferenceView(quantized)
    placeholders = [node for node in quantized.graph.nodes if node.op == "placeholder"]
    layers = (view.module(n) for n in quantized.graph.nodes if n.op == "call_module")
    first = next((layer for layer in layers if isinstance(layer, ReferenceLayer)), None)
    if len(placeholders) != 1 or first is None:
        raise ExportError(f"onnx: the model has {len(placeholders)} inputs; give example_inputs.")
    width = first.values.shape[1] * (first.groups if isinstance(first, ReferenceConv2d) else 1)
    shape = (2, width) if isinstance(first, ReferenceLinear) else (2, width, _SIDE, _SIDE)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
