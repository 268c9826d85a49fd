"""Which modules are layers of torch, and which subclasses are but such layers."""

from collections.abc import Collection

from torch import nn
from torch.fx import GraphModule
from torch.nn.utils.parametrize import is_parametrized

Leaves = Collection[str | type[nn.Module]]
_TENSORS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
_HARMLESS = {
    "__init__", "__module__", "__doc__", "__annotations__", "__annotate_func__", "__dict__",
    "__weakref__", "__static_attributes__", "__firstlineno__", "__qualname__", "__repr__",
    "__parameters__", "__orig_bases__", "__annotations_cache__", "extra_repr", "reset_parameters",
}  # fmt: skip


def is_layer(module: nn.Module) -> bool:
    """Whether calling `module` runs the forward of a layer in `torch.nn`.

    A subclass, or an instance, that brings its own forward is traced through.
    """
    if isinstance(module, nn.Sequential) or "forward" in vars(module):
        return False
    # Generated classes, such as that of a GraphModule, have a forward without a home.
    return (type(module).forward.__module__ or "").startswith("torch.nn.")


def torch_layer(kind: type[nn.Module]) -> type[nn.Module] | None:
    """The class of `torch.nn` that `kind` is but for its constructor and its name, or None."""
    own: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.startswith("torch.nn.modules."):
            # What the layer knows nothing of does not change what it computes.
            changed = own.intersection({*dir(base), *_TENSORS})
            is_plain = issubclass(base, nn.Module) and changed <= _HARMLESS
            return base if is_plain and base is not nn.Module else None
        own.update(vars(base))
    return None


def layer_type(module: nn.Module) -> type[nn.Module]:
    """The layer of torch that a module is; a subclass may compute anything, so it is none.

    `torch.nn.utils.parametrize` makes a subclass that is: it computes the tensors. So is one that
    only sets the arguments of the layer, and whose forward is torch's.
    """
    kind = type(module).__mro__[1] if is_parametrized(module) else type(module)
    return torch_layer(kind) or kind


def use_plain_layers(graph_module: GraphModule, leaves: Leaves = ()) -> None:
    """Give each called layer the class of `torch.nn` that it is, in place.

    A subclass that only fixes the arguments of a convolution computes what the convolution does,
    but whoever asks for the class of a layer, as patterns for quantization do, does not know that.

    Args:
        graph_module: A graph whose modules nobody else holds.
        leaves: As for `trace`; these stay what they are.
    """
    for node in graph_module.graph.find_nodes(op="call_module"):
        module = graph_module.get_submodule(str(node.target))
        if str(node.target) in leaves or type(module) in leaves or is_parametrized(module):
            continue
        module.__class__ = torch_layer(type(module)) or type(module)
