import copy
import logging
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from repq_fx.errors import RepqError
from repq_fx.models import cifar_repvgg, fashion_repvgg, repvgg_a0
from repq_fx.nn import RepVGGBlock
from repq_fx.passes import find_regions, reparameterize
from repq_fx.passes.graph.example import difference, relative_error

OURS = {
    "fashion": (fashion_repvgg, (2, 1, 28, 28), 9),
    "cifar": (cifar_repvgg, (2, 3, 32, 32), 14),
    "a0": (repvgg_a0, (1, 3, 64, 64), 22),
}


@pytest.mark.parametrize(("make", "shape", "blocks"), OURS.values(), ids=OURS.keys())
def test_our_repvgg(make, shape, blocks, randomize_batch_norm, convs_of):
    model = randomize_batch_norm(make()).eval()
    before, image = copy.deepcopy(model.state_dict()), torch.randn(shape)
    generator = torch.get_rng_state()
    merged = reparameterize(model, image)
    assert torch.equal(torch.get_rng_state(), generator)
    assert len(convs_of(merged)) == blocks
    assert not any(isinstance(module, nn.BatchNorm2d) for module in merged.modules())
    with torch.no_grad():
        assert relative_error(model(image), merged(image)) <= 1e-5
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module.training for module in model.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["repvgg_a0", "repvgg_b1g4", "mobileone_s0", "resnet18"])
def test_timm_models(name, randomize_batch_norm, convs_of):
    timm = pytest.importorskip("timm")
    model = randomize_batch_norm(timm.create_model(name)).eval()
    image = torch.randn(1, 3, 64, 64)
    merged = reparameterize(model, image)
    by_timm = timm.utils.model.reparameterize_model(model)
    assert len(convs_of(merged)) == len(convs_of(by_timm))
    with torch.no_grad():
        assert relative_error(model(image), merged(image)) <= 1e-4


def test_report_is_in_graph_order_and_changes_nothing(randomize_batch_norm):
    model = randomize_batch_norm(fashion_repvgg()).eval()
    before, image = copy.deepcopy(model.state_dict()), torch.randn(1, 1, 28, 28)
    regions = find_regions(model, image)
    assert regions == find_regions(model, image)
    assert [region.name for region in regions[:2]] == [
        "stem.reparam_conv",
        "stages.0.0.reparam_conv",
    ]
    assert all(
        region.merged and region.parameters_after < region.parameters_before for region in regions
    )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_merged_model_stays_as_it_is():
    image = torch.randn(1, 1, 28, 28)
    merged = reparameterize(fashion_repvgg().eval(), image)
    again = reparameterize(merged, image)
    assert find_regions(merged, image) == []
    assert str(again.graph) == str(merged.graph)
    assert torch.equal(again(image), merged(image))


def test_merged_model_takes_other_batch_and_image_sizes(randomize_batch_norm):
    model = randomize_batch_norm(fashion_repvgg()).eval()
    merged = reparameterize(model, torch.randn(1, 1, 28, 28))
    image = torch.randn(3, 1, 37, 22)
    assert relative_error(model(image), merged(image)) <= 1e-5


def test_nested_outputs_and_several_inputs(merge_exactly, convs_of):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = fashion_repvgg().stem

        def forward(self, image, scale):
            feature = self.block(image) * scale
            return {"features": [feature, (feature + 1,)], "scale": scale}

    model, inputs = Detector().eval(), (torch.randn(1, 1, 8, 8), torch.tensor(2.0))
    merged = reparameterize(model, inputs)
    assert convs_of(merged) == ["block.reparam_conv"]
    expected, actual = model(*inputs), merged(*inputs)
    torch.testing.assert_close(actual["features"][1][0], expected["features"][1][0])


def test_model_that_amplifies_rounding_is_refused(randomize_batch_norm):
    class Amplified(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = fashion_repvgg().stem

        def forward(self, x):
            return (self.stem(x).double() * 1e12).sin()

    model = randomize_batch_norm(Amplified()).eval()
    with pytest.raises(RepqError, match=r"Cannot merge Amplified: .* output differs by"):
        reparameterize(model, torch.randn(1, 1, 8, 8))


def test_summary_is_logged(caplog):
    with caplog.at_level(logging.INFO, "repq_fx"):
        reparameterize(fashion_repvgg().eval(), torch.randn(1, 1, 28, 28))
    assert caplog.messages == ["Merged 9 regions, refused 0."]


@dataclass
class Detections:
    """What a detector may return."""

    boxes: torch.Tensor
    scores: list[torch.Tensor]


STRUCTURES = {
    "dataclass": lambda y: Detections(y, [y + 1, y]),
    "dictionary": lambda y: {"boxes": y, "scores": (y, None)},
    "list": lambda y: [y, {"scores": y + 1}],
}


@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES.keys())
def test_outputs_keep_their_structure(structure, randomize_batch_norm, convs_of):
    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = RepVGGBlock(3, 3)

        def forward(self, x):
            return structure(self.block(x))

    model = randomize_batch_norm(Detector()).eval()
    image = torch.randn(2, 3, 6, 6)
    merged = reparameterize(model, image)
    assert convs_of(merged) == ["block.reparam_conv"]
    assert difference(model(image[:1]), merged(image[:1])) is None


def test_lists_and_dictionaries_of_inputs(randomize_batch_norm, convs_of):
    class Fusion(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = RepVGGBlock(3, 3)

        def forward(self, images, other):
            return sum(self.block(image) for image in images) + other["bias"]

    model = randomize_batch_norm(Fusion()).eval()
    images = [torch.randn(1, 3, 6, 6), torch.randn(1, 3, 6, 6)]
    merged = reparameterize(model, (images, {"bias": torch.ones(1)}))
    assert convs_of(merged) == ["block.reparam_conv"]
    batch = [torch.randn(2, 3, 5, 5)] * 2
    assert difference(model(batch, {"bias": 2}), merged(batch, {"bias": 2})) is None
