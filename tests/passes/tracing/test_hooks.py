"""Weights that hooks and parametrizations compute, and hooks that would be lost."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import repq_fx
from repq_fx import Scheme, TraceError
from repq_fx.passes.tracing.hooks import computed_tensors, foreign_hooks, store_computed_weights
from repq_fx.passes.tracing.trace import copy_of

# Models that were made with it are around for longer.
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")

QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, equalization=False)
IMAGE = torch.randn(4, 3, 6, 6)
SAME_IMAGE = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


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


def net_of_layers():
    layer = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    return nn.Sequential(layer, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()


def double(*call):
    return call[-1] * 2


def double_input(_, args):
    return (args[0] * 2,)


STEPS = {
    "quantize": lambda model, **k: repq_fx.quantize(model, SAME_IMAGE, progress=False, **k),
    "reparameterize": lambda model, **k: repq_fx.reparameterize(model, SAME_IMAGE, **k),
    "trace": lambda model, **k: repq_fx.trace(model, SAME_IMAGE, **k),
    "find_regions": lambda model, **k: repq_fx.find_regions(model, SAME_IMAGE, **k),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_a_hook_that_would_be_lost_is_refused_by_name(step):
    model = net_of_layers()
    handle = model[3].register_forward_hook(double)
    with pytest.raises(TraceError, match=r"'3' \(Conv2d\) has the forward hook 'double'"):
        step(model)
    handle.remove()
    handle = model[0][0].register_forward_pre_hook(double_input)
    with pytest.raises(TraceError, match=r"'0.0' \(Conv2d\) has the forward hook 'double_input'"):
        step(model)
    handle.remove()
    model.register_forward_hook(double)
    with pytest.raises(TraceError, match=r"the model \(Sequential\) has the forward hook 'double'"):
        step(model)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
def test_a_hook_of_all_modules_is_refused_by_name(step):
    model = net_of_layers()
    for register in (register_module_forward_hook, register_module_forward_pre_hook):
        handle = register(double)
        try:
            with pytest.raises(TraceError, match="the hook 'double' around every module"):
                step(model)
        finally:
            handle.remove()


def test_hooks_of_containers_are_part_of_the_graph():
    model = net_of_layers()
    model[0].register_forward_hook(double)
    model[0].register_forward_pre_hook(double_input)
    merged = repq_fx.reparameterize(model, SAME_IMAGE)
    torch.testing.assert_close(merged(SAME_IMAGE), model(SAME_IMAGE), rtol=1e-4, atol=1e-4)


def test_hooks_in_a_leaf_stay_with_it():
    model = net_of_layers()
    model[3].register_forward_hook(double)
    merged = repq_fx.reparameterize(model, SAME_IMAGE, leaves=["3"])
    torch.testing.assert_close(merged(SAME_IMAGE), model(SAME_IMAGE), rtol=1e-4, atol=1e-4)


def test_hooks_that_compute_nothing_are_ignored():
    model = net_of_layers()
    model[3].register_full_backward_hook(lambda *_: None)
    model[3].register_state_dict_post_hook(lambda *_: None)
    repq_fx.reparameterize(model, SAME_IMAGE)


def test_a_hook_without_a_name_goes_by_its_class():
    layer = nn.ReLU()
    layer.register_forward_hook(nn.Identity())
    assert list(foreign_hooks(layer)) == ["Identity"]
