"""The table from operators to transfer functions, which say what they do to affine values."""

import torch

from ..tracing.plain_layers import layer_type
from . import (
    arithmetic_rules,
    border_rules,
    concat_rules,
    conversion_rules,
    layer_rules,
    layout_rules,
)
from .value import OPAQUE, AffineValue, Call, Rule, called_module

_TABLES = (
    layer_rules, arithmetic_rules, border_rules, layout_rules, concat_rules, conversion_rules,
)  # fmt: skip
_MODULE_RULES = {**layer_rules.MODULE_RULES, **border_rules.MODULE_RULES}
_FUNCTION_RULES = {key: rule for table in _TABLES for key, rule in table.FUNCTION_RULES.items()}
_METHOD_RULES = {key: rule for table in _TABLES for key, rule in table.METHOD_RULES.items()}
_TAKES_SIZES = {torch.ops.aten.expand.default, "expand"}


def apply_rule(call: Call) -> AffineValue:
    """The value of a node from the values of its operands, without its view of itself."""
    node = call.node
    rule: Rule | None = None
    if "out" in node.kwargs:
        return OPAQUE  # overwrites yet another tensor
    if node.target not in _TAKES_SIZES and not all(map(call.is_tensor, node.all_input_nodes)):
        return OPAQUE  # depends on a size or another number that is known only when the graph runs
    if node.op == "call_module":
        module = called_module(call.graph_module, node)
        rule = None if module is None else _MODULE_RULES.get(layer_type(module))
    elif node.op == "call_function" and callable(node.target):
        rule = _FUNCTION_RULES.get(node.target)
    elif node.op == "call_method":
        rule = _METHOD_RULES.get(str(node.target))
    return OPAQUE if rule is None else rule(call)
