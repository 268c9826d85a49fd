"""What `prepare_fx` alone would refuse or lose is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.fx import symbolic_trace

import repq_fx
from repq_fx import Scheme
from repq_fx.analysis import sqnr_db
from repq_fx.backend import ReferenceConv2d, place_observers

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


class _Concatenation(nn.Module):
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
    model = _Concatenation(operand, comes_first=comes_first).eval()
    images = torch.randn(4, 3, 10, 10)
    quantized = repq_fx.quantize(model, images, backend=backend, progress=False)
    assert not any("Observable" in type(module).__name__ for module in quantized.modules())
    for other in (images, torch.randn(4, 3, 10, 8)):
        assert sqnr_db(model(other), quantized(other)) > 30


def test_what_a_size_comes_from_keeps_a_grid_of_its_own() -> None:
    model = symbolic_trace(_Concatenation(OPERANDS["positions"], comes_first=False).eval())
    prepared = place_observers(model, (torch.randn(4, 3, 10, 10),), Scheme())
    source = next(node for node in prepared.graph.nodes if node.op == "placeholder")
    joined = next(node for node in prepared.graph.nodes if node.target is torch.cat)
    (on_source,) = (user.target for user in source.users if user.op == "call_module")
    on_operands = {prepared.get_submodule(str(n.target)) for n in joined.all_input_nodes}
    assert len(on_operands) == 1
    assert prepared.get_submodule(str(on_source)) not in on_operands


class _Pair(NamedTuple):
    scores: Tensor
    count: int


@dataclass
class _Record:
    scores: Tensor
    count: int


class _Wrapped(nn.Module):
    def __init__(self, shell: Callable[..., Any]) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self._shell = shell

    def forward(self, x: Tensor) -> Any:
        return self._shell(self.layer(x), x)


_SHELLS: dict[str, Callable[..., Any]] = {
    "int": lambda y, _: (y, 3),
    "size": lambda y, x: (y, x.shape[1]),
    "nested": lambda y, x: {"out": [y, 1.5, None], "name": "net", "same": (y, x)},
    "named-tuple": lambda y, _: _Pair(y, 3),
    "dataclass": lambda y, _: _Record(y, 3),
}


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize("shell", _SHELLS.values(), ids=_SHELLS)
def test_constants_beside_the_tensors_are_returned(shell: Callable[..., Any], backend: str) -> None:
    x = torch.randn(16, 8)
    model = _Wrapped(shell).eval()
    found = repq_fx.quantize(model, x, backend=backend, progress=False)(x)
    alone = repq_fx.quantize(model.layer, x, backend=backend, progress=False)(x)
    expected = shell(alone, x)
    assert type(found) is type(expected)
    torch.testing.assert_close(_plain(found), _plain(expected), atol=2e-2, rtol=0)


def _plain(value: Any) -> Any:
    """Without the strings and the None that `assert_close` does not compare."""
    if isinstance(value, _Record):
        return vars(value)
    return [value["out"][:2], value["same"]] if isinstance(value, dict) else value


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("backend", ["reference", "int8"])
def test_a_norm_of_batch_statistics_is_computed_anew_for_each_batch(
    backend: str, affine: bool
) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8, affine=affine, track_running_stats=False)
    layers = (nn.Conv2d(8, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 8, 3))
    model, images = nn.Sequential(*layers).eval(), torch.randn(16, 8, 8, 8)
    quantized = repq_fx.quantize(model, images, backend=backend, progress=False)
    for batch in (images, images[3:5]):
        assert sqnr_db(model(batch), quantized(batch)) > 30
    # Statistics of the calibration data would leave the half as large.
    halved = _output_norm(quantized, images / 2) / _output_norm(quantized, images)
    assert halved > 0.9


def test_both_convolutions_around_it_are_quantized() -> None:
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(8, 8, 3), norm, nn.Conv2d(8, 8, 3)).eval()
    images = torch.randn(4, 8, 8, 8)
    quantized = repq_fx.quantize(model, images, backend="reference", progress=False)
    assert sum(isinstance(m, ReferenceConv2d) for m in quantized.modules()) == 2


def _output_norm(model: nn.Module, images: Tensor) -> float:
    return float(model(images).norm())
