"""The nodes of a graph as JSON, and back; nothing of a file reaches generated code unchecked."""

from collections.abc import Container
from typing import Any

from torch.fx import Graph, Node

from ..passes.tracing.symbolic import OrderedDictTracer
from .checks import check_identifier, check_parameter, check_path, checked, field, shortened
from .json_values import decode_argument, encode
from .targets import ATTRIBUTES, check_method, check_operands, function_from_name, function_name

_GETATTR = "getattr"


def encode_node(node: Node) -> dict[str, Any]:
    """A node as JSON.

    Raises:
        FileFormatError: Its function or a value is not one that a file can hold.
        ValueError: A name or method is not.
    """
    operation, target = node.op, node.target
    if operation == "call_function":
        reads = target is getattr and node.args[1] in ATTRIBUTES
        target = _GETATTR if reads else function_name(target)
        if not reads:
            check_operands(node.target, node.args, node.kwargs)  # type: ignore[arg-type]
    elif operation == "call_method":
        check_method(str(target))
    elif operation == "placeholder":
        check_parameter(target)
    elif operation in ("call_module", "get_attr"):
        check_path(target, "the layer or tensor")
    for key in node.kwargs:
        check_identifier(key, "the argument")
    return {
        "op": operation,
        "name": node.name,
        "target": target,
        "args": encode(node.args),
        "kwargs": encode(node.kwargs),
    }


def decode_graph(entries: list[Any], layers: Container[str]) -> Graph:
    """The inverse of `encode_node` for all nodes of a graph, whose layers have the names `layers`.

    Raises:
        ValueError: An entry is not one that `encode_node` writes.
    """
    graph = Graph(tracer_cls=OrderedDictTracer)
    nodes: dict[str, Node] = {}
    inputs: set[str] = set()
    for index, entry in enumerate(entries):
        operation, target = field(entry, "op", str), field(entry, "target", str)
        name = check_identifier(field(entry, "name", str), "the node")
        args = decode_argument(entry.get("args"), nodes)
        kwargs = decode_argument(entry.get("kwargs"), nodes)
        checked(args, tuple, f"what {name!r} is called with")
        for key in checked(kwargs, dict, f"what {name!r} is called with"):
            check_identifier(key, "the argument")
        if (operation == "output") != (index == len(entries) - 1):
            raise ValueError("its last node, and no other, has to be the output.")
        if operation == "output":
            if len(args) != 1 or kwargs:
                raise ValueError("the output is not one value.")
            graph.output(args[0])
            return graph
        if operation == "placeholder":
            _check_input(target, args, kwargs, inputs)
        function = _checked_target(operation, target, args, kwargs, layers)
        nodes[name] = graph.create_node(operation, function, args, kwargs, name)
        if nodes[name].name != name:  # Taken, or that of something in Python.
            raise ValueError(f"the node {name!r} cannot have this name.")
    raise ValueError("it has no nodes.")


def _check_input(
    target: str, args: tuple[Any, ...], kwargs: dict[str, Any], before: set[str]
) -> None:
    """Check an input and add it to those `before` it."""
    if check_parameter(target) in before:
        raise ValueError(f"there are two inputs {target!r}.")
    if kwargs or len(args) > 1 or any(isinstance(default, Node) for default in args):
        raise ValueError(f"the input {target!r} has a malformed default.")
    before.add(target)


def _checked_target(
    operation: str, target: str, args: tuple[Any, ...], kwargs: dict[str, Any],
    layers: Container[str],
) -> Any:  # fmt: skip
    if operation == "call_function" and target == _GETATTR:
        reads = len(args) == 2 and not kwargs and isinstance(args[0], Node)
        if not reads or args[1] not in ATTRIBUTES:
            raise ValueError(f"it reads an attribute by {shortened(args)}, which is not allowed.")
        return getattr
    if operation == "call_function":
        function = function_from_name(target)
        check_operands(function, args, kwargs)
        return function
    if operation == "call_method":
        check_method(target)
        if not args or not isinstance(args[0], Node):
            raise ValueError(f"the method {target!r} is not called on a node.")
    elif operation == "call_module":
        if check_path(target, "the layer") not in layers:
            raise ValueError(f"there is no layer {target!r}.")
    elif operation == "get_attr":
        check_path(target, "the tensor")
    elif operation != "placeholder":
        raise ValueError(f"the operation {operation!r} is unknown.")
    return target
