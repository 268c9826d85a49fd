"""What of a lowered network still runs in float."""

import operator
from collections import Counter

from torch.fx import GraphModule, Node

from ..lowering.int8.instructions import Int8Program


def float_operations(lowered: GraphModule) -> dict[str, int]:
    """The operations between the integer programs of a network, and how often each is called.

    Args:
        lowered: The result of ``repq_fx.convert(prepared, "int8")`` or of `repq_fx.load`.

    Returns:
        Counts by the name of the layer's type, the function or the method; empty for a network
        that is one program.

    Example:
        >>> int8 = repq_fx.quantize(model, images)  # doctest: +SKIP
        >>> repq_fx.analysis.float_operations(int8)  # doctest: +SKIP
        {'softmax': 1}
    """
    names = (operation_name(lowered, node) for node in lowered.graph.nodes)
    return dict(Counter(name for name in names if name is not None))


def operation_name(lowered: GraphModule, node: Node) -> str | None:
    """Of a float operation of `lowered`; None for what computes nothing in float."""
    if node.op in ("placeholder", "get_attr", "output"):
        return None
    if node.op == "call_module":
        layer = lowered.get_submodule(str(node.target))
        return None if isinstance(layer, Int8Program) else type(layer).__name__
    if node.op == "call_method":
        return str(node.target)
    if node.target is operator.getitem and _is_program(lowered, node.all_input_nodes[0]):
        return None  # One of its results.
    return str(getattr(node.target, "__name__", node.target))


def _is_program(lowered: GraphModule, node: Node) -> bool:
    return node.op == "call_module" and isinstance(
        lowered.get_submodule(str(node.target)), Int8Program
    )
