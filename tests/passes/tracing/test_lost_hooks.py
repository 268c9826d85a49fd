"""Hooks that would be lost are refused; others are part of the graph or harmless."""

import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

import repq_fx
from repq_fx import TraceError
from repq_fx.passes.tracing.lost_hooks import foreign_hooks

IMAGE = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


def net_of_layers():
    layer = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    return nn.Sequential(layer, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()


def double(*call):
    return call[-1] * 2


def double_input(_, args):
    return (args[0] * 2,)


STEPS = {
    "quantize": lambda model, **k: repq_fx.quantize(model, IMAGE, progress=False, **k),
    "reparameterize": lambda model, **k: repq_fx.reparameterize(model, IMAGE, **k),
    "trace": lambda model, **k: repq_fx.trace(model, IMAGE, **k),
    "find_regions": lambda model, **k: repq_fx.find_regions(model, IMAGE, **k),
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
    merged = repq_fx.reparameterize(model, IMAGE)
    torch.testing.assert_close(merged(IMAGE), model(IMAGE), rtol=1e-4, atol=1e-4)


def test_hooks_in_a_leaf_stay_with_it():
    model = net_of_layers()
    model[3].register_forward_hook(double)
    merged = repq_fx.reparameterize(model, IMAGE, leaves=["3"])
    torch.testing.assert_close(merged(IMAGE), model(IMAGE), rtol=1e-4, atol=1e-4)


def test_hooks_that_compute_nothing_are_ignored():
    model = net_of_layers()
    model[3].register_full_backward_hook(lambda *_: None)
    model[3].register_state_dict_post_hook(lambda *_: None)
    repq_fx.reparameterize(model, IMAGE)


def test_a_hook_without_a_name_goes_by_its_class():
    layer = nn.ReLU()
    layer.register_forward_hook(nn.Identity())
    assert list(foreign_hooks(layer)) == ["Identity"]
