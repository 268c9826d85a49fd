"""A sequence of instructions that runs in one call."""

import logging
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ....errors import SizeError
from ....ops import CompiledProgram, new_program
from ...grids import FixedSettings

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Compiled:
    """A compiled program, and the tensors that it was compiled from."""

    program: CompiledProgram
    steps: tuple[str, ...]  # The instruction of each step.
    reads: tuple[frozenset[int], ...]  # For each output, the inputs that it depends on.
    owners: list[dict[str, Tensor | None]]
    buffers: list[Tensor | None]
    tensors: list[Tensor]
    versions: list[int]
    addresses: list[int]

    @classmethod
    def of(
        cls,
        program: CompiledProgram,
        steps: Sequence[str],
        reads: tuple[frozenset[int], ...],
        body: nn.Module,
    ) -> "_Compiled":
        owners = [module._buffers for module in body.modules() if module._buffers]
        buffers = [buffer for owner in owners for buffer in owner.values()]
        # Tensors of inference mode cannot be changed later and count no versions.
        tensors = [each for each in buffers if each is not None and not each.is_inference()]
        noted = _versions(tensors), _addresses(tensors)
        return cls(program, tuple(steps), reads, owners, buffers, tensors, *noted)

    def operands(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """What the program reads: memory, where a lazily negated tensor has the other sign."""
        return [values.resolve_neg() for values in self._with_axes(inputs)]

    def _with_axes(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        """The inputs, a scalar as a vector of one element, where that changes no output's shape."""
        scalars = frozenset(index for index, values in enumerate(inputs) if values.dim() == 0)
        if not scalars or any(reads <= scalars for reads in self.reads):
            return list(inputs)
        return [values.reshape(1) if values.dim() == 0 else values for values in inputs]

    @property
    def is_current(self) -> bool:
        """Whether no tensor was written to or replaced since, nor its memory (`.data = ...`)."""
        buffers = chain.from_iterable(map(dict.values, self.owners))
        return (
            all(map(operator.is_, buffers, self.buffers))
            and _versions(self.tensors) == self.versions
            and _addresses(self.tensors) == self.addresses
        )


def _versions(tensors: list[Tensor]) -> list[int]:
    return [tensor._version for tensor in tensors]


def _addresses(tensors: list[Tensor]) -> list[int]:
    return list(map(Tensor.data_ptr, tensors))


def _single(outputs: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".")


def _require_own_type(name: str, tensor: Tensor) -> None:
    is_converted = tensor.is_floating_point() and tensor.dtype != torch.float32
    if is_converted or tensor.device.type != "cpu":
        raise TypeError(
            f"program: {name!r} is {tensor.dtype} on {tensor.device}; a lowered model keeps "
            f"integers and float32 numbers on the CPU, so do not convert or move it."
        )


@dataclass(frozen=True)
class Profile:
    """One timed run of a program.

    Attributes:
        result: What the program returned.
        milliseconds: Of each instruction, under its name; empty where they ran in PyTorch.
        fallback: Why they did, or None.
    """

    result: Tensor | tuple[Tensor, ...]
    milliseconds: Mapping[str, float]
    fallback: str | None


class Int8Program(FixedSettings):
    """Instructions, and the compiled program that runs them all at once.

    The program is compiled at the first call, for this machine, and again after its weights have
    changed; it is neither saved nor copied. Only what is written behind torch's back, through
    NumPy or into `.data`, it cannot notice.
    Without the compiled extension, or for inputs that it does not know, the instructions run one by
    one in PyTorch, which takes long and gives the same levels but for rare ties of rounding.

    Args:
        body: A graph of `Instruction` modules, one after the other.
    """

    # Two threads may both compile, and either result serves.
    _compiled: _Compiled | None = None
    _fallback: str | None = None  # Why it ran in PyTorch, once it did and that was said.

    def __init__(self, body: GraphModule) -> None:
        super().__init__()
        self.body = body

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map float32 or uint8 tensors to one tensor, or to a tuple of several.

        Raises:
            SizeError: An instruction cannot take what it gets for inputs of such sizes. The graph
                may hold for other sizes alone, which it checks when the program has run.
            TypeError: An input has another dtype than the first instruction reads.
            ValueError: An input is missing, or not of the shape or on the device that it should be.
        """
        try:
            return self._run(*inputs)
        except RuntimeError as error:
            sizes = ", ".join(str(list(each.shape)) for each in inputs)
            raise SizeError(
                f"The integer program cannot take an input of {sizes}: {_first_line(error)}."
            ) from error

    def _run(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        compiled = self._up_to_date()
        if compiled is None:
            return self._interpret(*inputs)
        try:
            return _single(compiled.program.run(compiled.operands(inputs)))
        except NotImplementedError as error:
            if self._fallback is None:
                self._fallback = _first_line(error)
                _LOGGER.warning("instructions run in PyTorch, slowly: %s", self._fallback)
            return self._interpret(*inputs)

    def profile(self, *inputs: Tensor) -> Profile:
        """As `forward`, with the time of each instruction.

        That instructions run in PyTorch is the caller's to say; `forward` then says it no more.
        """
        compiled = self._up_to_date()
        if compiled is None:
            return Profile(self._interpret(*inputs), {}, "the compiled kernels were not built")
        try:
            outputs, times = compiled.program.profile(compiled.operands(inputs))
        except NotImplementedError as error:
            self._fallback = _first_line(error)
            return Profile(self._interpret(*inputs), {}, self._fallback)
        return Profile(_single(outputs), dict(zip(compiled.steps, times, strict=True)), None)

    def _up_to_date(self) -> _Compiled | None:
        compiled = self._compiled
        if compiled is None or not compiled.is_current:
            self._compiled = compiled = self._compile()
        return compiled

    def settings(self) -> str:
        """See `FixedSettings`."""
        calls = [node for node in self.body.graph.nodes if node.op == "call_module"]
        steps = [(str(call.target), self.body.get_submodule(str(call.target))) for call in calls]
        return "; ".join(f"{name}: {step.extra_repr()}" for name, step in steps)

    def _interpret(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        outputs: Tensor | tuple[Tensor, ...] = self.body(*inputs)
        return outputs

    def _compile(self) -> _Compiled | None:
        nodes = list(self.body.graph.nodes)
        placeholders = [node for node in nodes if node.op == "placeholder"]
        program = new_program(len(placeholders))
        if program is None:
            return None
        for name, tensor in self.body.named_buffers():
            _require_own_type(name, tensor)
        values: dict[Node, int] = {node: index for index, node in enumerate(placeholders)}
        read = {node: frozenset({index}) for node, index in values.items()}
        steps: list[str] = []
        results: list[Node] = []
        for node in nodes:
            if node.op == "call_module":
                instruction: Any = self.body.get_submodule(str(node.target))
                read[node] = frozenset().union(*(read[i] for i in node.all_input_nodes))
                values[node] = instruction.emit(program, *(values[i] for i in node.args))
                steps.append(str(node.target))
            elif node.op == "output":
                results = node.all_input_nodes
                for result in results:
                    program.output(values[result])
        reads = tuple(read[result] for result in results)
        return _Compiled.of(program, steps, reads, self.body)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._compiled = None  # Loading may put other tensors in the place of the buffers.
        super()._load_from_state_dict(*arguments)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_compiled"}
