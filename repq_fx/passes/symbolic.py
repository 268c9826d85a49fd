"""The first way to trace a model: `torch.fx` symbolic tracing."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx, nn
from torch.fx import GraphModule

from ..errors import TraceError
from .failure_place import failure_place


def symbolic_trace(model: nn.Module, inputs: tuple[Tensor, ...]) -> GraphModule:
    """Trace `model` with proxies, one placeholder for each of `inputs`.

    Arguments of ``forward`` beyond `inputs` keep their defaults. The result shares modules with
    `model`.

    Raises:
        TraceError: ``forward`` does something that a proxy cannot; the message names the submodule
            and the line.
    """
    tracer = _Tracer(len(inputs))
    try:
        graph = tracer.trace(model)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise TraceError(f"Cannot trace {tracer.culprit(error)}: {reason}") from error
    # Containers that GraphModule makes on the way to a leaf are born in training mode.
    return GraphModule(tracer.root, graph, type(model).__name__).eval()


class _Tracer(fx.Tracer):
    """Records layers of torch as one node each, and remembers in which module tracing failed."""

    def __init__(self, input_count: int) -> None:
        super().__init__()
        self._input_count = input_count
        self._failure: tuple[Exception, nn.Module] | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """Whether calling `m` runs the forward of a layer in `torch.nn`.

        A subclass, or an instance, that brings its own forward is traced through.
        """
        if isinstance(m, nn.Sequential) or "forward" in vars(m):
            return False
        # Generated classes, such as that of a GraphModule, have a forward without a home.
        return (type(m).forward.__module__ or "").startswith("torch.nn.")

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Record or trace through `m`."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception as error:
            if self._failure is None or self._failure[0] is not error:
                self._failure = (error, m)
            raise

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
        proxies = [self.create_proxy("placeholder", name, (), {}) for name in names]
        return call, [self.root, *proxies]

    def culprit(self, error: Exception) -> str:
        """Qualified path, class and source line of the innermost module that raised `error`."""
        module = self.root
        if self._failure is not None and self._failure[0] is error:
            module = self._failure[1]
        return failure_place(self.root, module, error)


def _argument_names(model: nn.Module, count: int) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [parameter.name for parameter in parameters if parameter.kind in positional]
    return [named[index] if index < len(named) else f"input_{index}" for index in range(count)]
