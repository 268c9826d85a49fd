"""Tensors that keep no grid of their own."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import api
from repq_fx.lowering.grids import QUANTIZE


class Sums(nn.Module):
    """A sum of two layers, one with an input, one with a layer that is read twice, and a gate."""

    def __init__(self, add=torch.add):
        super().__init__()
        self.add = add
        for name in ("left", "right", "body", "shared", "head"):
            setattr(self, name, nn.Conv2d(4, 4, 1))

    def forward(self, image):
        both = self.add(self.left(image), self.right(image)).relu()
        body = self.add(self.body(both), both)
        shared = self.shared(body)
        return self.head(self.add(shared, shared.mean((2, 3), keepdim=True)) * body)


def quantized_tensors(model, images, **options):
    prepared = api.prepare(model, images, repq_fx.Scheme(**options))
    repq_fx.calibrate(prepared, images, progress=False)
    reference = repq_fx.convert(prepared, "reference")
    return [
        str(node.args[0]) for node in reference.graph.nodes if node.target is QUANTIZE
    ], reference


@pytest.fixture
def images():
    torch.manual_seed(0)
    return torch.randn(8, 4, 9, 9)


@pytest.mark.parametrize(
    "add",
    [torch.add, lambda a, b: a + b, lambda a, b: a.add_(b)],
    ids=["torch", "operator", "add_"],
)
def test_a_layer_adds_into_its_accumulator(add, images):
    tensors, reference = quantized_tensors(Sums(add).eval(), images)
    assert len(tensors) == 8
    assert "left" in tensors
    assert not {"right", "body"} & set(tensors)
    assert "shared" in tensors  # The mean reads it too.
    assert torch.isfinite(reference(images)).all()


def test_lowered_sums_agree_with_the_reference(images):
    model = Sums().eval()
    lowered = repq_fx.quantize(model, images, progress=False)
    reference = repq_fx.quantize(model, images, backend="reference", progress=False)
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(reference(images), lowered(images)) >= 40


def test_float_elementwise_rounds_only_what_layers_read(images):
    tensors, _ = quantized_tensors(Sums().eval(), images, float_elementwise=True)
    assert tensors == ["image", "relu", "add_1", "mul"]


def test_float_elementwise_is_nearer(images):
    model = Sums().eval()
    with torch.no_grad():
        near, far = (
            repq_fx.analysis.sqnr_db(
                model(images),
                repq_fx.quantize(
                    model, images, backend="reference", progress=False,
                    scheme=repq_fx.Scheme(16, 4, float_elementwise=elementwise),
                )(images),
            )
            for elementwise in (True, False)
        )  # fmt: skip
    assert near > far


class NamedAdd(nn.Module):
    """A convolution whose name is that of a sum."""

    def __init__(self):
        super().__init__()
        for name in ("first", "add", "head"):
            setattr(self, name, nn.Conv2d(4, 4, 1))

    def forward(self, image):
        return self.head(self.add(self.first(image)))


def test_a_module_called_add_is_no_sum(images):
    assert quantized_tensors(NamedAdd().eval(), images)[0] == ["image", "first", "add"]


class Halves(nn.Module):
    """A tensor of which halves are read: by a concatenation, whose inputs share a grid, or not."""

    def __init__(self, *, joined):
        super().__init__()
        self.stem, self.one, self.two = (nn.Conv2d(4, 4, 1) for _ in range(3))
        self.tail = nn.Conv2d(8, 4, 1)
        self.narrow = nn.ModuleList(nn.Conv2d(2, 4, 1) for _ in range(2))
        self.joined = joined

    def forward(self, image):
        left, right = self.stem(image).relu().chunk(2, 1)
        if self.joined:
            return self.tail(torch.cat([left, right, 3 * self.one(image)], 1))
        return self.narrow[0](left) + self.narrow[1](right)


@pytest.mark.parametrize("joined", [True, False])
def test_slices_on_one_grid_are_rounded_once(joined, images):
    model = Halves(joined=joined).eval()
    _, reference = quantized_tensors(model, images)
    grids = {str(n.args[0]): n.args[1:3] for n in reference.graph.nodes if n.target is QUANTIZE}
    assert (grids["relu"] == grids["getitem"] == grids["getitem_1"]) == joined
    lowered = repq_fx.quantize(model, images, progress=False)
    assert torch.isfinite(lowered(images)).all()
