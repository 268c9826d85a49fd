"""Give every call of a layer without parameters a copy of its own, named by where it is called."""

import copy

from torch.fx import GraphModule, Node


def unshare_modules(graph_module: GraphModule) -> None:
    """Let no two calls share a module that has no tensors, in place.

    Many models make one activation and hand it to all their blocks. The graph then calls it by the
    name of the first, and whoever asks for something else in one block by its name gets it in all.
    A copy is named as a neighbour of the layer that it reads, where there is one.
    """
    first: set[str] = set()
    for node in list(graph_module.graph.nodes):
        if node.op != "call_module":
            continue
        target = str(node.target)
        module = graph_module.get_submodule(target)
        if any(True for _ in (*module.parameters(), *module.buffers())):
            continue
        if target in first:
            name = _free_name(graph_module, _neighbour(node))
            graph_module.add_submodule(name, copy.deepcopy(module))
            node.target = name
        first.add(target)
    graph_module.recompile()


def _neighbour(node: Node) -> str:
    """The name of the module that `node` calls, but beside the layer that `node` reads."""
    own = str(node.target)
    source = node.all_input_nodes[0]
    if source.op != "call_module":
        return own
    folder, _, _ = str(source.target).rpartition(".")
    return ".".join(filter(None, (folder, own.rpartition(".")[2])))


def _free_name(graph_module: GraphModule, name: str) -> str:
    taken = {existing for existing, _ in graph_module.named_modules()}
    count = 0
    candidate = name
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
