"""Models that are given one sample at a time, without an axis that counts samples."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import CalibrationError
from repq_fx.quant.single_images import SingleImages, reads_single_images


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
