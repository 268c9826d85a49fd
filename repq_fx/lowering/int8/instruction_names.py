"""Names of instructions in the graph module that is being lowered."""

from torch.fx import GraphModule

from .rule import Match

# Apart from the layers that instructions replace, which a graph may call several times.
FOLDER = "int8_instructions"


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
        qualified = f"{FOLDER}.{name}"
        self._graph_module.add_submodule(qualified, match.instruction)
        return qualified


def _collide(name: str, other: str) -> bool:
    """Whether the names are the same, or one would lie inside the other."""
    return name == other or name.startswith(f"{other}.") or other.startswith(f"{name}.")
