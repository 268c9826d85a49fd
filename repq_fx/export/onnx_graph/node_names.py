"""Names of nodes after the modules they come from, and of sizes that are free."""

import re
from typing import Any

_SCOPES = "pkg.torch.onnx.name_scopes"
_NO_MODULE = {"", "_empty_nn_module_stack_from_metadata_hook"}  # The latter of sizes.
_OF_GRIDS = ("quantize_per_tensor", "dequantize_per_tensor")
_SYMBOL = re.compile(r"[A-Za-z_]\w*")


def name_nodes(graph: Any) -> None:
    """Call each node of an ``onnx_ir.Graph`` as its module and operator, such as ``stem/Conv``.

    What no module calls is called as the node of the quantized graph, and what belongs to a tensor,
    as quantizing it, after the node that makes it. What torch noted of nodes, such as places in the
    files of who exports, is removed.
    """
    owners: dict[str, str] = {}
    taken: set[str] = set()
    for node in graph:
        owner = _owner(node, owners)
        owners |= {value.name: owner for value in node.outputs}
        node.name = _free_name(f"{owner}/{node.op_type}", taken)
        node.metadata_props.clear()


def _owner(node: Any, owners: dict[str, str]) -> str:
    *modules, own = _scopes(node)
    if modules and modules[-1] not in _NO_MODULE:
        return modules[-1]
    if own.startswith(_OF_GRIDS):
        source: str = node.inputs[0].name
        return owners.get(source, source)
    return own


def _scopes(node: Any) -> list[str]:
    """The modules around a node, from the outermost, and its name in the quantized graph."""
    return re.findall("'([^']*)'", node.metadata_props.get(_SCOPES, "")) or [str(node.name)]


def _free_name(name: str, taken: set[str]) -> str:
    count, free = 1, name
    while free in taken:
        count, free = count + 1, f"{name}_{count}"
    taken.add(free)
    return free


def name_sizes(model: Any) -> None:
    """Call the free sizes of an ``onnx.ModelProto`` batch, height and width, or by their input.

    Of sizes that torch found to be fixed it writes the digits as a name; they become numbers.
    """
    known: dict[str, str] = {}
    for value in model.graph.input:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            symbol = _SYMBOL.search(size.dim_param)
            if symbol is not None:
                known.setdefault(symbol.group(), _size_name(value, axis))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param.isdecimal():
                size.dim_value = int(size.dim_param)
            elif size.dim_param:
                size.dim_param = _SYMBOL.sub(lambda m: known.get(m[0], m[0]), size.dim_param)


def _size_name(value: Any, axis: int) -> str:
    if axis == 0:
        return "batch"
    is_image = len(value.type.tensor_type.shape.dim) == 4
    names = {2: "height", 3: "width"} if is_image else {}
    return names.get(axis, f"{value.name}_{axis}")
