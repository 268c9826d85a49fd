"""The error of a part, against its formula."""

import pytest
import torch

from repq_fx import Fisher
from repq_fx.reconstruct.losses import output_error, size_of

each_power = pytest.mark.parametrize("power", [1.0, 2.0, 2.4])


@each_power
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_errors_are_summed_over_channels_and_outputs(power, weighted):
    shapes = [(4, 6, 3, 3), (4, 5), (4,)]
    outputs, targets = ([torch.randn(shape) for shape in shapes] for _ in range(2))
    weights = [torch.rand(shape) if weighted else None for shape in shapes]
    sizes, expected = [0.5, 2.0, 3.0], 0.0
    for output, target, size, weight in zip(outputs, targets, sizes, weights, strict=True):
        error = (output.double() - target).abs() ** power * (1 if weight is None else weight)
        over_channels = error.sum(1) if error.dim() > 1 else error
        expected += over_channels.mean().item() / size
    found = output_error(outputs, targets, sizes, power, weights)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@each_power
def test_the_relative_error_has_no_unit(power):
    output, target = torch.randn(4, 6, 3, 3), torch.randn(4, 6, 3, 3)
    errors = []
    for factor in (1.0, 1024.0):
        size = size_of(factor * target, power).item()
        scaled = [factor * output], [factor * target]
        errors.append(output_error(*scaled, [size], power, [None]).item())
    assert errors[0] == pytest.approx(errors[1], rel=1e-5)
    zero = output_error([0 * target], [target], [size_of(target, power).item()], power, [None])
    assert zero.item() == pytest.approx(6, rel=1e-5)


@each_power
def test_exact_outputs_have_no_error_and_finite_gradients(power):
    target = torch.randn(4, 6)
    output = target.clone().requires_grad_()
    error = output_error([output], [target], [1.0], power, [None])
    error.backward()
    assert error == 0
    assert torch.isfinite(output.grad).all()


def test_fisher_weighs_squares():
    assert Fisher().power == 2
