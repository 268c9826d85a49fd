"""Give every call of a layer without parameters a copy of its own, named by where it is called."""

import copy

from torch.fx import GraphModule, Node

from .free_names import free_name


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
            name = free_name(graph_module, *_wishes(node))
            graph_module.add_submodule(name, copy.deepcopy(module))
            node.target = name
        first.add(target)
    graph_module.recompile()


def _wishes(node: Node) -> list[str]:
    """The name of the module that `node` calls beside the layer that `node` reads, and itself."""
    own = str(node.target)
    sources = [source for source in node.all_input_nodes[:1] if source.op == "call_module"]
    folders = [str(source.target).rpartition(".")[0] for source in sources]
    return [*(".".join(filter(None, (f, own.rpartition(".")[2]))) for f in folders), own]
