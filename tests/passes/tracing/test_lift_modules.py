import pytest
import torch
from torch import nn

from repq_fx.passes.tracing.lift_modules import LayerLifter


class Calls(nn.Module):
    """One layer, so that it has a name."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def lift(model, image, lifter=None):
    """What becomes of the layers that `model` calls on `image`."""
    program = torch.export.export(model, (image,), strict=False).run_decompositions({})
    state = model.state_dict(keep_vars=True)
    inputs = program.graph_signature.input_specs
    tensors = {
        node: state[spec.target]
        for node, spec in zip(program.graph.nodes, inputs, strict=False)
        if spec.target is not None
    }
    lifter = lifter or LayerLifter(model)
    calls = [node for node in program.graph.nodes if "aten" in str(node.target)]
    return [lifter.lift(node, tensors) for node in calls], lifter.layers


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv1d(4, 6, 3, stride=2, bias=False), (8,)),
        (nn.Conv2d(4, 6, (3, 1), padding=(1, 0), dilation=2, groups=2), (8, 8)),
        (nn.Conv2d(4, 6, 3, padding="same"), (8, 8)),
        (nn.Conv3d(4, 6, 2), (4, 4, 4)),
        (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), (8,)),
        (nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2, dilation=2), (8, 8)),
        (nn.ConvTranspose3d(4, 6, 2, bias=False), (4, 4, 4)),
        (nn.Linear(4, 6), ()),
        (nn.Linear(8, 3, bias=False), (8,)),
        (nn.BatchNorm1d(4), ()),
        (nn.BatchNorm1d(4, momentum=0.2), (8,)),
        (nn.BatchNorm2d(4, eps=1e-3), (8, 8)),
        (nn.BatchNorm3d(4, affine=False), (2, 2, 2)),
    ],
    ids=str,
)
def test_layer_is_made_again(layer, size):
    model = Calls(layer).eval()
    image = torch.randn(2, 4, *size)
    names, layers = lift(model, image)
    assert names == ["layer"]
    made = layers["layer"]
    assert made is not layer
    assert type(made) is type(layer)
    assert str(made) == str(layer)
    assert not made.training
    ours, theirs = (each.state_dict(keep_vars=True) for each in (made, layer))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    torch.testing.assert_close(made(image), layer(image), rtol=0, atol=0)


def test_synchronized_normalization_becomes_a_plain_one():
    _, layers = lift(Calls(nn.SyncBatchNorm(4)).eval(), torch.randn(2, 4, 8, 8))
    assert type(layers["layer"]) is nn.BatchNorm2d


def test_what_no_layer_owns_stays():
    for layer in (nn.ReLU(), nn.LayerNorm(8), nn.BatchNorm2d(4, track_running_stats=False)):
        names, layers = lift(Calls(layer).eval(), torch.randn(2, 4, 8, 8))
        assert not any(names)
        assert layers == {}


def test_parametrized_weight_is_no_weight_of_a_layer():
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
    names, _ = lift(Calls(conv).eval(), torch.randn(2, 4, 8, 8))
    assert not any(names)
