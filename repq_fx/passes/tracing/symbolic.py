"""The first way to trace a model: `torch.fx` symbolic tracing."""

import inspect
from collections import OrderedDict
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import GraphModule, Node
from torch.fx.node import Argument, Target

from ...errors import TraceError
from ..graph.example import Inputs, map_tensors, other_batch, run, runs_on
from .failure_place import failure_place
from .known_proxy import UNKNOWN, AsksForSizesError, KnownProxy, values_of
from .plain_attributes import without_proxies
from .plain_layers import Leaves, is_layer
from .plain_names import use_plain_names
from .sizes.guards import EXAMPLE_SHAPE, drop_certain_guards


def symbolic_trace(model: nn.Module, inputs: Inputs, leaves: Leaves = ()) -> GraphModule:
    """Trace `model` with proxies, one placeholder for each of `inputs`.

    Arguments of ``forward`` beyond `inputs` keep their defaults. A model that asks for sizes is run
    on `inputs` along the way. The result shares modules with `model`.

    Args:
        model: The model.
        inputs: Its example.
        leaves: Qualified names or types of modules that become one node each.

    Raises:
        TraceError: ``forward`` does something that a proxy cannot; the message names the submodule
            and the line.
    """
    count = len(inputs)
    try:
        return _traced(model, count, (), leaves)
    except AsksForSizesError:
        # Only now is it worth to run two examples along, which tell what the batch decides.
        other = other_batch(inputs)
    try:
        return _traced(model, count, (inputs, other), leaves)
    except TraceError:
        if runs_on(model, other):
            raise
        return _traced(model, count, (inputs,), leaves)


def _traced(
    model: nn.Module, input_count: int, examples: tuple[Inputs, ...], leaves: Leaves
) -> GraphModule:
    tracer = _Tracer(model, input_count, examples, leaves)
    try:
        with torch.random.fork_rng(devices=[]), without_proxies(model):
            graph: Any = run(lambda: tracer.trace(model), ())
    except AsksForSizesError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TraceError(f"Cannot trace {tracer.culprit(error)}: {reason}") from error
    # Containers that GraphModule makes on the way to a leaf are born in training mode.
    # Unpickling a graph module makes a tracer of this type, without arguments.
    graph._tracer_cls = OrderedDictTracer
    use_plain_names(tracer.root, graph)
    traced = GraphModule(tracer.root, graph, type(model).__name__).eval()
    drop_certain_guards(traced)
    return traced


class OrderedDictTracer(fx.Tracer):
    """torch's tracer, but for an `OrderedDict`, which stays one by a call of its class.

    Graphs name it as theirs, because unpickling a graph module traces its code once more.
    """

    def create_arg(self, a: Any) -> Argument:
        """What stands in the graph for an argument."""
        if type(a) is OrderedDict:
            return self.create_node("call_function", OrderedDict, (self.create_arg(dict(a)),), {})
        return super().create_arg(a)


class _Tracer(OrderedDictTracer):
    """Records layers of torch as one node each, and remembers in which module tracing failed."""

    def __init__(
        self, model: nn.Module, input_count: int, examples: tuple[Inputs, ...], leaves: Leaves
    ) -> None:
        super().__init__()
        # Torch looks for each name among all, which takes longer than all the rest in deep models.
        tensors = (*model.named_parameters(), *model.named_buffers())
        self._names = {id(tensor): name for name, tensor in tensors}
        self._paths: dict[int, str] = {id(module): path for path, module in model.named_modules()}
        self._input_count = input_count
        self._examples = examples
        self._leaves = leaves
        self._is_running = False  # a layer, on the example, rather than recording its parts
        self._failure: tuple[Exception, nn.Module] | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether `m` becomes one node."""
        if module_qualified_name in self._leaves or type(m) in self._leaves:
            return True
        return is_layer(m)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Record or trace through `m`."""
        if self._is_running:
            return forward(*args, **kwargs)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:
            if self._failure is None or self._failure[0] is not error:
                self._failure = (error, m)
            raise

    def getattr(
        self,
        attr: str,  # noqa: ARG002
        attr_val: Any,
        parameter_proxy_cache: dict[str, Any],
    ) -> Any:
        """A parameter of a module as a proxy."""
        name = self._names.get(id(attr_val))
        if self._is_running or name is None or not isinstance(attr_val, nn.Parameter):
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_arg(self, a: Any) -> Argument:
        """What stands in the graph for an argument."""
        name = self._names.get(id(a))
        return super().create_arg(a) if name is None else self.create_node("get_attr", name, (), {})

    def path_of_module(self, mod: nn.Module) -> str:
        """The qualified name of a module."""
        return self._paths[id(mod)]

    def proxy(self, node: Node) -> KnownProxy:
        """A proxy that can be given its value."""
        return KnownProxy(node, self)

    def create_proxy(
        self,
        kind: str,
        target: Target,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any | None = None,
        proxy_factory_fn: Callable[[Node], fx.Proxy] | None = None,
    ) -> fx.Proxy:
        """Record an operation and do it on the example."""
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        if isinstance(proxy, KnownProxy):
            proxy.on_examples = tuple(
                self._result(kind, target, values_of((args, kwargs), index))
                for index in range(len(self._examples))
            )
            _note_shape(proxy)
        return proxy

    def _result(self, kind: str, target: Any, arguments: Any) -> Any:
        if arguments is UNKNOWN:
            return UNKNOWN
        args, kwargs = arguments
        self._is_running = True
        try:
            if kind == "call_module":
                return self.root.get_submodule(target)(*args, **kwargs)
            if kind == "get_attr":
                return attrgetter(target)(self.root)
            if kind == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            return target(*args, **kwargs) if kind == "call_function" else UNKNOWN
        except Exception:  # the graph will fail at the same place, with a better message
            return UNKNOWN
        finally:
            self._is_running = False

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],  # noqa: ARG002
        is_module: bool,  # noqa: ARG002, FBT001
        concrete_args: dict[str, Any] | tuple[Any, ...] | None = None,  # noqa: ARG002
    ) -> tuple[Any, list[Any]]:
        """One placeholder per example input.

        Torch would make one for every argument, and a proxy for an argument that is usually None
        takes the wrong side of ``if mask is not None``.
        """

        def call(root: nn.Module, *proxies: fx.Proxy) -> Any:
            return root.forward(*proxies)

        names = _argument_names(self.root, self._input_count)
        proxies: list[Any] = [self.create_proxy("placeholder", name, (), {}) for name in names]
        for index, proxy in enumerate(proxies):
            proxy.on_examples = map_tensors(torch.clone, tuple(e[index] for e in self._examples))
            _note_shape(proxy)
        return call, [self.root, *proxies]

    def culprit(self, error: Exception) -> str:
        """Qualified path, class and source line of the innermost module that raised `error`."""
        module = self.root
        if self._failure is not None and self._failure[0] is error:
            module = self._failure[1]
        return failure_place(self.root, module, error)


def _note_shape(proxy: KnownProxy) -> None:
    if proxy.on_examples and isinstance(proxy.on_examples[0], Tensor):
        proxy.node.meta[EXAMPLE_SHAPE] = proxy.on_examples[0].shape


def _argument_names(model: nn.Module, count: int) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [parameter.name for parameter in parameters if parameter.kind in positional]
    return [named[index] if index < len(named) else f"input_{index}" for index in range(count)]
