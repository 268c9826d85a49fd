"""Keep what a graph reads of a quantized layer, beside calling it, as it was."""

from torch.fx import Node

from ..backend.prepared_view import PreparedView
from ..passes.graph.module_names import free_name

_QUESTIONS = ("dtype", "device")
_CONVERSIONS = ("to", "type_as")


def separate_float_reads(view: PreparedView) -> None:
    """Give each parameter that is read of a layer that will be quantized a place of its own.

    A quantized layer has no ``weight`` any more, and before that the weight is rounded in its
    place; a graph that multiplies by it, say, goes on with the float one. Where only its type or
    its device is asked for, an empty tensor answers, which costs nothing and moves with the model.

    Args:
        view: Of a network that the caller owns; changed in place.
    """
    prepared = view.graph_module
    names: dict[tuple[str, bool], str] = {}
    for node in prepared.graph.nodes:
        if node.op != "get_attr":
            continue
        owner, _, own_name = str(node.target).rpartition(".")
        if owner not in view.plans:
            continue
        key = (str(node.target), all(_asks_for_type(user, node) for user in node.users))
        if key not in names:
            names[key] = free_name(prepared, f"{owner}_{own_name}".replace(".", "_"))
            tensor = getattr(prepared.get_submodule(owner), own_name).detach()
            prepared.register_buffer(names[key], tensor.new_empty(0) if key[1] else tensor.clone())
        node.target = names[key]
    if names:
        prepared.recompile()


def _asks_for_type(user: Node, tensor: Node) -> bool:
    """Whether `user` depends only on the dtype and the device of `tensor`."""
    if user.op == "call_function" and user.target is getattr:
        return user.args[1] in _QUESTIONS
    is_conversion = user.op == "call_method" and user.target in _CONVERSIONS
    return is_conversion and user.args[0] is not tensor
