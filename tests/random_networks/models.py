"""Whole random models of everything that is written in the wild, as a hypothesis strategy.

A model is a list of steps on the values before them. Each is drawn for a value that exists, by
running the steps so far on an example: so every model runs, and nothing is said of it but that.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = 8
SIDE = 8


@dataclass(frozen=True)
class Situation:
    """What a construct has at hand: its model and layer, a value, and another of that shape."""

    model: Any
    layer: Any
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Construct:
    """One way of writing something.

    Attributes:
        call: From what there is to the result.
        layer: From the value to what the construct keeps, if anything.
        accepts: Whether it takes a value.
    """

    call: Callable[[Situation], Any]
    layer: Callable[[Tensor], nn.Module] = lambda _: nn.Identity()
    accepts: Callable[[Tensor], bool] = lambda _: True


class RandomModel(nn.Module):
    """Runs its steps; returns the last value in the form that it was drawn with."""

    def __init__(self, returns: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.steps: list[tuple[str, int, int, int]] = []
        self.returns = returns
        self.register_buffer("shift", torch.linspace(-1, 1, CHANNELS).view(1, CHANNELS, 1, 1))

    def append(self, name: str, value: int, other: int, layer: int) -> None:
        """Add a step: construct, the numbers of two values, and of a layer."""
        self.steps.append((name, value, other, layer))

    def values(self, x: Tensor) -> list[Tensor]:
        """The input and what each step makes of those before it."""
        values = [x]
        for name, value, other, layer in self.steps:
            situation = Situation(self, self.layers[layer], values[value], values[other])
            values.append(CONSTRUCTS[name].call(situation))
        return values

    def forward(self, x: Tensor) -> Any:
        """See `RETURNS`."""
        return RETURNS[self.returns](self.values(x))


RETURNS: dict[str, Callable[[list[Tensor]], Any]] = {
    "tensor": lambda values: values[-1],
    "tuple": lambda values: (values[-1], values[len(values) // 2]),
    "dict": lambda values: {"out": values[-1], "aux": [values[-2]]},
    "ordered": lambda values: OrderedDict(out=values[-1]),
    "number": lambda values: (values[-1], 3),
    "indices": lambda values: (values[-1], values[-1].flatten(1).argmax(1) + 1),
}


@st.composite
def random_models(draw: Any) -> RandomModel:
    """Models in evaluation mode for inputs ``[N, CHANNELS, SIDE, SIDE]``."""
    torch.manual_seed(draw(st.integers(0, 2**16)))
    model = RandomModel(draw(st.sampled_from(sorted(RETURNS)))).eval()
    example = torch.randn(2, CHANNELS, SIDE, SIDE)
    model.layers.append(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1))
    model.append("layer", 0, 0, 0)
    for _ in range(draw(st.integers(2, 9))):
        with torch.no_grad():
            values = model.values(example)
        _append_step(draw, model, values)
    return model.eval()


def _append_step(draw: Any, model: RandomModel, values: list[Tensor]) -> None:
    index = draw(st.integers(max(0, len(values) - 3), len(values) - 1))
    value = values[index]
    names = sorted(name for name, each in CONSTRUCTS.items() if each.accepts(value))
    name = draw(st.sampled_from(names))
    alike = [i for i, each in enumerate(values) if each.shape == value.shape]
    layer = _layer_for(draw, model, CONSTRUCTS[name].layer(value))
    model.append(name, index, draw(st.sampled_from(alike)), layer)


def _layer_for(draw: Any, model: RandomModel, fresh: nn.Module) -> int:
    """The number of a layer in the model: an earlier one like `fresh`, now and then, or itself."""
    alike = [i for i, each in enumerate(model.layers) if repr(each) == repr(fresh)]
    if alike and draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(alike))
    for name, buffer in fresh.named_buffers():
        if name.startswith("running"):
            buffer.uniform_(0.5, 1.5)
    if isinstance(fresh, nn.LayerNorm):  # Or its mean would be nothing but rounding.
        nn.init.uniform_(fresh.weight, 0.5, 1.5)
        nn.init.uniform_(fresh.bias, 0.1, 1)
    model.layers.append(fresh.eval())
    return len(model.layers) - 1


def _is_image(value: Tensor) -> bool:
    return value.ndim == 4 and value.shape[1] == CHANNELS


def _is_large(value: Tensor) -> bool:
    return _is_image(value) and min(value.shape[2:]) >= 4


def _ends_in_channels(value: Tensor) -> bool:
    return value.ndim >= 2 and value.shape[-1] == CHANNELS


def _is_tokens(value: Tensor) -> bool:
    return value.ndim == 3 and value.shape[-1] == CHANNELS


def _conv(kernel: int, **settings: Any) -> Callable[[Tensor], nn.Module]:
    return lambda _: nn.Conv2d(CHANNELS, CHANNELS, kernel, **settings)


def _padded_if_odd(x: Tensor) -> Tensor:
    if x.shape[3] % 2:
        x = F.pad(x, (0, 1))
    return F.avg_pool2d(x, 2)


def _halved_through_a_view(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    first.mul_(0.5)
    return x + torch.cat([second, first], 1)


def _attention(x: Tensor, mask: float) -> Tensor:
    scores = x @ x.transpose(1, 2) / 4
    count = scores.shape[-1]
    hidden = torch.triu(torch.full((count, count), mask), 1)
    return torch.softmax(scores + hidden, -1) @ x


CONSTRUCTS: dict[str, Construct] = {
    "layer": Construct(lambda s: s.layer(s.x), _conv(3, padding=1), _is_image),
    "pointwise": Construct(lambda s: s.layer(input=s.x), _conv(1), _is_image),
    "depthwise": Construct(
        lambda s: s.layer(s.x), _conv(3, padding=1, groups=CHANNELS), _is_image
    ),
    "branches": Construct(
        lambda s: F.relu(input=s.layer[1](s.layer[0](s.x)) + s.layer[2](s.x) + s.x),
        lambda _: nn.ModuleList([_conv(3, padding=1)(_), nn.BatchNorm2d(CHANNELS), _conv(1)(_)]),
        _is_image,
    ),
    "norm": Construct(lambda s: s.layer(s.x), lambda _: nn.BatchNorm2d(CHANNELS), _is_image),
    "relu": Construct(lambda s: torch.relu(s.x)),
    "hardswish": Construct(lambda s: F.hardswish(s.x)),
    "gelu": Construct(lambda s: F.gelu(input=s.x)),
    "prelu": Construct(lambda s: s.layer(s.x), lambda _: nn.PReLU(CHANNELS), _is_image),
    "sum": Construct(lambda s: torch.add(input=s.x, other=s.y)),
    "difference": Construct(lambda s: s.x - 0.5 * s.y),
    "product": Construct(lambda s: s.x * torch.sigmoid(s.y)),
    "shift": Construct(lambda s: s.x + s.model.shift, accepts=_is_image),
    "gate": Construct(
        lambda s: s.x * s.layer(s.x.mean((2, 3), keepdim=True)).sigmoid(), _conv(1), _is_image
    ),
    "split": Construct(
        lambda s: torch.cat(s.x.split(2, dim=1)[::-1], 1), accepts=_is_image
    ),
    "chunk": Construct(
        lambda s: torch.cat(tensors=[*s.x.chunk(2, 1), *s.y.chunk(2, 1)][:2], dim=1),
        accepts=_is_image,
    ),
    "chunk_in_place": Construct(
        lambda s: _halved_through_a_view(s.layer(s.x)), _conv(3, padding=1), _is_image
    ),
    "slice": Construct(
        lambda s: torch.cat([s.x[:, : CHANNELS // 2], s.x[:, CHANNELS // 2 :]], dim=1),
        accepts=_is_image,
    ),
    "max_pool": Construct(
        lambda s: F.max_pool2d(s.x, 3, stride=1, padding=1), accepts=_is_large
    ),
    "max_pool_indices": Construct(
        lambda s: s.layer(s.x)[0], lambda _: nn.MaxPool2d(2, return_indices=True), _is_large
    ),
    "max_pool_same": Construct(
        lambda s: F.max_pool2d(F.pad(s.x, (0, 1, 0, 1), value=float("-inf")), 2, 1),
        accepts=_is_large,
    ),
    "average_pool": Construct(lambda s: F.avg_pool2d(s.x, 2), accepts=_is_large),
    "global_pool": Construct(
        lambda s: F.avg_pool2d(s.x, s.x.size(3)),
        accepts=lambda x: _is_image(x) and x.shape[2] == x.shape[3],
    ),
    "pad_odd": Construct(lambda s: _padded_if_odd(s.x), accepts=_is_large),
    "pad": Construct(
        lambda s: F.pad(s.x, (1, 1, 1, 1))[:, :, 1:-1, 1:-1], accepts=_is_image
    ),
    "upsample": Construct(
        lambda s: F.interpolate(F.max_pool2d(s.x, 2), scale_factor=2, mode="nearest"),
        accepts=lambda x: _is_large(x) and x.shape[2] % 2 == x.shape[3] % 2 == 0,
    ),
    "tokens": Construct(
        lambda s: s.x.flatten(2).transpose(1, 2), accepts=_is_image
    ),
    "tokens_by_numbers": Construct(
        lambda s: s.x.reshape(
            s.x.shape[0], CHANNELS, int(s.x.shape[2]) * int(s.x.shape[3])
        ).permute(0, 2, 1),
        accepts=_is_image,
    ),
    "last": Construct(lambda s: s.x.permute(0, 2, 3, 1), accepts=_is_image),
    "video": Construct(
        lambda s: s.x.permute(0, 2, 3, 1).unsqueeze(1), accepts=_is_image
    ),
    "rows": Construct(
        lambda s: torch.flatten(input=s.x.mean(dim=(2, 3)), start_dim=1), accepts=_is_image
    ),
    "linear": Construct(
        lambda s: s.layer(s.x), lambda _: nn.Linear(CHANNELS, CHANNELS), _ends_in_channels
    ),
    "tied": Construct(
        lambda s: F.linear(torch.relu(s.layer(s.x)), weight=s.layer.weight.t()),
        lambda _: nn.Linear(CHANNELS, CHANNELS), _ends_in_channels,
    ),
    "layer_norm": Construct(
        lambda s: s.layer(s.x), lambda _: nn.LayerNorm(CHANNELS), _ends_in_channels
    ),
    "attention": Construct(lambda s: _attention(s.x, -1e9), accepts=_is_tokens),
    "attention_inf": Construct(lambda s: _attention(s.x, float("-inf")), accepts=_is_tokens),
    "log": Construct(lambda s: torch.log(torch.relu(s.x) + 1e-5)),
    "as_weight": Construct(lambda s: s.layer(s.x.to(s.layer.weight.dtype)), _conv(1), _is_image),
    "with_device": Construct(
        lambda s: F.conv2d(
            input=s.x, weight=s.layer.weight.to(s.x.device), bias=s.layer.bias.type_as(s.x)
        ),
        _conv(1), _is_image,
    ),
}  # fmt: skip
