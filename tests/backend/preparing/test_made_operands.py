"""Concatenations of tensors with what the graph makes of their sizes."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import symbolic_trace

import repq_fx
from repq_fx import Scheme
from repq_fx.analysis import sqnr_db
from repq_fx.backend import place_observers

Operand = Callable[[Tensor], Tensor]


def _coordinates(x: Tensor) -> Tensor:
    rows, columns = (torch.linspace(-1, 1, size) for size in x.shape[2:])
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return grid.expand(x.shape[0], -1, -1, -1)


OPERANDS: dict[str, Operand] = {
    "coordinates": _coordinates,
    "zeros": lambda x: torch.zeros(x.shape[0], 2, *x.shape[2:]),
    "zeros of a list": lambda x: torch.zeros([x.shape[0], 2, x.shape[2], x.shape[3]]),
    "zeros of a keyword": lambda x: torch.zeros(size=(x.size(0), 2, x.size(2), x.size(3))),
    "a constant": lambda x: torch.full((x.shape[0], 2, *x.shape[2:]), 0.5),
    "positions": lambda x: torch.arange(x.shape[3]).float().expand(x.size(0), 2, x.size(2), -1) / 8,
}


class _Net(nn.Module):
    def __init__(self, operand: Operand, *, comes_first: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(6, 4, 1)
        self.operand, self.comes_first = operand, comes_first

    def forward(self, x: Tensor) -> Tensor:
        parts = [torch.relu(self.first(x)), self.operand(x[..., 1:-1, 1:-1])]
        return self.last(torch.cat(parts[::-1] if self.comes_first else parts, 1))


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize("comes_first", [False, True])
@pytest.mark.parametrize("operand", OPERANDS.values(), ids=OPERANDS)
def test_an_operand_made_of_sizes_is_rounded_like_the_others(
    operand: Operand, comes_first: bool, backend: str
) -> None:
    torch.manual_seed(0)
    model = _Net(operand, comes_first=comes_first).eval()
    images = torch.randn(4, 3, 10, 10)
    quantized = repq_fx.quantize(model, images, backend=backend, progress=False)
    assert not any("Observable" in type(module).__name__ for module in quantized.modules())
    for other in (images, torch.randn(4, 3, 10, 8)):
        assert sqnr_db(model(other), quantized(other)) > 30


def test_what_a_size_comes_from_keeps_a_grid_of_its_own() -> None:
    model = symbolic_trace(_Net(OPERANDS["positions"], comes_first=False).eval())
    prepared = place_observers(model, (torch.randn(4, 3, 10, 10),), Scheme())
    source = next(node for node in prepared.graph.nodes if node.op == "placeholder")
    joined = next(node for node in prepared.graph.nodes if node.target is torch.cat)
    (on_source,) = (user.target for user in source.users if user.op == "call_module")
    on_operands = {prepared.get_submodule(str(n.target)) for n in joined.all_input_nodes}
    assert len(on_operands) == 1
    assert prepared.get_submodule(str(on_source)) not in on_operands
