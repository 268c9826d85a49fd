"""Whether a quantized network is slower than the float one, and which of its steps cost that."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..lowering.int8.instructions import Int8Program
from ..passes.graph.run import GraphRun
from .float_operations import operation_name

_MOST_ROUNDS, _MOST_PROFILES = 5, 3
# No round or profile begins later.
_SECONDS = 0.5
# So short a call comes after another one that is not timed, or the turns of the two networks would
# find each other's weights in the caches.
_SHORT_SECONDS = 0.01
# Less is noise.
_LEAST_SHARE, _LEAST_MILLISECONDS = 0.05, 0.1
_SHOWN_STEPS = 3


@dataclass(frozen=True)
class StepTime:
    """One step of a quantized network.

    Attributes:
        name: Of the float operation in the graph; of an instruction, behind that of its program.
        kind: Type of the layer or instruction, or name of the function or method.
        milliseconds: How long it takes.
        share: Of the time of all steps.
        fallback: Why a program runs in PyTorch instead of compiled kernels; None if it does not.
    """

    name: str
    kind: str
    milliseconds: float
    share: float
    fallback: str | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}) {self.milliseconds:.2f} ms ({self.share:.0%})"


@dataclass(frozen=True)
class Speed:
    """A quantized network beside the float one, on the same inputs.

    Attributes:
        float_ms: Median time of the float network.
        int8_ms: Shortest time of the quantized one.
        threads: Of torch.
        steps: The slowest first: all steps of a quantized network that is slower than the float
            one, else the programs that run in PyTorch.
    """

    float_ms: float
    int8_ms: float
    threads: int
    steps: tuple[StepTime, ...] = ()

    @property
    def is_slower(self) -> bool:
        """Whether quantizing costs time, by more than noise may."""
        return _is_slower(self.float_ms, self.int8_ms)

    @property
    def slow_steps(self) -> tuple[StepTime, ...]:
        """What to tell of: some of `steps`."""
        shown = _SHOWN_STEPS if self.is_slower else 0
        return self.steps[:shown] + tuple(s for s in self.steps[shown:] if s.fallback is not None)

    @property
    def warning(self) -> str | None:
        """What to tell whoever quantized, or None."""
        if not self.steps:
            return None
        times = f"{self.int8_ms:.2f} ms beside {self.float_ms:.2f} ms in float"
        found = f"one image takes {times} on {self.threads} thread(s)"
        if self.is_slower:
            slowest = ", ".join(map(str, self.steps[:_SHOWN_STEPS]))
            found = f"INT8 is slower than float on this machine: {found}; slowest are {slowest}"
        in_pytorch = (
            f"{step} runs in PyTorch instead of compiled kernels ({step.fallback})"
            for step in self.steps
            if step.fallback is not None
        )
        return "; ".join((found, *in_pytorch))


def compare_speed(
    float_network: Callable[..., object], int8: GraphModule, inputs: Sequence[Tensor]
) -> Speed:
    """Time a quantized network beside the float one: for half a second, or two calls of each.

    Args:
        float_network: What was quantized.
        int8: The result of ``repq_fx.convert(prepared, "int8")`` or of `repq_fx.load`.
        inputs: What both are called with, best of one image.
    """
    own = tuple(value.clone() for value in inputs)  # A network may overwrite its input.
    threads = torch.get_num_threads()
    with torch.no_grad():  # A layer may keep a tensor, which inference mode would make useless.
        steps = _profile(int8, own)  # Here programs are compiled.
        float_network(*own)
        float_ms, int8_ms = _times(partial(float_network, *own), partial(int8, *own))
        if not _is_slower(float_ms, int8_ms):
            in_pytorch = tuple(step for step in steps if step.fallback is not None)
            return Speed(float_ms, int8_ms, threads, in_pytorch)
        return Speed(float_ms, int8_ms, threads, _fastest_profile(int8, own))


def _is_slower(float_ms: float, int8_ms: float) -> bool:
    return int8_ms - float_ms > max(_LEAST_SHARE * float_ms, _LEAST_MILLISECONDS)


def _times(
    float_call: Callable[[], object], int8_call: Callable[[], object]
) -> tuple[float, float]:
    """See `Speed`."""
    float_times, int8_times = [], []
    for _ in _repeated(_MOST_ROUNDS):
        float_times.append(_milliseconds(float_call))
        int8_times.append(_milliseconds(int8_call))
    return statistics.median(float_times), min(int8_times)


def _repeated(most: int) -> Iterator[int]:
    """At least once, and then until time is up."""
    end = time.perf_counter() + _SECONDS
    for index in range(most):
        yield index
        if time.perf_counter() > end:
            return


def _milliseconds(call: Callable[[], object]) -> float:
    for _ in range(2):
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        if seconds > _SHORT_SECONDS:
            break
    return 1e3 * seconds


def _fastest_profile(int8: GraphModule, inputs: tuple[Tensor, ...]) -> tuple[StepTime, ...]:
    """Of each step the shortest time of several runs; the slowest step first."""
    runs = [_profile(int8, inputs) for _ in _repeated(_MOST_PROFILES)]
    fastest = [min(same, key=lambda step: step.milliseconds) for same in zip(*runs, strict=True)]
    return tuple(sorted(_with_shares(fastest), key=lambda step: -step.milliseconds))


def _profile(int8: GraphModule, inputs: tuple[Tensor, ...]) -> list[StepTime]:
    """In the order in which they run."""
    run = _ProfiledRun(int8)
    run.run(*inputs)
    return _with_shares(run.steps)


def _with_shares(steps: Sequence[StepTime]) -> list[StepTime]:
    total = sum(step.milliseconds for step in steps) or 1.0
    return [replace(step, share=step.milliseconds / total) for step in steps]


class _ProfiledRun(GraphRun):
    """Runs a graph once, and keeps the time of its steps; shares are left to be found."""

    def __init__(self, int8: GraphModule) -> None:
        super().__init__(int8)
        self._int8 = int8
        self.steps: list[StepTime] = []
        self._node: Node

    def run_node(self, n: Node) -> Any:
        self._node = n
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._timed(super().call_function, target, args, kwargs)

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._timed(super().call_method, target, args, kwargs)

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        module = self.fetch_attr(target)
        if not isinstance(module, Int8Program):
            return self._timed(super().call_module, target, args, kwargs)
        start = time.perf_counter()
        profile = module.profile(*args)
        if profile.fallback is not None:
            self._add(self._node.name, "Int8Program", start, profile.fallback)
        for name, milliseconds in profile.milliseconds.items():
            kind = type(module.body.get_submodule(name)).__name__
            self.steps.append(StepTime(f"{self._node.name}.{name}", kind, milliseconds, 0.0))
        return profile.result

    def _timed(self, call: Callable[..., Any], target: Any, args: Any, kwargs: Any) -> Any:
        start = time.perf_counter()
        result = call(target, args, kwargs)
        kind = operation_name(self._int8, self._node)
        if kind is not None:
            self._add(self._node.name, kind, start)
        return result

    def _add(self, name: str, kind: str, start: float, fallback: str | None = None) -> None:
        milliseconds = 1e3 * (time.perf_counter() - start)
        self.steps.append(StepTime(name, kind, milliseconds, 0.0, fallback))
