"""Layers and tensors whose names Python does not take for names."""

from keyword import iskeyword

from torch import nn
from torch.fx import Graph


def avoid_keywords(root: nn.Module, graph: Graph) -> None:
    """Let no node name what generated code cannot, such as ``heads["global"]``, in place.

    Args:
        root: The owner of what the graph names; it gets another name for such a thing.
        graph: Changed in place.
    """
    for node in graph.nodes:
        path = str(node.target)
        if node.op in ("call_module", "get_attr") and any(map(iskeyword, path.split("."))):
            name = "_".join(path.split(".")) + "_"
            while hasattr(root, name):
                name += "_"
            owner, _, attribute = path.rpartition(".")
            setattr(root, name, getattr(root.get_submodule(owner), attribute))
            for reader in graph.find_nodes(op=node.op, target=path):
                reader.target = name
