"""Fixtures shared by all tests."""

from collections.abc import Callable

import hypothesis
import pytest
import torch
from torch import nn

pytest_plugins = ["tests.small_net"]

# No deadline: the first example of a property pays for lazy initialisation inside torch.
# The same examples in every run; `--hypothesis-profile default` draws others.
hypothesis.settings.register_profile(
    "repq_fx", deadline=None, max_examples=50, derandomize=True, database=None
)
hypothesis.settings.load_profile("repq_fx")


@pytest.hookimpl(tryfirst=True)
def pytest_make_collect_report(collector):
    """What a file draws when it is imported is the same in every run, as what its tests draw."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(0)


@pytest.fixture(autouse=True)
def seed() -> None:
    """Every test draws the same random numbers, alone or in the suite."""
    torch.manual_seed(0)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device the operators have kernels for."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    return torch.device(request.param)


def _randomize_batch_norm(model: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
    """Give every batch norm statistics and an affine map that a wrong fusion cannot survive.

    A fresh batch norm is nearly the identity, which hides errors. Weights are drawn from
    1 +- 0.5 and one in four is negated.
    """

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return torch.empty_like(like).uniform_(low, high, generator=generator)

    with torch.no_grad():
        for module in model.modules():
            if not isinstance(module, nn.modules.batchnorm._BatchNorm):
                continue
            if module.running_mean is not None and module.running_var is not None:
                module.running_mean.copy_(uniform(module.running_mean, -1.0, 1.0))
                module.running_var.copy_(uniform(module.running_var, 0.3, 2.0))
            if module.affine:
                sign = torch.where(uniform(module.weight, 0.0, 1.0) < 0.25, -1.0, 1.0)
                module.weight.copy_(sign * uniform(module.weight, 0.5, 1.5))
                module.bias.copy_(uniform(module.bias, -0.5, 0.5))
    return model


@pytest.fixture
def randomize_batch_norm() -> Callable[..., nn.Module]:
    """A function of `(model, generator=None)`, which edits `model` in place and returns it."""
    return _randomize_batch_norm
