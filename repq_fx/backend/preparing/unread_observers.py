"""Observers of tensors that nothing reads in integers."""

from torch.fx import GraphModule, Node

from ...quant import ActivationObserver
from ..patterns import FORMS_OF_ONE_TENSOR, INTEGER_FORMS
from ..quantized_layer import is_quantized_layer


def drop_unread_observers(prepared: GraphModule) -> None:
    """Take observers out where no quantized layer reads the tensor, in place.

    It may read it through operations with an integer form. Whatever ends in a softmax, a logarithm
    or the output alone stays in float, and no observer sees its values: an attention mask may hold
    minus infinity.
    """
    read: set[Node] = set()
    for node in reversed(prepared.graph.nodes):
        is_observer = observer_of(prepared, node) is not None
        passes_on = is_observer or _has_integer_form(prepared, node)
        if is_quantized_layer(prepared, node) or (node in read and passes_on):
            read.update(node.all_input_nodes)
        elif is_observer and node.users:  # Without readers it may observe a step in place.
            erase_observer(node)
    prepared.delete_all_unused_submodules()
    prepared.recompile()


def _has_integer_form(prepared: GraphModule, node: Node) -> bool:
    operation = operation_of(prepared, node)
    if operation in FORMS_OF_ONE_TENSOR:  # A quotient of two tensors, say, has none.
        return len(node.all_input_nodes) == 1
    return operation in INTEGER_FORMS


def erase_observer(observer: Node) -> None:
    """Let all that read `observer` read what it observes."""
    observer.replace_all_uses_with(observer.all_input_nodes[0])
    observer.graph.erase_node(observer)


def observer_of(prepared: GraphModule, node: Node) -> ActivationObserver | None:
    """The observer that `node` calls, or None."""
    module = prepared.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, ActivationObserver) else None


def operation_of(prepared: GraphModule, node: Node) -> object:
    """The type of the module, the function or the name of the method that `node` calls."""
    if node.op == "call_module":
        return type(prepared.get_submodule(str(node.target)))
    return node.target if node.op in ("call_function", "call_method") else None
