"""Normalizations that a model writes as a function, or as several steps, become layers."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ..graph.constants import Constants
from ..graph.example import Inputs, run
from ..graph.module_names import free_name
from ..graph.mutation import mutated_operand, operator_name
from ..graph.run import LikeRecorder
from .function_body import function_body

_STEPS = frozenset(
    ("add", "sub", "mul", "div", "truediv", "rsub", "pow", "square", "sqrt", "rsqrt", "reciprocal",
     "mean", "var", "iadd", "isub", "imul", "itruediv")
)  # fmt: skip
_TOLERANCE = 1e-6
_LARGEST_EPSILON = 0.1
# Of `torch.nn.functional.batch_norm`.
_PARAMETERS = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum",
               "eps")  # fmt: skip
_TENSORS = ("running_mean", "running_var", "weight", "bias")


@torch.no_grad()
def gather_norms(graph_module: GraphModule, inputs: Inputs) -> None:
    """Call an `nn.LayerNorm` in place of the steps that compute it over the last axis, in place.

    As networks have it that come from another framework: ``d = x - x.mean(-1, keepdim=True)``, then
    ``d / (d.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight + bias``. It is recognised by its
    values in float64, so that it does not matter how it is written. Nothing inside is rounded then,
    nor are weight and bias.

    Args:
        graph_module: A graph in evaluation mode that the caller owns.
        inputs: Its example.
    """
    if not any(map(_is_mean, graph_module.graph.nodes)):
        return
    likes: dict[Node, Tensor] = {}
    run(LikeRecorder(graph_module, likes).run, inputs)
    constants = Constants(graph_module, likes)
    found = False
    for node in list(graph_module.graph.nodes):
        source = _averaged(node, likes)
        if source is None or not node.users:  # What nothing reads was part of one found before.
            continue
        for steps in _candidates(graph_module, source, likes, constants):
            norm = _norm(graph_module, source, steps, likes, constants)
            if norm is not None:
                call = _put_in_place(graph_module, source, steps[-1], norm)
                likes[call] = likes[steps[-1]]
                found = True
                break
    if found:
        graph_module.graph.eliminate_dead_code()
        graph_module.delete_all_unused_submodules()
        graph_module.recompile()


def _is_mean(node: Node) -> bool:
    return node.op in ("call_function", "call_method") and operator_name(node) == "mean"


def _averaged(node: Node, likes: dict[Node, Tensor]) -> Node | None:
    """The tensor of which `node` is the mean over the last axis, if it is one."""
    source = node.args[0] if _is_mean(node) and node.args else None
    if not isinstance(source, Node) or source not in likes or node not in likes:
        return None
    shape = likes[source].shape
    is_last = len(shape) > 1 and shape[-1] > 1 and likes[node].shape == (*shape[:-1], 1)
    return source if is_last and likes[source].is_floating_point() else None


def _candidates(
    graph_module: GraphModule, source: Node, likes: dict[Node, Tensor], constants: Constants
) -> Iterator[tuple[Node, ...]]:
    """Steps from `source` to a tensor of its shape of which nothing else reads a part.

    The longest come first: weight and bias are the last two.
    """
    followers = [source]
    for node in graph_module.graph.nodes:
        operands = [n for n in node.all_input_nodes if n not in constants]
        is_step = node.op in ("call_function", "call_method") and operator_name(node) in _STEPS
        is_new = mutated_operand(graph_module, node) is None
        if operands and is_step and is_new and node in likes and set(operands) <= set(followers):
            followers.append(node)
    for end in reversed(followers[1:]):
        if likes[end].shape != likes[source].shape or likes[end].dtype != likes[source].dtype:
            continue
        steps = {end}
        for node in reversed(followers[1:]):
            if any(user in steps for user in node.users):
                steps.add(node)
        inner = steps - {end}
        if all(steps.issuperset(node.users) for node in inner):
            yield tuple(node for node in followers if node in steps)


def _norm(
    graph_module: GraphModule,
    source: Node,
    steps: tuple[Node, ...],
    likes: dict[Node, Tensor],
    constants: Constants,
) -> nn.LayerNorm | None:
    """The layer that computes what `steps` do, if there is one."""
    if sum(operator_name(step) in ("mean", "var") for step in steps) != 2:
        return None
    body = function_body(graph_module, source, steps, constants).double()
    size = likes[source].shape[-1]
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(4 * size, *likes[source].shape[1:], generator=generator).double()
    # Of all sizes: a small variance shows what is added to it.
    values = values * torch.logspace(-4, 2, len(values)).double().view(
        -1, *[1] * (values.dim() - 1)
    )
    try:
        results = body(values).flatten(0, -2)
    except RuntimeError:  # Steps that only fit the number of images of the example.
        return None
    rows = values.flatten(0, -2)
    for epsilon in _epsilons(steps, constants):
        normal = F.layer_norm(rows, (size,), eps=epsilon)
        weight = (normal * results).sum(0) - normal.sum(0) * results.mean(0)
        weight /= normal.square().sum(0) - normal.sum(0) * normal.mean(0)
        bias = results.mean(0) - weight * normal.mean(0)
        errors = (normal * weight + bias - results).abs().amax(0)
        if (errors <= _TOLERANCE * results.abs().amax(0)).all():  # So that NaN is refused.
            return _layer_norm(weight, bias, epsilon, likes[source].dtype)
    return None


def _epsilons(steps: tuple[Node, ...], constants: Constants) -> Iterator[float]:
    """The small numbers among the steps."""
    for step in steps:
        for operand in step.args:
            value: Any = operand
            if isinstance(operand, Node) and operand in constants:
                value = constants.known(operand)
            if isinstance(value, Tensor) and value.numel() == 1:
                value = float(value)
            if isinstance(value, float) and 0 < value < _LARGEST_EPSILON:
                yield value


def _layer_norm(weight: Tensor, bias: Tensor, epsilon: float, dtype: torch.dtype) -> nn.LayerNorm:
    layer = nn.LayerNorm(len(weight), eps=epsilon).to(dtype).eval()
    layer.weight.copy_(weight)
    layer.bias.copy_(bias)
    return layer.requires_grad_(False)


def _put_in_place(graph_module: GraphModule, source: Node, end: Node, norm: nn.LayerNorm) -> Node:
    name = free_name(graph_module, end.name)
    graph_module.add_submodule(name, norm)
    with graph_module.graph.inserting_before(end):
        call = graph_module.graph.call_module(name, (source,))
    end.replace_all_uses_with(call)
    graph_module.graph.eliminate_dead_code()
    return call


def call_norm_layers(graph_module: GraphModule, likes: Mapping[Node, Tensor]) -> None:
    """Call a layer for each normalization of images by fixed statistics, in place.

    Norms that are traced through, such as timm's with an activation, leave calls of the function
    behind where nothing is there to merge them with; what comes later knows the layer.

    Args:
        graph_module: A graph in evaluation mode, with canonical calls, that the caller owns.
        likes: Tensors of the shapes of its values.
    """
    constants = Constants(graph_module)
    for node in list(graph_module.graph.nodes):
        if node.target is not F.batch_norm or node not in likes or likes[node].ndim != 4:
            continue
        given = {**dict(zip(_PARAMETERS, node.args, strict=False)), **node.kwargs}
        layer = None if given.get("training") else _batch_norm(given, constants)
        if layer is not None:
            owner = str(given["running_mean"].target).rpartition(".")[0]
            name = free_name(graph_module, owner or node.name)
            graph_module.add_submodule(name, layer)
            with graph_module.graph.inserting_before(node):
                call = graph_module.graph.call_module(name, (given["input"],))
            node.replace_all_uses_with(call)
            graph_module.graph.erase_node(node)


def _batch_norm(given: Mapping[str, object], constants: Constants) -> nn.BatchNorm2d | None:
    """The layer of a call with these arguments, or None if they are computed from an input."""
    tensors = {name: given.get(name) for name in _TENSORS}
    known = {n: constants.value(t) if isinstance(t, Node) else None for n, t in tensors.items()}
    eps, mean, variance = given.get("eps", 1e-5), known["running_mean"], known["running_var"]
    is_known = all(known[name] is not None or tensors[name] is None for name in _TENSORS)
    if not is_known or mean is None or variance is None or not isinstance(eps, float):
        return None
    layer = nn.BatchNorm2d(len(mean), eps).to(mean).eval()
    for name, tensor in known.items():
        if tensor is not None:
            getattr(layer, name).data.copy_(tensor)
    return layer
