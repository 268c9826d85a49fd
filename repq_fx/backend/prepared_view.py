"""What every step asks of a graph with observers: which layer, which observer, which readers."""

import copy
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from torch import nn
from torch.fx import GraphModule, Node

from .._torch_ao import is_prepared
from ..errors import ConversionError
from ..quant import ActivationObserver, LayerPlan, WeightObserver


class PreparedView:
    """A graph with observers, and the plans of the layers in it that are to be quantized.

    It does not matter who has put the observers there: only calls of modules count. Nodes may also
    be copies in a part of the graph: they are known by what they call. A step that changes the
    graph leaves a new view, for some facts are found once.

    Args:
        graph_module: The graph.
        plans: Of layers, by qualified name; all other layers stay in float.
    """

    def __init__(self, graph_module: GraphModule, plans: Mapping[str, LayerPlan]) -> None:
        self.graph_module = graph_module
        self.plans = dict(plans)

    @staticmethod
    def of(prepared: nn.Module, step: str) -> "PreparedView":
        """The view of what came from `prepare_fx`, with the plans that its qconfigs carry.

        Args:
            prepared: A graph with observers.
            step: Who asks, for messages.

        Raises:
            ConversionError: `prepared` did not come from `prepare_fx`.
        """
        if not isinstance(prepared, GraphModule) or not is_prepared(prepared):
            raise ConversionError(
                f"{step}: expected a model prepared by prepare_fx, got {type(prepared).__name__}."
            )
        named = prepared.named_modules(remove_duplicate=False)
        plans = {name: _plan_in_qconfig(module) for name, module in named}
        return PreparedView(prepared, {name: plan for name, plan in plans.items() if plan})

    def module(self, node: Node) -> nn.Module | None:
        """The module that `node` calls, or None."""
        if node.op != "call_module":
            return None
        return self.graph_module.get_submodule(str(node.target))

    def operation(self, node: Node) -> object:
        """The type of the module, the function or the name of the method that `node` calls."""
        if node.op == "call_module":
            return type(self.module(node))
        return node.target if node.op in ("call_function", "call_method") else None

    def observer(self, node: Node) -> ActivationObserver | None:
        """The observer that `node` calls, or None."""
        module = self.module(node)
        return module if isinstance(module, ActivationObserver) else None

    def plan(self, node: Node) -> LayerPlan | None:
        """The plan of the layer that `node` calls, or None."""
        return self.plans.get(str(node.target)) if node.op == "call_module" else None

    def is_layer(self, node: Node) -> bool:
        """Whether `node` calls a layer that is to be quantized."""
        return self.plan(node) is not None

    @property
    def layers(self) -> dict[Node, LayerPlan]:
        """The nodes that call layers that are to be quantized, in order, and the layers' plans."""
        plans = {node: self.plan(node) for node in self.graph_module.graph.nodes}
        return {node: plan for node, plan in plans.items() if plan is not None}

    @property
    def observers(self) -> dict[Node, ActivationObserver]:
        """The nodes that call observers, in order, and what they call."""
        called = {node: self.observer(node) for node in self.graph_module.graph.nodes}
        return {node: observer for node, observer in called.items() if observer is not None}

    def first_name(self, name: str) -> str:
        """The first name of what is called `name`: an observer of two tensors has two."""
        return self._first_names[self.graph_module.get_submodule(name)]

    @cached_property
    def _first_names(self) -> dict[nn.Module, str]:
        return {module: name for name, module in self.graph_module.named_modules()}

    @cached_property
    def read(self) -> frozenset[str]:
        """Names of the nodes that a quantized layer depends on; the others stay in float."""
        read: set[Node] = set()
        for node in reversed(self.graph_module.graph.nodes):
            if node in read or self.is_layer(node):
                read.update(node.all_input_nodes)
        return frozenset(node.name for node in read)

    @cached_property
    def unshared(self) -> frozenset[str]:
        """Names of the observers' nodes whose observer stands nowhere else."""
        observers = self.observers
        calls = Counter(observers.values())
        return frozenset(n.name for n, observer in observers.items() if calls[observer] == 1)

    @cached_property
    def of_inputs(self) -> frozenset[str]:
        """Names of the observers' nodes that see inputs of the network, as they come."""
        return frozenset(
            node.name
            for node in self.observers
            if any(source.op == "placeholder" for source in node.all_input_nodes)
        )

    def without_observers(self) -> GraphModule:
        """The float network; its layers are those of the graph, not copies."""
        graph = copy.deepcopy(self.graph_module.graph)
        for node in list(graph.nodes):
            if self.observer(node) is not None:
                erase_observer(node)
        return GraphModule(self.graph_module, graph)


def _plan_in_qconfig(module: nn.Module) -> LayerPlan | None:
    qconfig: Any = getattr(module, "qconfig", None)
    # A subclass may compute something else, and torch.ao leaves it as it is.
    if qconfig is None or type(module) not in (nn.Conv2d, nn.Linear):
        return None
    observer = qconfig.weight()
    return observer.plan if isinstance(observer, WeightObserver) else None


def erase_observer(observer: Node) -> None:
    """Let all that read `observer` read what it observes."""
    observer.replace_all_uses_with(observer.all_input_nodes[0])
    observer.graph.erase_node(observer)
