"""Instructions in a graph: each under a name of its own, then together as one program each."""

import operator

from torch.fx import Graph, GraphModule, Node

from .instructions import Instruction, Int8Program
from .rule import Match

# Apart from the layers that instructions replace, which a graph may call several times.
_FOLDER = "int8_instructions"


class InstructionNames:
    """Adds instructions to `graph_module`, in a folder of their own."""

    def __init__(self, graph_module: GraphModule) -> None:
        self._graph_module = graph_module
        self._names: set[str] = set()

    def add(self, match: Match) -> str:
        """Add the instruction under its name, or one like it; returns the qualified name."""
        name = match.name
        while any(_collide(name, other) for other in self._names):
            name += "_"
        self._names.add(name)
        qualified = f"{_FOLDER}.{name}"
        self._graph_module.add_submodule(qualified, match.instruction)
        return qualified


def _collide(name: str, other: str) -> bool:
    """Whether the names are the same, or one would lie inside the other."""
    return name == other or name.startswith(f"{other}.") or other.startswith(f"{name}.")


def group_into_programs(graph_module: GraphModule) -> GraphModule:
    """Replace the instructions of each stage by one program, in place.

    The stage of an instruction is the number of times that float operations have to run between
    instructions before it can.
    """
    stages = _stages(graph_module)
    graph = Graph(tracer_cls=graph_module.graph._tracer_cls)
    copies: dict[Node, Node] = {}
    members: dict[int, list[Node]] = {}
    for node, stage in stages.items():
        if _is_instruction(graph_module, node):
            members.setdefault(stage, []).append(node)
    for stage in range(max(stages.values()) + 1):
        for node in (n for n in stages if stages[n] == stage):
            if not _is_instruction(graph_module, node):
                copies[node] = graph.node_copy(node, copies.__getitem__)
        if stage in members:
            name = f"program_{stage}" if len(members) > 1 else "program"
            _call_program(graph_module, graph, name, members[stage], copies)
    graph_module.graph = graph
    graph_module.delete_all_unused_submodules()
    graph.lint()
    graph_module.recompile()
    return graph_module


def _is_instruction(graph_module: GraphModule, node: Node) -> bool:
    return node.op == "call_module" and isinstance(
        graph_module.get_submodule(str(node.target)), Instruction
    )


def _stages(graph_module: GraphModule) -> dict[Node, int]:
    """Of each node; in a stage, float operations come before instructions."""
    stages: dict[Node, int] = {}
    for node in graph_module.graph.nodes:
        waits = 0 if _is_instruction(graph_module, node) else 1
        stages[node] = max(
            (stages[i] + waits * _is_instruction(graph_module, i) for i in node.all_input_nodes),
            default=0,
        )
    # Also behind what nothing reads, such as a check of a size.
    stages[graph_module.graph.output_node()] = max(stages.values()) + 1
    return stages


def _call_program(
    graph_module: GraphModule,
    graph: Graph,
    name: str,
    members: list[Node],
    copies: dict[Node, Node],
) -> None:
    """Add the program of `members` to `graph_module`, and its call to `graph` and `copies`."""
    inside = set(members)
    inputs = dict.fromkeys(i for node in members for i in node.all_input_nodes if i not in inside)
    outputs = [node for node in members if not inside.issuperset(node.users)]
    graph_module.add_submodule(name, Int8Program(_body(graph_module, members, [*inputs], outputs)))
    call = graph.call_module(name, tuple(copies[node] for node in inputs))
    for index, node in enumerate(outputs):
        single = len(outputs) == 1
        copies[node] = call if single else graph.call_function(operator.getitem, (call, index))


def _body(
    graph_module: GraphModule, members: list[Node], inputs: list[Node], outputs: list[Node]
) -> GraphModule:
    graph = Graph()
    copies = {node: graph.placeholder(node.name) for node in inputs}
    instructions = {}
    for node in members:
        name = str(node.target).removeprefix(f"{_FOLDER}.")
        instructions[name] = graph_module.get_submodule(str(node.target))
        copies[node] = graph.call_module(name, tuple(copies[i] for i in node.args))  # type: ignore[index]
    results = tuple(copies[node] for node in outputs)
    graph.output(results if len(results) > 1 else results[0])
    return GraphModule(instructions, graph, "Int8Instructions")
