"""The composed steps on a whole model, and what they refuse."""

import copy
import gc
import weakref
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import CalibrationError, TraceError, analysis, api
from repq_fx.lowering.int8.instructions import Int8Program
from repq_fx.models import fashion_repvgg
from repq_fx.nn import RepVGGBlock
from repq_fx.quant import ActivationObserver
from repq_fx.quant.images import inputs_left


@pytest.fixture
def model(randomize_batch_norm):
    return randomize_batch_norm(fashion_repvgg().eval())


@pytest.fixture
def images():
    return torch.randn(16, 1, 28, 28)


def sqnr(model, other, images):
    with torch.no_grad():
        return repq_fx.analysis.sqnr_db(model(images), other(images))


@contextmanager
def multiplications(monkeypatch):
    """Counts those of convolutions and linear layers, in a list with one number."""
    count = [0]

    def counting(kind):
        forward = kind.forward

        def counted(layer, values):
            output = forward(layer, values)
            if isinstance(output, torch.Tensor):  # Tracing calls it with something else.
                count[0] += output.numel() * layer.weight[0].numel()
            return output

        return counted

    with monkeypatch.context() as patch:
        for kind in (nn.Conv2d, nn.Linear):
            patch.setattr(kind, "forward", counting(kind))
        yield count


@pytest.mark.parametrize(
    ("size", "fast", "most"), [(32, False, 12), (96, False, 8), (32, True, 6), (96, True, 6)]
)
def test_quantizing_takes_few_forward_passes(size, fast, most, monkeypatch):
    """Of the calibration images through all layers, whatever they are for."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.SiLU(),
        nn.Conv2d(8, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    ).eval()  # fmt: skip
    images = torch.rand(32, 3, size, size)
    with multiplications(monkeypatch) as one, torch.no_grad():
        net(images)
    with multiplications(monkeypatch) as all_of_them:
        repq_fx.quantize(net, images, backend="reference", fast=fast, progress=False)
    assert all_of_them[0] <= most * one[0]


def test_fast_is_the_faster_scheme_and_hardly_worse(model, images):
    fast = repq_fx.quantize(model, images, fast=True, progress=False)
    faster = repq_fx.Scheme().faster()
    same = repq_fx.quantize(model, images, scheme=faster, progress=False)
    assert torch.equal(fast(images), same(images))
    thorough = repq_fx.quantize(model, images, progress=False)
    assert sqnr(model, fast, images) > sqnr(model, thorough, images) - 2


@pytest.mark.parametrize("backend", ["reference", "int8"])
def test_one_call_quantizes_a_training_form_model(backend, model, images):
    int8 = repq_fx.quantize(model, images, backend=backend, progress=False)
    assert sqnr(model, int8, images) > 20
    assert not any(isinstance(m, nn.BatchNorm2d) for m in int8.modules())


def test_the_one_call_is_the_steps_in_order(model, images):
    merged = repq_fx.reparameterize(model, images[:2])
    equalized = repq_fx.equalize(merged, images)
    prepared = api.prepare(equalized, images[:2], repq_fx.Scheme())
    repq_fx.calibrate(prepared, images, progress=False)
    by_hand = repq_fx.convert(prepared)
    in_one = repq_fx.quantize(model, images, images[:2], progress=False)
    assert torch.equal(by_hand(images), in_one(images))


def test_lowered_and_reference_agree(model, images):
    prepared = api.prepare(repq_fx.reparameterize(model, images), images, repq_fx.Scheme())
    repq_fx.calibrate(prepared, images, progress=False)
    reference, lowered = (repq_fx.convert(prepared, backend=b) for b in ("reference", "int8"))
    assert sqnr(reference, lowered, images) >= 40


def test_the_users_model_is_not_changed(model, images):
    before, text = copy.deepcopy(model.state_dict()), str(model)
    repq_fx.quantize(model, images, progress=False)
    assert str(model) == text
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("backend", ["reference", "int8"])
def test_nothing_holds_what_was_prepared(backend, model, images):
    example = images[:2]
    prepared = api.prepare(repq_fx.reparameterize(model, example), example, repq_fx.Scheme())
    repq_fx.calibrate(prepared, images, progress=False)
    kept = weakref.ref(inputs_left(prepared)[0])
    converted = repq_fx.convert(prepared, backend)
    del prepared
    gc.collect()
    assert kept() is None
    assert converted(example).shape[0] == 2


def test_order_and_size_of_batches_do_not_matter(model, images):
    merged = repq_fx.reparameterize(model, images[:1])
    parameters = []
    for data in (images, images.split(3), images.flip(0).split(16)):
        prepared = api.prepare(merged, images[:1], repq_fx.Scheme())
        repq_fx.calibrate(prepared, data, progress=False)
        observers = [m for m in prepared.modules() if isinstance(m, ActivationObserver)]
        parameters.append([observer.parameters_of_range() for observer in observers])
    scales = torch.tensor([[p.scale for p in run] for run in parameters])
    # Convolutions of other batch sizes differ in their last bits, and so do a tensor's extremes.
    torch.testing.assert_close(scales, scales[:1].expand_as(scales), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: [(b, torch.zeros(len(b))) for b in x.split(4)],
        lambda x: (b for b in x.split(4)),
        lambda x: torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=4),
    ],
    ids=["pairs", "generator", "loader"],
)
def test_kinds_of_data(wrap, model, images):
    int8 = repq_fx.quantize(model, wrap(images), progress=False)
    assert torch.equal(int8(images), repq_fx.quantize(model, images, progress=False)(images))


def test_a_reconstruction_holds_only_the_images_that_it_uses():
    alive = weakref.WeakSet()

    def batches():
        for _ in range(12):
            batch = torch.rand(8, 1, 224, 224)
            alive.add(batch)
            yield batch
            del batch
            assert len(alive) <= 6  # Four for the reconstruction, and what was read last.

    model = nn.Sequential(nn.Conv2d(1, 2, 3, 4), nn.ReLU(), nn.Conv2d(2, 2, 1)).eval()
    method = repq_fx.AdaRound(iterations=1, images=32, batch_size=8)
    repq_fx.quantize(model, batches(), reconstruction=method, progress=False)


def test_a_reconstruction_that_is_none_is_refused_before_anything_is_read(model):
    data = iter(["no batch"])
    with pytest.raises(TypeError, match=r"method must be AdaRound.* got 'adaround'"):
        repq_fx.quantize(model, data, reconstruction="adaround", progress=False)
    assert next(data) == "no batch"


def test_batch_and_image_size_may_change(model, images):
    int8 = repq_fx.quantize(model, images, progress=False)
    for shape in ((1, 1, 28, 28), (5, 1, 20, 33)):
        other = torch.randn(shape)
        assert sqnr(model, int8, other) > 15


def prepared_of(model, images):
    return api.prepare(repq_fx.reparameterize(model, images), images, repq_fx.Scheme())


NAN = torch.zeros(2, 1, 28, 28).index_fill(0, torch.tensor(1), float("nan"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "data is empty"),
        (torch.empty(0, 1, 28, 28), "data is empty"),
        ([torch.randn(2, 1, 28, 28), NAN], "batch 1 holds NaN or infinite"),
        ([torch.randn(2, 3, 28, 28)], r"batch 0 \(\(2, 3, 28, 28\) torch.float32\) does not fit"),
        ([torch.zeros(2, 1, 28, 28, dtype=torch.uint8)], "batch 0 has dtype torch.uint8"),
        ([{"image": torch.randn(2, 1, 28, 28)}], "batch 0 must be a tensor .* got dict"),
        ([["path.jpg"]], "batch 0 holds a str, expected a tensor"),
        ([torch.empty(0, 1, 28, 28)], "batch 0 is empty"),
        (torch.full((4, 1, 28, 28), 0.5), "every value of the calibration data is 0.5"),
        (3, "must be a tensor or an iterable of batches, got int"),
    ],
    ids=["none", "no-rows", "nan", "shape", "dtype", "dict", "text", "empty", "constant", "int"],
)
def test_bad_calibration_data_is_named(data, message, model, images):
    with pytest.raises(CalibrationError, match=message):
        repq_fx.calibrate(prepared_of(model, images), data, progress=False)


def test_batches_that_a_model_does_not_take_joined_are_named(images):
    class OneImage(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(2 * 26 * 26, 3)

        def forward(self, x):
            return self.head(self.conv(x).reshape(1, 2 * 26 * 26))

    message = r"calibration batches joined to one \(\(8, 1, 28, 28\) .* does not fit the model"
    with pytest.raises(CalibrationError, match=message):
        repq_fx.quantize(OneImage().eval(), list(images[:8].split(1)), progress=False)


def test_data_that_ends_before_steps_is_named(model, images):
    with pytest.raises(CalibrationError, match="ended after 4 of 5 batches"):
        repq_fx.calibrate(prepared_of(model, images), images.split(4), steps=5, progress=False)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        repq_fx.calibrate(prepared_of(model, images), images, steps=0, progress=False)


def test_steps_limit_the_data(model, images):
    bad = torch.full((4, 1, 28, 28), float("nan"))
    repq_fx.calibrate(prepared_of(model, images), [images, bad], steps=1, progress=False)


def test_calibrating_a_model_without_observers_is_refused(model, images):
    with pytest.raises(CalibrationError, match="has no repq_fx observers"):
        repq_fx.calibrate(model, images)


def test_an_internal_tensor_that_is_always_zero_is_reported_and_finite(model, images, caplog):
    with torch.no_grad():
        merged = repq_fx.reparameterize(model, images)
        merged.get_submodule("stem.reparam_conv").weight.zero_()
        merged.get_submodule("stem.reparam_conv").bias.fill_(-1.0)
    prepared = api.prepare(merged, images, repq_fx.Scheme())
    repq_fx.calibrate(prepared, images, progress=False)
    assert "was 0 for all calibration data" in caplog.text
    assert torch.isfinite(repq_fx.convert(prepared)(images)).all()


def test_training_mode_is_refused(images):
    with pytest.raises((ValueError, TraceError), match="training mode"):
        repq_fx.quantize(fashion_repvgg().train(), images, progress=False)


class DataDependent(nn.Module):
    def forward(self, image):
        return image if image.sum() > 0 else -image


def test_a_model_that_cannot_be_traced_is_named(images):
    with pytest.raises(TraceError, match=r"test_api\.py:\d+"):
        repq_fx.quantize(nn.Sequential(DataDependent()).eval(), images, progress=False)


def test_the_old_name_of_the_integer_backend_still_works(model, images):
    prepared = prepared_of(model, images)
    repq_fx.calibrate(prepared, images, progress=False)
    both = [repq_fx.convert(prepared, backend=name)(images) for name in ("int8", "x86")]
    assert torch.equal(*both)
    int8 = repq_fx.quantize(model, images, backend="x86", progress=False)
    assert any(isinstance(module, Int8Program) for module in int8.modules())


def test_unknown_backend_is_refused(model, images):
    with pytest.raises(ValueError, match=r"backend must be one of \['reference', 'int8'\], got 'a"):
        repq_fx.convert(prepared_of(model, images), backend="arm")


class DecodingHead(nn.Module):
    """Takes a list, depends on values and returns a tuple, as the heads of detectors do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 2, 1)

    def forward(self, features):
        scores = [self.conv(feature) for feature in features]
        is_usual = float(scores[0].detach().mean()) > -1e9
        return (scores[0] if is_usual else scores[1]), scores


class Detector(nn.Module):
    """A body of RepVGG blocks with a split, and a head that cannot be traced."""

    def __init__(self):
        super().__init__()
        self.stem = RepVGGBlock(3, 4, stride=2)
        self.body = RepVGGBlock(2, 2)
        self.head = DecodingHead()

    def forward(self, x):
        left, right = self.stem(x).chunk(2, 1)
        features = torch.cat([left, self.body(right)], 1)
        return self.head([features, self.stem(x)])


@pytest.mark.parametrize("backend", ["int8", "reference"])
def test_detector_with_its_head_as_a_leaf(backend):
    model = Detector().eval()
    images = torch.rand(8, 3, 16, 16)
    quantized = repq_fx.quantize(model, images, backend=backend, leaves=["head"], progress=False)
    assert isinstance(quantized.head, DecodingHead)
    assert torch.equal(quantized.head.conv.weight, model.head.conv.weight)
    known, found = model(images), quantized(images)
    assert analysis.sqnr_db(known[0], found[0]) > 25
    assert len(found[1]) == 2


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, image, gain, offset=1.0):
        return self.head(self.first(image).relu() * gain + offset)


@pytest.mark.parametrize("shape", [(8, 4, 1, 1), (1, 4, 1, 1), ()], ids=str)
def test_two_inputs(shape):
    torch.manual_seed(0)
    model = TwoInputs().eval()
    batches = [(torch.randn(8, 3, 8, 8), torch.rand(shape)) for _ in range(3)]
    int8 = repq_fx.quantize(model, batches, progress=False)
    with torch.no_grad():
        assert analysis.sqnr_db(model(*batches[0]), int8(*batches[0])) > 20


def test_a_scheme_by_its_name(model, images):
    by_name, by_object = (
        repq_fx.quantize(model, images, scheme=scheme, progress=False)
        for scheme in ("W4A8", repq_fx.Scheme.w4a8())
    )
    assert torch.equal(by_name(images), by_object(images))
    assert repq_fx.get_qconfig_mapping("w6a6").global_qconfig is not None
    with pytest.raises(ValueError, match="unknown scheme 'int8'"):
        repq_fx.quantize(model, images, scheme="int8", progress=False)


def test_layers_that_disturb_the_outputs_most(model, images):
    merged = repq_fx.reparameterize(model, images[:2])
    before = str(merged.graph)
    found = api.layer_sensitivities(merged, images.split(8), repq_fx.Scheme.w4a8(), progress=False)
    assert str(merged.graph) == before
    assert "classifier" in found
    assert all(noise >= 0 for noise in found.values())
    assert max(found.values()) > 0


def test_version_is_the_one_of_the_package():
    assert repq_fx.__version__ == "0.1.0"
