"""Tracing: a `GraphModule` that is checked to compute what the model computes."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.parameter import is_lazy

from ..._torch_ao import ObserverBase, WeightedQuantizedModule
from ...errors import TraceError
from ...quant import QuantizedModule
from ..graph.canonical_calls import canonicalize_calls
from ..graph.example import ExampleInputs, Inputs, as_inputs, difference, random_like, run
from ..graph.mutation import overwritten_alias, read_results_of_mutations
from ..graph.run import LikeRecorder
from .hooks import computed_tensors, require_no_hooks, store_computed_weights
from .plain_layers import Leaves, use_plain_layers
from .symbolic import symbolic_trace

_OF_QUANTIZED_MODELS = (QuantizedModule, WeightedQuantizedModule, ObserverBase)
Tracing = Callable[[nn.Module, Inputs], GraphModule]


def trace(model: nn.Module, example_inputs: ExampleInputs, *, leaves: Leaves = ()) -> GraphModule:
    """Record `model` as a graph of layers and operators.

    Symbolic tracing by `torch.fx` is tried first, then `torch.export`, whose graph is lifted back
    to layers under their original names, and at last symbolic tracing of the model after a run, if
    its forward writes weights. The model and the graph are compared on the example and on
    a random input, because some models trace without an error to a graph that computes something
    else.

    Args:
        model: A float model in evaluation mode. It is copied, never changed.
        example_inputs: Its positional inputs; later arguments of ``forward`` keep their defaults.
        leaves: Qualified names or types of modules to keep as they are, one node each, such as a
            detection head whose forward depends on values. With any, only symbolic tracing is
            tried.

    Returns:
        A graph module in evaluation mode that shares nothing with `model`.

    Raises:
        TypeError: `model` is not a module, or the inputs are no tensors.
        ValueError: The inputs are empty, `model` fails on them, or it has no such leaf.
        TraceError: The model is in training mode, quantized or without data, one of its layers has
            a forward hook, it cannot be traced (the message names, for each way of tracing, the
            submodule and the line), or its graph computes something else.

    Example:
        >>> import torch
        >>> from repq_fx.models import fashion_repvgg
        >>> traced = trace(fashion_repvgg().eval(), torch.randn(1, 1, 28, 28))
        >>> traced.get_submodule("stem.dense.0")
        Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False)
    """
    return trace_and_run(model, as_inputs(example_inputs), leaves).graph_module


@dataclass(frozen=True)
class Traced:
    """A trace, and what the model computed to check it.

    Attributes:
        graph_module: The graph.
        likes: What a `LikeRecorder` noted on the example.
        samples: The example, and random inputs of the same shapes.
        outputs: What the model returned for each.
    """

    graph_module: GraphModule
    likes: dict[Node, Tensor]
    samples: tuple[Inputs, ...]
    outputs: tuple[object, ...]


def trace_and_run(model: nn.Module, inputs: Inputs, leaves: Leaves) -> Traced:
    """What `trace` does, with the outputs that it compares."""
    require_traceable(model, leaves)
    require_no_hooks(model, leaves)
    samples = (inputs, random_like(inputs))
    outputs = _outputs(model, samples)
    failures: dict[str, TraceError] = {}
    last_resort: Traced | None = None
    for name, tracing, own_model in _attempts(model, inputs, leaves):
        try:
            traced = tracing(own_model, inputs)
            canonicalize_calls(traced)
            read_results_of_mutations(traced)
            likes = _require_faithful(traced, samples, outputs)
        except TraceError as error:
            failures[name] = error
        else:
            use_plain_layers(traced, leaves)
            found = Traced(traced, likes, samples, outputs)
            if overwritten_alias(traced) is None:
                return found
            last_resort = last_resort or found  # torch.export writes it without mutations.
    if last_resort is not None:
        return last_resort
    reasons = " ".join(f"{name}: {str(error).rstrip('.')}." for name, error in failures.items())
    first = next(iter(failures.values()))
    raise TraceError(f"Cannot trace {type(model).__name__}. {reasons}") from first


def _attempts(
    model: nn.Module, inputs: Inputs, leaves: Leaves
) -> Iterator[tuple[str, Tracing, nn.Module]]:
    """Ways to trace and the copy to do it with, the first to be tried first."""
    symbolic = partial(symbolic_trace, leaves=leaves)
    yield "Symbolic tracing", symbolic, copy_of(model)
    if not leaves:  # which export does not know
        yield "torch.export", _export_trace, copy_of(model)
    # A forward that writes the weights of a layer, the same at every call, is known by a run.
    before, after = copy_of(model), copy_of(model)
    run(after, inputs)
    changed = difference(before.state_dict(), after.state_dict(), tolerance=0.0)
    if changed is not None:
        yield "Symbolic tracing after a run", symbolic, after


def _export_trace(model: nn.Module, inputs: Inputs) -> GraphModule:
    from .exported import export_trace  # It loads sympy, which few models need.

    return export_trace(model, inputs)


def require_traceable(model: nn.Module, leaves: Leaves = ()) -> None:
    """Check what no way of tracing could do without.

    Raises:
        TypeError: `model` is not a module.
        ValueError: `model` has no such leaf.
        TraceError: `model` is in training mode, quantized or without data.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"Cannot trace a {type(model).__name__}; give a torch.nn.Module.")
    known = {*dict(model.named_modules()), *map(type, model.modules())}
    missing = [leaf for leaf in leaves if leaf not in known]
    if missing:
        raise ValueError(f"{type(model).__name__} has no module {missing[0]!r} to keep as a leaf.")
    for name, module in model.named_modules():
        if isinstance(module, _OF_QUANTIZED_MODELS):
            place = f"'{name}'" if name else "the model"
            raise TraceError(
                f"Cannot trace a model that is quantized already or prepared for it: {place} is a "
                f"{type(module).__name__}; give the float model."
            )
    # A plain nn.Module is a container without a forward; torch.fx leaves them in training mode.
    training = [
        f"'{name}' ({type(module).__name__})" if name else f"the model ({type(module).__name__})"
        for name, module in model.named_modules()
        if module.training and type(module) is not nn.Module
    ]
    if training:
        more = f" and {len(training) - 3} more" if len(training) > 3 else ""
        raise TraceError(
            f"Cannot trace a model in training mode: {', '.join(training[:3])}{more}. "
            f"Call model.eval() first."
        )
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        problem = _problem(tensor)
        if problem is not None:
            raise TraceError(f"Cannot trace a model whose '{name}' {problem}.")


def _problem(tensor: Tensor) -> str | None:
    if is_lazy(tensor):
        return "is not initialized; run the model once first"
    if tensor.is_meta:
        return "is on the meta device and holds no values"
    if tensor.is_quantized:
        return "is already quantized; give the float model"
    return None


def copy_of(model: nn.Module) -> nn.Module:
    """A copy that shares nothing: some models rewrite their own parameters in forward.

    Weights that layers of `model` compute at every call are plain parameters of the copy.

    Raises:
        TraceError: It cannot be copied.
    """
    try:
        copied = copy.deepcopy(model, {id(t): t.detach().clone() for t in computed_tensors(model)})
        store_computed_weights(copied)
        return copied
    except Exception as error:
        raise TraceError(
            f"Cannot copy the model ({type(model).__name__}) to trace it: {error}"
        ) from error


def _outputs(model: nn.Module, samples: tuple[Inputs, ...]) -> tuple[object, ...]:
    reference = copy_of(model)
    try:
        return tuple(run(reference, sample) for sample in samples)
    except Exception as error:
        raise ValueError(f"The model itself fails on inputs like the example: {error}") from error


def _require_faithful(
    traced: GraphModule, samples: tuple[Inputs, ...], expected: tuple[object, ...]
) -> dict[Node, Tensor]:
    """Compare the graph with the model, and note what its values are like on the way."""
    likes: dict[Node, Tensor] = {}
    runs: tuple[Callable[..., object], ...] = (LikeRecorder(traced, likes).run, traced)
    sources = ("the example", "a random input")
    for forward, sample, known, source in zip(runs, samples, expected, sources, strict=True):
        try:
            found = run(forward, sample)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise TraceError(
                f"The trace is not faithful to the model: on {source} it fails with: {reason}"
            ) from error
        departure = difference(known, found)
        if departure is not None:
            raise TraceError(
                f"The trace is not faithful to the model: on {source}, {departure}. A forward that "
                f"is random, or that changes the model's own state, has this effect."
            )
    return likes
