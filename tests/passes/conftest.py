"""Fixtures of the pass tests."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from repq_fx.passes import reparameterize


@pytest.fixture
def merge_exactly(randomize_batch_norm) -> Callable[[nn.Module, Tensor], GraphModule]:
    """A function that merges a model in float64 and checks that its outputs and the model stay."""

    def merge(model: nn.Module, image: Tensor) -> GraphModule:
        model = randomize_batch_norm(model).double().eval()
        image = image.double()
        before = copy.deepcopy(model.state_dict())
        merged = reparameterize(model, image)
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert not any(module.training for module in (*model.modules(), *merged.modules()))
        other = torch.randn_like(image)
        with torch.no_grad():
            for sample in (image, other):
                torch.testing.assert_close(merged(sample), model(sample), rtol=1e-9, atol=1e-9)
        return merged

    return merge


@pytest.fixture
def convs_of() -> Callable[[nn.Module], list[str]]:
    """A function that names all convolutions of a model."""

    def names(model: nn.Module) -> list[str]:
        return [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]

    return names
