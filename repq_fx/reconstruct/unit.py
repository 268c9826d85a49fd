"""Parts of a network that can be run, and trained, on their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node


@dataclass(frozen=True)
class Unit:
    """Nodes of a graph between tensors that can be stored.

    Attributes:
        name: The qualified name of its first layer, and of its last if there are several.
        nodes: In the order of the graph.
        inputs: Names of the nodes outside whose values the unit reads.
        outputs: Names of its nodes whose values are read outside; at least one.
        layers: Qualified names of the layers that are quantized.
        stage: Units of one number follow each other at one resolution, each reading the one before
            it alone.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[str, ...]
    stage: int

    def module(self, modules: Mapping[str, nn.Module | Tensor]) -> GraphModule:
        """The unit as a module of its own, which returns a tuple of its outputs.

        Args:
            modules: What stands under each qualified name that its nodes call or get.
        """
        return part_of_graph(self.nodes, self.inputs, self.outputs, modules)


def part_of_graph(
    nodes: Sequence[Node],
    inputs: Sequence[str],
    outputs: Sequence[str],
    modules: Mapping[str, nn.Module | Tensor],
) -> GraphModule:
    """A module that computes `outputs` from `inputs` by copies of `nodes`, under their names."""
    graph = Graph()
    copies = {name: graph.placeholder(name) for name in inputs}
    for node in nodes:
        copies[node.name] = graph.node_copy(node, lambda old: copies[old.name])
    graph.output(tuple(copies[name] for name in outputs))
    graph.lint()
    used = {str(n.target) for n in nodes if n.op in ("call_module", "get_attr")}
    return GraphModule({name: modules[name] for name in sorted(used)}, graph)


def tail_of_stage(
    unit: Unit, units: Sequence[Unit], modules: Mapping[str, nn.Module | Tensor]
) -> tuple[GraphModule | None, int]:
    """The units of the same stage behind `unit`, as a function of its outputs; None at the end.

    Returns:
        The function, and how many outputs it has.
    """
    behind = [other for other in units if other.stage == unit.stage]
    behind = behind[behind.index(unit) + 1 :]
    if not behind:
        return None, 0
    nodes = dict.fromkeys(node for other in behind for node in other.nodes)
    ends = behind[-1].outputs
    return part_of_graph(list(nodes), unit.outputs, ends, modules), len(ends)


def called_values(model: nn.Module, graph: Graph) -> dict[str, nn.Module | Tensor]:
    """What the nodes of `graph` call or get, by qualified name."""
    values: dict[str, nn.Module | Tensor] = {}
    for node in graph.nodes:
        name = str(node.target)
        if node.op == "call_module":
            values[name] = model.get_submodule(name)
        elif node.op == "get_attr":
            parent, _, attribute = name.rpartition(".")
            values[name] = getattr(model.get_submodule(parent), attribute)
    return values
