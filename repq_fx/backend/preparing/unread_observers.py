"""Observers of tensors that nothing reads in integers."""

from torch.fx import Node

from ..patterns import FORMS_OF_ONE_TENSOR, INTEGER_FORMS
from ..prepared_view import PreparedView, erase_observer


def drop_unread_observers(view: PreparedView) -> None:
    """Take observers out where no quantized layer reads the tensor, in place.

    It may read it through operations with an integer form. Whatever ends in a softmax, a logarithm
    or the output alone stays in float, and no observer sees its values: an attention mask may hold
    minus infinity.
    """
    read: set[Node] = set()
    for node in reversed(view.graph_module.graph.nodes):
        is_observer = view.observer(node) is not None
        passes_on = is_observer or _has_integer_form(view, node)
        if view.is_layer(node) or (node in read and passes_on):
            read.update(node.all_input_nodes)
        elif is_observer and node.users:  # Without readers it may observe a step in place.
            erase_observer(node)
    view.graph_module.delete_all_unused_submodules()
    view.graph_module.recompile()


def _has_integer_form(view: PreparedView, node: Node) -> bool:
    operation = view.operation(node)
    if operation in FORMS_OF_ONE_TENSOR:  # A quotient of two tensors, say, has none.
        return len(node.all_input_nodes) == 1
    return operation in INTEGER_FORMS
