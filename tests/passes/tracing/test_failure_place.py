import pytest
import torch
from torch import nn

from repq_fx.passes.tracing.failure_place import failure_place, innermost_module


class Failing(nn.Module):
    def forward(self, x):
        return self.absent(x)


def test_place_of_a_failure():
    model = nn.Sequential(nn.Identity(), nn.Sequential(Failing()))
    with pytest.raises(AttributeError) as caught:
        model(torch.ones(1))
    module = innermost_module(model, caught.value)
    assert module is model[1][0]
    place = failure_place(model, module, caught.value)
    assert place.startswith(f"'1.0' (Failing, {__file__}:")
    assert failure_place(model, model) == "the model itself (Sequential)"


def test_failure_outside_of_the_model_is_that_of_the_model():
    model = nn.Identity()
    with pytest.raises(AttributeError) as caught:
        Failing()(torch.ones(1))
    assert innermost_module(model, caught.value) is model
