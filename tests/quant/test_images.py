"""Inputs that are single images, and the first of many that are kept."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import CalibrationError, api
from repq_fx.passes import trace
from repq_fx.quant.images import (
    FirstImages,
    SingleImages,
    images_worth_keeping,
    inputs_left,
    leave_inputs,
    reads_single_images,
)

IMAGES = torch.randn(3, 3, 9, 9)
SIZES = {
    "large images": ((4, 3, 448, 448), 32),
    "images of 224 x 224": ((4, 3, 224, 224), 32),
    "small images": ((4, 3, 32, 32), 1024),
    "images between": ((4, 3, 56, 112), 256),
    "vectors": ((4, 100_000), 1024),
    "a number": ((), 1024),
}


@pytest.mark.parametrize(("shape", "expected"), SIZES.values(), ids=SIZES)
def test_of_small_images_more_are_worth_keeping(shape, expected):
    assert images_worth_keeping((torch.zeros(shape),)) == expected


def test_the_largest_input_counts():
    images, mask = torch.zeros(4, 1, 32, 32), torch.zeros(4, 1, 224, 224)
    assert images_worth_keeping((images, mask)) == 32


def kept(most, *batches):
    images = FirstImages(most)
    for inputs in batches:
        images.add(inputs)
    return images


def test_batches_are_cut_to_what_is_missing():
    images = torch.arange(24.0).reshape(12, 2)
    found = kept(7, *((part, part + 1) for part in images.split(3)))
    assert found.are_complete
    first, second = found.joined()
    assert torch.equal(first, images[:7])
    assert torch.equal(second, images[:7] + 1)


def test_fewer_than_enough_are_not_complete():
    found = kept(7, (torch.zeros(3, 2),), (torch.zeros(3, 2),))
    assert not found.are_complete
    assert len(found.joined()[0]) == 6


OTHERS = {
    "another size": (torch.zeros(4, 5), torch.zeros(4, 2)),
    "another size of the second": (torch.zeros(4, 2), torch.zeros(4, 5)),
    "another length of the second": (torch.zeros(4, 2), torch.zeros(1, 2)),
    "no axis": (torch.zeros(4, 2), torch.tensor(0.0)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_others_are_passed_over(other):
    first, last = ((torch.full((2, 2), value),) * 2 for value in (1.0, 2.0))
    found = kept(4, first, other, last)
    assert found.are_complete
    assert torch.equal(found.joined()[0], torch.cat([first[0], last[0]]))


@pytest.mark.parametrize("second", [torch.tensor(1.0), torch.zeros(1, 2)], ids=["number", "row"])
def test_what_cannot_be_joined_is_kept_alone_and_whole(second):
    inputs = torch.zeros(9, 2), second
    found = kept(4, inputs, inputs, (torch.zeros(4, 2), torch.zeros(4, 2)))
    assert found.are_complete
    assert all(a is b for a, b in zip(found.joined(), inputs, strict=True))


def test_what_is_taken_whole_is_not_cut():
    found = FirstImages(4)
    found.take_whole((torch.zeros(9, 2),))
    found.add((torch.zeros(9, 2),))
    assert found.joined()[0].shape == (9, 2)


@pytest.fixture
def prepared():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    return api.prepare(trace(net, IMAGES), IMAGES, repq_fx.Scheme())


def test_the_latest_are_left(prepared):
    assert inputs_left(prepared) is None
    leave_inputs(prepared, (IMAGES,))
    assert inputs_left(prepared)[0] is IMAGES
    leave_inputs(prepared, None)
    assert inputs_left(prepared) is None


@pytest.mark.parametrize(
    ("data", "is_kept"), [(list(IMAGES), False), (IMAGES.split(1), True)], ids=["single", "batches"]
)
def test_only_batches_are_kept(data, is_kept, prepared):
    repq_fx.calibrate(prepared, data, progress=False)
    assert (inputs_left(prepared) is not None) is is_kept
    if is_kept:
        assert torch.equal(inputs_left(prepared)[0], IMAGES)


class Gated(nn.Module):
    """A layer that reads a parameter with one axis, beside one that reads a batch of images."""

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(4))
        self.gate, self.conv = nn.Linear(4, 3), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.conv(x) * self.gate(self.weights)[:, None, None]


def linear_net():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)).eval()


def conv_net():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()


def wide_conv_net():
    return nn.Sequential(nn.Conv2d(40, 8, 3), nn.ReLU(), nn.Flatten(0), nn.Linear(392, 4)).eval()


NETS = {
    "vector": (linear_net, (8,)),
    "image": (conv_net, (3, 9, 9)),
    "more channels than images are kept": (wide_conv_net, (40, 9, 9)),
}


def samples(shape, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def outputs(model, inputs):
    with torch.no_grad():
        return torch.stack([model(value) for value in inputs])


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize(("build", "shape"), NETS.values(), ids=NETS)
def test_single_samples_quantize_a_model_as_well_as_batches(build, shape, backend, tmp_path):
    torch.manual_seed(0)
    model = build()
    quantized = repq_fx.quantize(model, samples(shape, 40), backend=backend, progress=False)
    others = samples(shape, 20, seed=1)
    assert repq_fx.analysis.sqnr_db(outputs(model, others), outputs(quantized, others)) > 25
    repq_fx.save(quantized, tmp_path / "model.repq")
    loaded = repq_fx.load(tmp_path / "model.repq")
    assert torch.equal(outputs(loaded, others), outputs(quantized, others))


@pytest.mark.parametrize("backend", ["reference", "int8"])
@pytest.mark.parametrize(("build", "shape"), NETS.values(), ids=NETS)
def test_one_single_sample_is_enough_to_run(build, shape, backend):
    torch.manual_seed(0)
    model, (sample,) = build(), samples(shape, 1)
    quantized = repq_fx.quantize(model, [sample], backend=backend, progress=False)
    assert repq_fx.analysis.sqnr_db(model(sample), quantized(sample)) > 25


@pytest.mark.parametrize(("build", "shape"), NETS.values(), ids=NETS)
def test_a_reconstruction_of_single_samples_is_refused(build, shape):
    data = samples(shape, 40)
    with pytest.raises(CalibrationError, match=r"reconstruct: batch 0 is a single image of shape"):
        repq_fx.quantize(build(), data, reconstruction=repq_fx.AdaRound(), progress=False)


CASES = {
    "vector": (linear_net, (8,), True),
    "vectors": (linear_net, (2, 8), False),
    "image": (conv_net, (3, 9, 9), True),
    "images": (conv_net, (1, 3, 9, 9), False),
    "images beside a parameter": (Gated, (2, 3, 9, 9), False),
    "images without channels": (lambda: nn.Sequential(nn.Unflatten(1, (1, 9)), nn.Conv2d(1, 2, 3)),
                                (2, 9, 9), False),
}  # fmt: skip


@pytest.mark.parametrize(("build", "shape", "expected"), CASES.values(), ids=CASES)
def test_the_layers_tell(build, shape, expected):
    model = build().eval()
    assert reads_single_images(model, (torch.randn(shape),)) is expected
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_model_that_fails_keeps_no_hook():
    model = conv_net()
    watch = SingleImages(model, (torch.randn(3, 9, 9),))
    with pytest.raises(RuntimeError), watch:
        model(torch.randn(5, 9, 9))
    assert not any(module._forward_pre_hooks for module in model.modules())
