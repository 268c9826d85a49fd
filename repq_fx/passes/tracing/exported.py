"""The second way to trace a model: `torch.export`, lifted back to a graph of layers."""

import functools
import io
import logging
import operator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

from ...errors import TraceError
from ..graph.example import Inputs
from .aten_functions import call_in_torch
from .failure_place import failure_place, innermost_module
from .lift_modules import LayerLifter
from .output_structure import put_together, take_apart
from .plain_names import with_plain_names
from .sizes.conditions import InputSizes
from .sizes.doubtful_conditions import guard_doubtful_conditions
from .sizes.free_sizes import sizes_to_try
from .sizes.guards import EXAMPLE_SHAPE, is_size_guard

_aten = torch.ops.aten

_NO_OPERATION = frozenset(
    {
        _aten.alias.default,
        _aten.clone.default,
        _aten.contiguous.default,
        _aten.detach.default,
        _aten.lift_fresh.default,
        _aten.lift_fresh_copy.default,
    }
)
"""Operators that return the values of their operand; the graph has nothing that overwrites them."""

_PARTS = frozenset({_aten.slice.Tensor, _aten.expand.default})
"""Operators that return the values of their operand if they return as many."""
_OVERWRITES = frozenset({_aten.slice_scatter.default, _aten.copy.default})
"""Operators that return the values of their second operand if those are all of the first's."""


def export_trace(model: nn.Module, inputs: Inputs) -> GraphModule:
    """Trace what `model` does to `inputs` below its Python code, where a proxy would not pass.

    Layers keep their names and become plain layers of torch again. Sizes stay free where the model
    permits it; the graph refuses inputs of a size for which it does not hold. Operators in place
    become ones that are not, so the result never overwrites its inputs, even where `model` does.

    The result shares parameters with `model`.

    Raises:
        TraceError: ``forward`` depends on values of tensors or changes a buffer; the message names
            the submodule and the line.
    """
    if not all(isinstance(entry, Tensor) for entry in inputs):
        raise TraceError("Cannot export a model whose inputs are lists or dictionaries of tensors.")
    errors = []
    with _undisturbed():
        for example, free in sizes_to_try(inputs):
            try:
                program, structure = _export(model, example, free)
                traced, sizes = _Lifting(model, program, inputs).graph_module(structure)
                guard_doubtful_conditions(traced, model, inputs, sizes)
            except TraceError as error:  # the reason may be the free sizes alone
                errors.append(error)
            else:
                return traced
    raise errors[-1]


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Keep what `torch.export` warns of, logs, prints and draws at random to this block."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        redirect_stderr(io.StringIO()),
        torch.random.fork_rng(devices=[]),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(disabled)


def _export(
    model: nn.Module, inputs: Inputs, sizes: tuple[Any, ...] | None
) -> tuple[ExportedProgram, Any]:
    """The program with operators in place resolved, and the structure of what it returns."""
    forward = model.forward
    structures: list[Any] = []

    @functools.wraps(forward)
    def flat_forward(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
        leaves: list[Any] = []
        structures.append(take_apart(forward(*args, **kwargs), leaves))
        return tuple(leaves)

    replaced = vars(model).get("forward")
    model.forward = flat_forward
    try:
        program = torch.export.export(model, inputs, dynamic_shapes=sizes, strict=False)
        return program.run_decompositions({}), structures[-1]
    except Exception as error:
        place = failure_place(model, innermost_module(model, error), error)
        reason = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
        raise TraceError(f"Cannot export {place}: {reason}") from error
    finally:
        del model.forward
        if replaced is not None:
            model.forward = replaced


class _Lifting:
    """Rewrites the graph of an exported program node by node."""

    def __init__(self, model: nn.Module, program: ExportedProgram, inputs: Inputs) -> None:
        self._model = model
        self._program = program
        self._inputs = inputs
        self._graph = fx.Graph()
        self._lifter = LayerLifter(model)
        self._values: dict[Node, Any] = {}
        self._tensors: dict[Node, Tensor] = {}
        self._attributes: dict[str, Any] = {}
        self._names = {
            id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())
        }

    def graph_module(self, structure: Any) -> tuple[GraphModule, InputSizes]:
        """The graph of layers, which returns a value of `structure`, and what sizes it takes."""
        sizes = InputSizes(self._read_inputs())
        sizes.guard_conditions()
        for node in self._program.graph.nodes:
            if node.op == "call_function":
                self._values[node] = self._call(node)
            elif node.op == "get_attr":  # the graph of a branch that export keeps
                name = str(node.target)
                self._attributes[name] = attrgetter(name)(self._program.graph_module)
                self._values[node] = self._graph.get_attr(name)
        self._graph.output(put_together(self._graph, structure, self._outputs()))
        # Even assertions are dead: what is left has no effects.
        self._graph.eliminate_dead_code(
            lambda node: node.op in {"placeholder", "output"} or is_size_guard(node)
        )
        owned = {**self._attributes, **self._lifter.layers}
        targets = {str(node.target) for node in self._graph.nodes}
        members = {name: value for name, value in owned.items() if name in targets}
        members = with_plain_names(members, self._graph)
        return GraphModule(members, self._graph, type(self._model).__name__).eval(), sizes

    def _read_inputs(self) -> dict[Node, Node]:
        """Make the placeholders and what holds tensors, and return the former by the program's."""
        examples, made = iter(self._inputs), {}
        placeholders = [node for node in self._program.graph.nodes if node.op == "placeholder"]
        for node, spec in zip(placeholders, self._program.graph_signature.input_specs, strict=True):
            name = spec.target
            if spec.kind is InputKind.USER_INPUT:
                placeholder = self._graph.placeholder(node.name)
                placeholder.meta[EXAMPLE_SHAPE] = next(examples).shape
                self._values[node] = made[node] = placeholder
            elif spec.kind in {InputKind.PARAMETER, InputKind.BUFFER} and name is not None:
                self._read_tensor(node, name, attrgetter(name)(self._model))
            elif spec.kind is InputKind.CONSTANT_TENSOR and name is not None:
                self._read_tensor(node, name, self._program.constants[name])
            else:
                raise TraceError(f"Cannot export the model: it reads a {spec.kind.name.lower()}.")
        return made

    def _read_tensor(self, node: Node, name: str, tensor: Tensor) -> None:
        # Export goes by the last name of a tensor that has several.
        first_name = self._names.get(id(tensor), name)
        self._tensors[node] = tensor
        self._attributes[first_name] = tensor
        self._values[node] = self._graph.get_attr(first_name)

    def _call(self, node: Node) -> Any:
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._values.__getitem__)
        if node.target in _NO_OPERATION or (node.target in _PARTS and _keeps_shape(node, 0)):
            return args[0]
        if node.target in _OVERWRITES and _keeps_shape(node, 1):
            return args[1]
        if node.target is operator.getitem and _is_batch_norm(node.args[0]):
            return args[0]
        layer = self._lifter.lift(node, self._tensors)
        if layer is not None:
            return self._graph.call_module(layer, args[:1])
        return call_in_torch(self._graph, node, args, kwargs)

    def _outputs(self) -> list[Any]:
        """What the model returns, without the state that export returns besides."""
        node = self._program.graph.output_node()
        returned = []
        specs = self._program.graph_signature.output_specs
        for value, spec in zip(node.args[0], specs, strict=True):
            if spec.kind is OutputKind.USER_OUTPUT:
                returned.append(self._values[value] if isinstance(value, Node) else value)
            elif spec.kind is not OutputKind.USER_INPUT_MUTATION:
                raise TraceError(self._mutation(str(spec.target)))
        return returned

    def _mutation(self, name: str) -> str:
        path, _, attribute = name.rpartition(".")
        place = failure_place(self._model, self._model.get_submodule(path))
        return f"Cannot export {place}: its forward changes '{attribute}'."


def _keeps_shape(node: Node, operand: int) -> bool:
    before, after = (_example(value) for value in (node.args[operand], node))
    if before.dtype != after.dtype or before.dim() != after.dim():
        return False
    # A comparison of sizes that only holds on the example must not count.
    sizes = zip(before.shape, after.shape, strict=True)
    return all(statically_known_true(size == other) for size, other in sizes)


def _example(value: Any) -> Tensor:
    example: Tensor = value.meta["val"]
    return example


def _is_batch_norm(value: Any) -> bool:
    target = _aten._native_batch_norm_legit_no_training.default
    return isinstance(value, Node) and value.target == target
