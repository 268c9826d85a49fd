import pytest
import torch

from repq_fx.passes.graph.example import as_inputs, random_like, run


def test_a_tensor_stands_for_one_input():
    image = torch.zeros(1)
    assert as_inputs(image) == (image,)
    assert as_inputs((image, image)) == (image, image)


@pytest.mark.parametrize(
    ("inputs", "given"),
    [(None, "NoneType"), ([torch.zeros(1)], "list"), ((torch.zeros(1), 3), "Tensor, int")],
    ids=["none", "list", "number"],
)
def test_wrong_types_are_refused(inputs, given):
    with pytest.raises(TypeError, match=f"tuple of tensors, got .*{given}"):
        as_inputs(inputs)


@pytest.mark.parametrize(
    "inputs",
    [(), torch.zeros(0, 3), torch.zeros(1, device="meta")],
    ids=["empty_tuple", "empty_tensor", "meta"],
)
def test_inputs_without_data_are_refused(inputs):
    with pytest.raises(ValueError, match="example_inputs"):
        as_inputs(inputs)


def test_random_inputs_have_shape_and_dtype_and_leave_the_global_generator():
    before = torch.get_rng_state()
    inputs = (torch.zeros(2, 3), torch.tensor([4, 9]), torch.tensor([True, False]))
    first, second = random_like(inputs), random_like(inputs)
    for given, drawn, again in zip(inputs, first, second, strict=True):
        assert (drawn.shape, drawn.dtype) == (given.shape, given.dtype)
        assert torch.equal(drawn, again)
    assert 4 <= int(first[1].min()) <= int(first[1].max()) <= 9
    assert torch.equal(torch.get_rng_state(), before)


def test_run_computes_in_full_precision_and_restores_the_setting():
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    assert run(lambda *_: conv.fp32_precision, (torch.zeros(1),)) == "ieee"
    assert conv.fp32_precision == before


def test_run_protects_the_inputs():
    image = torch.zeros(3)
    assert torch.equal(run(lambda x: x.add_(1), (image,)), torch.ones(3))
    assert torch.equal(image, torch.zeros(3))
