"""States of quantized models: taken over by a model with the same grids, and by no other."""

import copy
import io
import pickle

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

import repq_fx

IMAGES = torch.randn(8, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def quantized(data, backend):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.SiLU(), nn.Conv2d(8, 4, 3)
    )
    return repq_fx.quantize(model.eval(), data, backend=backend, progress=False)


@pytest.fixture(params=["reference", "int8"])
def model(request):
    return quantized(IMAGES, request.param)


@pytest.fixture
def other(model):
    """The same float model on ten times larger images: the same names and shapes, other grids."""
    is_lowered = any("program" in name for name, _ in model.named_modules())
    return quantized(IMAGES * 10, "int8" if is_lowered else "reference")


def through_a_file(model, path):
    repq_fx.save(model, path)
    return repq_fx.load(path)


def through_a_file_and_a_pickle(model, path):
    return pickle.loads(pickle.dumps(through_a_file(model, path)))


COPIES = {
    "itself": lambda model, _: model,
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "pickled copy": lambda model, _: pickle.loads(pickle.dumps(copy.deepcopy(model))),
    "file": through_a_file,
    "pickled file": through_a_file_and_a_pickle,
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("strict", [True, False])
def test_another_models_state_is_refused_and_changes_nothing(
    duplicate, strict, model, other, tmp_path
):
    target = duplicate(model, tmp_path / "model.repq")
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ValueError, match="load_state_dict: the state is that of another quantized"):
        target.load_state_dict(other.state_dict(), strict=strict)
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())
    assert torch.equal(target(IMAGES), model(IMAGES))


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_models_own_state_is_taken_over(duplicate, model, tmp_path):
    expected = model(IMAGES)
    target = duplicate(copy.deepcopy(model), tmp_path / "model.repq")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    for buffer in target.buffers():
        if buffer.is_floating_point():
            buffer.mul_(2)
    assert not torch.equal(target(IMAGES), expected)
    assert str(target.load_state_dict(state)) == "<All keys matched successfully>"
    assert torch.equal(target(IMAGES), expected)


def test_new_weights_on_the_same_grids_are_taken_over(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    bias = [name for name in state if name.endswith("bias")][-1]
    state[bias] += 1
    expected = model(IMAGES) + 1
    model.load_state_dict(state)
    torch.testing.assert_close(model(IMAGES), expected)


def test_a_state_without_grids_fails_by_name(model):
    state = model.state_dict()
    missing = [name for name in state if name.endswith("_extra_state")]
    for name in missing:
        del state[name]
    with pytest.raises(RuntimeError, match=rf"Missing key.*{missing[0]}"):
        model.load_state_dict(state)
    model.load_state_dict(state, strict=False)


def test_no_grids_at_all_are_other_grids(model):
    state = model.state_dict()
    name = next(name for name in state if name.endswith("_extra_state"))
    for nothing in (None, torch.zeros(0), state[name][:5]):
        with pytest.raises(ValueError, match="of another quantized model"):
            model.load_state_dict({**state, name: nothing})


def test_states_go_through_torch_save_and_safetensors(model, other):
    expected = model(IMAGES)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    for state in (torch.load(buffer, weights_only=True), load(save(model.state_dict()))):
        model.load_state_dict(state)
        assert torch.equal(model(IMAGES), expected)
        with pytest.raises(ValueError, match="of another quantized model"):
            other.load_state_dict(state)


def test_a_model_without_an_integer_layer_has_no_grids():
    model = repq_fx.quantize(nn.ReLU().eval(), IMAGES, backend="reference", progress=False)
    assert model.state_dict() == {}
