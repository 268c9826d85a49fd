from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import repq_fx


class _Pair(NamedTuple):
    scores: Tensor
    count: int


@dataclass
class _Record:
    scores: Tensor
    count: int


class _Net(nn.Module):
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
    model = _Net(shell).eval()
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
