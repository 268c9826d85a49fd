"""Finding steps that compute each element of a tensor from the same element of another."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..graph.constants import Constants
from ..graph.mutation import is_own, mutated_operand, operator_name

# Those that quantization has no rule of its own for.
_RARE_LAYERS = (
    nn.SELU, nn.CELU, nn.LogSigmoid, nn.Softsign, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink,
    nn.Threshold,
)  # fmt: skip
_RARE_FUNCTIONS = frozenset(
    ("abs", "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "sqrt", "rsqrt", "reciprocal",
     "square", "pow", "clamp", "clip", "clamp_min", "clamp_max", "selu", "celu", "logsigmoid",
     "softsign", "tanhshrink", "hardshrink", "softshrink", "threshold", "erf", "erfc", "sin", "cos",
     "sinh", "cosh", "atan", "sign", "floor", "ceil", "round", "trunc")
)  # fmt: skip
# What decides between two values, of which the decision itself is no number.
_DECISIONS = frozenset(
    ("gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "greater_equal", "less_equal",
     "not_equal", "logical_and", "logical_or", "logical_not", "and", "or", "invert", "bitwise_and",
     "bitwise_or", "bitwise_not")
)  # fmt: skip
_LAYERS = (
    *_RARE_LAYERS, nn.Identity, nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.PReLU, nn.SiLU,
    nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.GELU, nn.Tanh, nn.Mish, nn.Softplus, nn.ELU,
    nn.BatchNorm2d,
)  # fmt: skip
_FUNCTIONS = _RARE_FUNCTIONS | _DECISIONS | frozenset(
    ("iadd", "isub", "imul", "itruediv", "add", "sub", "mul", "div", "truediv", "true_divide",
     "subtract", "multiply", "divide", "neg", "negative", "minimum", "maximum", "relu", "relu6",
     "hardtanh", "leaky_relu", "prelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "gelu",
     "tanh", "mish", "softplus", "elu", "rsub", "where", "masked_fill", "heaviside", "zeros_like",
     "ones_like", "full_like", "float", "to", "type_as")
)  # fmt: skip


@dataclass(frozen=True)
class Function:
    """The `steps`, in graph order, that compute the last of them from `source` and constants."""

    source: Node
    steps: tuple[Node, ...]
    channels: int | None


class FunctionFinder:
    """Finds the functions of a graph.

    Args:
        graph_module: The graph; not changed.
        likes: What each tensor is like, as `LikeRecorder` notes it.
        constants: Of the graph.
        kept: The ids of modules that are no steps.
    """

    def __init__(
        self,
        graph_module: GraphModule,
        likes: Mapping[Node, Tensor],
        constants: Constants,
        kept: Container[int],
    ) -> None:
        self._graph_module = graph_module
        self._likes, self._constants, self._kept = likes, constants, kept

    def functions(self) -> list[Function]:
        """Those of more than one step, or with a tensor of parameters, in the order of their ends.

        Two may share steps, which are then computed twice.
        """
        sources = self._sources()
        found = []
        for end, source in sources.items():
            if end is source or any(_follows(user, end, sources) for user in end.users):
                continue
            if self._likes[end].dtype != self._likes[source].dtype:
                continue  # A decision, which something else reads.
            steps = _steps(end, sources)
            work = [step for step in steps if not self._is_identity(step)]
            if work and (len(steps) > 1 or self._is_better_a_layer(end)):
                channels = filter(None, map(self._channels, steps))
                found.append(Function(source, steps, max(channels, default=None)))
        return found

    def _is_identity(self, step: Node) -> bool:
        is_layer = step.op == "call_module"
        return is_layer and type(self._layer(step)) is nn.Identity

    def _layer(self, call: Node) -> nn.Module:
        return self._graph_module.get_submodule(str(call.target))

    def _is_better_a_layer(self, step: Node) -> bool:
        """Whether a single step reads several tensors, or quantization has no rule for it."""
        if sum(isinstance(argument, Node) for argument in step.args) > 1:
            return True
        if step.op == "call_module":
            return type(self._layer(step)) in _RARE_LAYERS
        return operator_name(step).rstrip("_") in _RARE_FUNCTIONS

    def _sources(self) -> dict[Node, Node]:
        """Of each computed tensor, what it is a function of: itself where nothing else serves.

        A step that something else reads too is the source of what follows it.
        """
        ends: set[Node] = set()
        while True:
            sources: dict[Node, Node] = {}
            for node in self._graph_module.graph.nodes:
                if node in self._likes and node not in self._constants:
                    sources[node] = self._source(node, sources, ends)
            split = (node for node in sources if node not in ends and _is_split(node, sources))
            first = next(split, None)  # What follows may then be part of another function.
            if first is None:
                return sources
            ends.add(first)

    def _source(self, node: Node, sources: dict[Node, Node], ends: set[Node]) -> Node:
        operands = [n for n in node.all_input_nodes if n not in self._constants]
        found = {n if n in ends else sources.get(n) for n in operands}
        source = found.pop() if len(found) == 1 else None
        return source if source is not None and self._is_step(node, source) else node

    def _is_step(self, node: Node, source: Node) -> bool:
        """Whether `node` treats each element of what it makes of `source` alone."""
        result, given = self._likes[node], self._likes[source]
        if result.shape != given.shape or result.dtype not in (given.dtype, torch.bool):
            return False
        if not given.is_floating_point() or self._overwrites(node, source):
            return False
        if node.op == "call_module":
            layer = self._layer(node)
            is_free = not layer.training and id(layer) not in self._kept
            if type(layer) not in _LAYERS or not is_free or self._is_folded(node, layer):
                return False
        elif operator_name(node).rstrip("_") not in _FUNCTIONS or "out" in node.kwargs:
            return False
        images = given.dim() == 4
        return all(
            shape.numel() == 1 or (images and shape.numel() == given.shape[1] == shape[-3])
            for shape in self._constant_shapes(node)
        )

    def _is_folded(self, node: Node, layer: nn.Module) -> bool:
        """Whether `prepare_fx` makes a norm part of the convolution before it."""
        before = node.all_input_nodes[0]
        return isinstance(layer, nn.BatchNorm2d) and is_own(self._graph_module, before)

    def _overwrites(self, node: Node, source: Node) -> bool:
        """Whether a step would change what others can see."""
        is_source = mutated_operand(self._graph_module, node) is source
        return is_source and not is_own(self._graph_module, source)

    def _channels(self, step: Node) -> int | None:
        """How many channels a step tells apart, if it does."""
        return max((s.numel() for s in self._constant_shapes(step) if s.numel() > 1), default=None)

    def _constant_shapes(self, step: Node) -> list[torch.Size]:
        """Of the tensors in a step, as they stand beside ``[N, C, H, W]``."""
        if step.op == "call_module":
            layer = self._layer(step)
            return [torch.Size((*tensor.shape, 1, 1)) for tensor in _tensors_of(layer)]
        known = (self._constants.known(n) for n in step.all_input_nodes if n in self._constants)
        tensors = [value for value in known if isinstance(value, Tensor)]
        if operator_name(step) == "prelu":  # As the layer has it.
            return [torch.Size((*tensor.shape, 1, 1)) for tensor in tensors]
        return [torch.Size((1, 1, *tensor.shape)) for tensor in tensors]


def _tensors_of(layer: nn.Module) -> list[Tensor]:
    if isinstance(layer, nn.BatchNorm2d):
        return [torch.empty(layer.num_features, device="meta")]
    return list(layer.parameters())


def _follows(user: Node, step: Node, sources: dict[Node, Node]) -> bool:
    """Whether `user` is a later step of the function that `step` is one of."""
    return user is not sources.get(user, user) and sources[user] is sources[step]


def _is_split(node: Node, sources: dict[Node, Node]) -> bool:
    """Whether a step has readers beside later steps of its function."""
    follows = [_follows(user, node, sources) for user in node.users]
    return node is not sources[node] and any(follows) and not all(follows)


def _steps(end: Node, sources: dict[Node, Node]) -> tuple[Node, ...]:
    """All steps from the source of `end` to it, in graph order."""
    found, pending = {end}, [end]
    while pending:
        node = pending.pop()
        before = {n for n in node.all_input_nodes if n in sources and _follows(node, n, sources)}
        new = {n for n in before if n is not sources[n]} - found
        found |= new
        pending += new
    return tuple(node for node in sources if node in found)
