"""Weights that hooks and parametrizations compute."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import repq_fx
from repq_fx import Scheme
from repq_fx.passes.tracing.computed_weights import computed_tensors, store_computed_weights
from repq_fx.passes.tracing.trace import copy_of

# Models that were made with it are around for longer.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")

QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, equalization=False)
IMAGE = torch.randn(4, 3, 6, 6)


def pruned_weight_norm(layer):
    return prune.l1_unstructured(weight_norm(layer), "weight_v", 0.5)


def pruned_twice(layer):
    return prune.random_unstructured(prune.l1_unstructured(layer, "weight", 0.3), "weight", 0.3)


COMPUTED = {
    "weight_norm": weight_norm,
    "spectral_norm": spectral_norm,
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "prune twice": pruned_twice,
    "prune bias": lambda layer: prune.l1_unstructured(layer, "bias", 0.5),
    "prune of weight_norm": pruned_weight_norm,
    "parametrized weight_norm": parametrizations.weight_norm,
    "parametrized spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


def net_of(wrap):
    """A net with one layer that `wrap` changes, after a run in training as these layers expect."""
    torch.manual_seed(0)
    layer = wrap(nn.Conv2d(3, 4, 3, padding=1))
    model = nn.Sequential(layer, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    model.train()(IMAGE)
    model.eval()(IMAGE)
    return model


@pytest.mark.parametrize("wrap", COMPUTED.values(), ids=COMPUTED.keys())
def test_a_computed_weight_becomes_a_parameter_of_the_copy_alone(wrap):
    model = net_of(wrap)
    before, expected = copy.deepcopy(model.state_dict()), model(IMAGE)
    copied = copy_of(model)
    plain = nn.Conv2d(3, 4, 3, padding=1).state_dict()
    assert type(copied[0]) is nn.Conv2d
    assert copied[0].state_dict().keys() == plain.keys()
    assert not copied[0]._forward_pre_hooks
    torch.testing.assert_close(copied(IMAGE), expected)
    assert copied[0].weight.requires_grad
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in after)
    torch.testing.assert_close(model(IMAGE), expected, rtol=0, atol=0)
    assert parametrize.is_parametrized(model[0]) or model[0]._forward_pre_hooks


@pytest.mark.parametrize("wrap", COMPUTED.values(), ids=COMPUTED.keys())
def test_it_is_merged_and_quantized_like_a_plain_one(wrap):
    model = net_of(wrap)
    merged = repq_fx.reparameterize(model, IMAGE)
    assert {name for name, _ in merged.named_children()} == {"0", "2", "3"}
    torch.testing.assert_close(merged(IMAGE), model(IMAGE), rtol=1e-4, atol=1e-4)
    assert [region.name for region in repq_fx.find_regions(model, IMAGE)] == ["0"]
    plain = copy_of(model)
    ours, theirs = (
        repq_fx.quantize(net, IMAGE, scheme=QUICK, backend="reference", progress=False)
        for net in (model, plain)
    )
    assert torch.equal(ours(IMAGE), theirs(IMAGE))


def test_a_parametrized_buffer_stays_a_buffer():
    layer = nn.BatchNorm2d(3).eval()
    parametrize.register_parametrization(layer, "running_var", nn.Softplus())
    expected = layer(IMAGE)
    copied = copy_of(layer)
    assert dict(copied.named_buffers()).keys() == {
        "running_mean", "running_var", "num_batches_tracked"
    }  # fmt: skip
    torch.testing.assert_close(copied(IMAGE), expected, rtol=0, atol=0)


def test_a_model_without_such_weights_stays_as_it_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    tensors = dict(model.named_parameters())
    store_computed_weights(model)
    assert all(tensors[name] is tensor for name, tensor in model.named_parameters())


def test_tensors_with_a_history_are_found_wherever_a_module_keeps_them():
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU())
    made = [model[0].weight * factor for factor in range(4)]
    model[0].last, model.pair, model[1].by_name = made[0], (1, [made[1]]), {"a": made[2]}
    model.register_buffer("kept", made[3])
    found = computed_tensors(model)
    assert {id(tensor) for tensor in found} == {id(tensor) for tensor in made}
