"""What is made of a prepared graph before it is refined: float reads of layers, and its edges."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import repq_fx
from repq_fx import api
from repq_fx.analysis import sqnr_db
from repq_fx.backend.reference import ReferenceLayer
from repq_fx.lowering.grids import QUANTIZE
from repq_fx.refine.refined_copy import first_and_last_layers


class _Net(nn.Module):
    def __init__(self, layer: nn.Module, use: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer = layer
        self._use = use

    def forward(self, x: Tensor) -> Tensor:
        return self._use(self.layer, x)


_IMAGES, _ROWS = (4, 8, 6, 6), (16, 8)
_CASES = {
    "dtype": (_IMAGES, lambda c, x: c(x.to(c.weight.dtype))),
    "device": (_IMAGES, lambda c, x: c(x.to(c.weight.device))),
    "type-as": (_IMAGES, lambda c, x: c(x.type_as(c.weight))),
    "to-as": (_IMAGES, lambda c, x: c(x.to(c.weight))),
    "type-and-value": (_IMAGES, lambda c, x: c(x.type_as(c.weight)) * c.weight.abs().sum()),
    "bias": (_IMAGES, lambda c, x: c(x) * torch.sigmoid(x * c.bias.view(1, -1, 1, 1))),
    "tied-convolution": (
        _IMAGES,
        lambda c, x: F.conv_transpose2d(torch.sigmoid(c(x)), c.weight * x.mean(), padding=1),
    ),
    "tied-linear": (_ROWS, lambda c, x: F.linear(torch.relu(c(x)), c.weight.t())),
    "tied-linear-scaled": (_ROWS, lambda c, x: F.linear(c(x), c.weight.t() * x.mean())),
}


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize(("shape", "use"), _CASES.values(), ids=_CASES)
def test_what_is_read_of_a_quantized_layer_stays_float(
    shape: tuple[int, ...],
    use: Callable[[nn.Module, Tensor], Tensor],
    backend: str,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(8, 8, 3, padding=1) if shape == _IMAGES else nn.Linear(8, 12)
    model, x = _Net(layer, use).eval(), torch.randn(shape)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quantized = repq_fx.quantize(model, [x], backend=backend, progress=False)
    assert sqnr_db(model(x), quantized(x)) > 25
    repq_fx.save(quantized, tmp_path / "model")
    assert torch.equal(repq_fx.load(tmp_path / "model")(x), quantized(x))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_weight_beside_its_layer_is_not_rounded() -> None:
    model = _Net(nn.Linear(8, 8), lambda c, x: (c(x), c.weight * x[0, 0])).eval()
    x, scheme = torch.randn(_ROWS), repq_fx.Scheme(weight_bits=2)
    quantized = repq_fx.quantize(model, [x], scheme=scheme, backend="reference", progress=False)
    assert torch.equal(quantized(x)[1], model(x)[1])


def test_a_question_for_the_type_keeps_no_weight() -> None:
    model = _Net(nn.Conv2d(8, 8, 3), lambda c, x: c(x.to(c.weight.dtype))).eval()
    quantized = repq_fx.quantize(model, [torch.randn(_IMAGES)], progress=False)
    assert sum(t.numel() for t in quantized.buffers() if t.is_floating_point()) < 8 * 8


class TwoStemsAndHeads(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("left", "right", "body", "head", "shortcut"):
            setattr(self, name, nn.Conv2d(3, 3, 1))

    def forward(self, image):
        body = self.body(self.left(image).relu() + self.right(image))
        return self.head(body.relu()), torch.sigmoid(self.shortcut(body) + body)


def test_every_layer_that_reads_the_input_or_gives_an_output():
    graph = torch.fx.symbolic_trace(TwoStemsAndHeads())
    assert first_and_last_layers(graph) == {"left", "right", "head", "shortcut"}


def test_first_and_last_bits(small_net, images):
    merged = repq_fx.reparameterize(small_net, images)
    prepared = api.prepare(merged, images, repq_fx.Scheme(4, 4, first_last_bits=8))
    repq_fx.calibrate(prepared, images, progress=False)
    reference = repq_fx.convert(prepared, "reference")
    bits = {n: m.bits for n, m in reference.named_modules() if isinstance(m, ReferenceLayer)}
    assert bits == {"stem": 8, "body": 4, "depthwise": 4, "point": 4, "classifier": 8}
    tensors = [node for node in reference.graph.nodes if node.target is QUANTIZE]
    largest = {str(node.args[0]): node.args[4] for node in tensors}
    assert largest.pop("image") == largest.pop("flatten") == largest.pop("pool") == 255
    assert set(largest.values()) == {15}


def test_an_impossible_width_is_refused():
    with pytest.raises(ValueError, match=r"first_last_bits must be one of .* got 16"):
        repq_fx.Scheme(first_last_bits=16)
