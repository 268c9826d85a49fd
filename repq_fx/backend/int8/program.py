"""A sequence of instructions that runs in one call."""

import logging
import operator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from ...errors import SizeError
from ...ops import CompiledProgram, new_program
from ..fixed_settings import FixedSettings

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Compiled:
    """A compiled program, and the tensors that it was compiled from."""

    program: CompiledProgram
    reads: tuple[frozenset[int], ...]  # For each output, the inputs that it depends on.
    owners: list[dict[str, Tensor | None]]
    buffers: list[Tensor | None]
    tensors: list[Tensor]
    versions: list[int]
    addresses: list[int]

    @classmethod
    def of(
        cls, program: CompiledProgram, reads: tuple[frozenset[int], ...], body: nn.Module
    ) -> "_Compiled":
        owners = [module._buffers for module in body.modules() if module._buffers]
        buffers = [buffer for owner in owners for buffer in owner.values()]
        # Tensors of inference mode cannot be changed later and count no versions.
        tensors = [each for each in buffers if each is not None and not each.is_inference()]
        noted = _versions(tensors), _addresses(tensors)
        return cls(program, reads, owners, buffers, tensors, *noted)

    def with_axes(self, inputs: tuple[Tensor, ...]) -> list[Tensor]:
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


def _require_own_type(name: str, tensor: Tensor) -> None:
    is_converted = tensor.is_floating_point() and tensor.dtype != torch.float32
    if is_converted or tensor.device.type != "cpu":
        raise TypeError(
            f"program: {name!r} is {tensor.dtype} on {tensor.device}; a lowered model keeps "
            f"integers and float32 numbers on the CPU, so do not convert or move it."
        )


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
    _has_told: bool = False  # That it runs in PyTorch.

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
            reason = str(error).split("\n")[0].rstrip(".")
            raise SizeError(
                f"The integer program cannot take an input of {sizes}: {reason}."
            ) from error

    def _run(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        compiled = self._compiled
        if compiled is None or not compiled.is_current:
            self._compiled = compiled = self._compile()
        if compiled is None:
            return self._interpret(*inputs)
        try:
            # It reads memory, where a lazily negated tensor has the other sign.
            operands = [values.resolve_neg() for values in compiled.with_axes(inputs)]
            outputs = compiled.program.run(operands)
        except NotImplementedError as error:
            if not self._has_told:
                self._has_told = True
                reason = str(error).split("\n")[0]
                _LOGGER.warning("instructions run in PyTorch, slowly: %s", reason)
            return self._interpret(*inputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

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
        results: list[Node] = []
        for node in nodes:
            if node.op == "call_module":
                instruction: Any = self.body.get_submodule(str(node.target))
                read[node] = frozenset().union(*(read[i] for i in node.all_input_nodes))
                values[node] = instruction.emit(program, *(values[i] for i in node.args))
            elif node.op == "output":
                results = node.all_input_nodes
                for result in results:
                    program.output(values[result])
        return _Compiled.of(program, tuple(read[result] for result in results), self.body)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        self._compiled = None  # Loading may put other tensors in the place of the buffers.
        super()._load_from_state_dict(*arguments)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_compiled"}
