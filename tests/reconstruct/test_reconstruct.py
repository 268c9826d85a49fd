"""Reconstruction of whole networks: results, resumption, rolling back and refusals."""

import logging
import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import repq_fx
from repq_fx import (
    BRECQ,
    MAE,
    AdaRound,
    CalibrationError,
    CoarseFine,
    ConversionError,
    FileFormatError,
    Fisher,
    LpLoss,
    PerChannel,
    PerTensor,
    QDrop,
    RepAPQ,
    Scheme,
    api,
)
from repq_fx.reconstruct import reconstruct
from repq_fx.reconstruct.training import PartTrainer
from repq_fx.refine.refinement import Refinement
from tests.reconstruct.nets import (
    Chain,
    Detector,
    Inverted,
    Mlp,
    Residual,
    Split,
    Transposed,
    inputs_of,
    lively,
    prepared_net,
)

IMAGES = 24
METHODS = {"adaround": AdaRound, "brecq": BRECQ, "qdrop": QDrop, "repapq": RepAPQ}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
W4 = Scheme(4, 4, equalization=False)
FAST = Scheme(4, 4, PerChannel(), gptq=False, equalization=False)


def quick(method=BRECQ, **options):
    return method(
        **{"iterations": 4, "batch_size": 8, "images": IMAGES, "validation": 0.25, **options}
    )


@pytest.fixture
def ready():
    """Prepares a network."""

    def make(net=Chain, scheme=FAST):
        torch.manual_seed(0)
        model = lively(net())
        data = inputs_of(model, IMAGES)
        return prepared_net(model, data, scheme), data

    return make


def found_in(prepared):
    """All that was found, as one dictionary of tensors and numbers."""
    found = Refinement.left_on(prepared)
    values = {f"bias/{name}": bias for name, bias in found.biases.items()}
    values.update({f"range/{n}": (r.scale, r.zero_point) for n, r in found.ranges.items()})
    for name, weight in found.weights.items():
        values.update({f"{key}/{name}": value for key, value in vars(weight).items()})
    return values


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name
        else:
            assert value == second[name], name


def learn(make, method, net=Chain, scheme=FAST, **options):
    prepared, data = make(net, scheme)
    reconstruct(prepared, data, method, progress=False, **options)
    return found_in(prepared)


def first_output(output):
    return output[0] if isinstance(output, tuple) else output


@each_method
@pytest.mark.parametrize("net", [Chain, Residual])
def test_what_is_learned_is_converted(ready, method, net, tmp_path):
    prepared, data = ready(net, W4 if method is RepAPQ else FAST)
    before = {name: value.clone() for name, value in prepared.state_dict().items()}
    with torch.no_grad():
        exact = prepared(data)
    own = repq_fx.convert(prepared, "reference")
    reconstruct(prepared, data, quick(method), progress=False)
    assert all(torch.equal(value, before[name]) for name, value in prepared.state_dict().items())
    reference, int8 = (repq_fx.convert(prepared, backend) for backend in ("reference", "int8"))
    with torch.no_grad():
        assert torch.equal(prepared(data), exact)
        outputs = reference(data)
        assert not torch.equal(outputs, own(data))
        error, own_error = ((x - exact).square().mean() for x in (outputs, own(data)))
        # Few steps on few images: no worse than rounding, and not another network.
        assert error < 1.5 * own_error + 1e-3 * exact.square().mean()
        torch.testing.assert_close(int8(data), outputs, rtol=0.05, atol=0.05)
        quantized = int8 if net is Chain else reference
        repq_fx.save(quantized, tmp_path / "model")
        assert torch.equal(repq_fx.load(tmp_path / "model")(data), quantized(data))


def test_learning_helps(caplog):
    """Inputs that go together let errors cancel, which rounding to nearest does not see."""
    model = lively(Residual())
    data = inputs_of(model, 64)
    data = data + 2 * data.roll(1, 1) + 2 * data.roll(1, 2) + 2 * data.roll(1, 3)
    scheme = replace(FAST, weight_bits=3, activation_bits=8)
    prepared = prepared_net(model, data, scheme)
    method = quick(iterations=80, images=64, batch_size=16, rounding_rate=0.05, rounding_weight=1.0)
    with caplog.at_level(logging.INFO, "repq_fx"):
        reconstruct(prepared, data, method, progress=False)
    reports = [r.args[0] for r in caplog.records if r.message.startswith("reconstructed")]
    assert len(reports) == 4
    assert all(report.after <= report.before for report in reports)
    assert any(report.after < 0.98 * report.before for report in reports)


def test_a_part_that_disturbs_the_network_is_rolled_back(caplog):
    """What fits a part best to noisy inputs may be worse for what reads it."""
    model = lively(Residual())
    data = inputs_of(model, 64)
    data = data + 2 * data.roll(1, 1) + 2 * data.roll(1, 2) + 2 * data.roll(1, 3)
    scheme = replace(FAST, weight_bits=3, activation_bits=8)
    method = quick(iterations=80, images=64, batch_size=16, rounding_rate=0.05, rounding_weight=1.0)
    fresh = inputs_of(model, 1024)[64:]
    fresh = fresh + 2 * fresh.roll(1, 1) + 2 * fresh.roll(1, 2) + 2 * fresh.roll(1, 3)
    errors = []
    for iterations in (0, 80):
        prepared = prepared_net(model, data, scheme)
        with caplog.at_level(logging.INFO, "repq_fx"):
            reconstruct(prepared, data, replace(method, iterations=iterations), progress=False)
        with torch.no_grad():
            found = repq_fx.convert(prepared, "reference")(fresh)
            errors.append(float((found - model(fresh)).square().mean()))
    assert "it raised the error of the network from" in caplog.text
    # The part taken back would double it.
    assert errors[1] <= errors[0]


@pytest.mark.parametrize(
    ("net", "options"),
    [
        (Mlp, {}),
        (Mlp, {"method": RepAPQ}),
        (Detector, {"method": QDrop}),
        (Detector, {"loss": Fisher()}),
        (Split, {"partition": "layers"}),
        (Split, {"loss": Fisher(), "partition": "layers"}),
        (Inverted, {"method": RepAPQ, "rounds_coarse": True, "loss": LpLoss(2.4)}),
        (Chain, {"across_blocks": 1.0, "partition": "layers", "loss": MAE()}),
        (Residual, {"partition": "net"}),
        (Residual, {"partition": "stages", "input": "float"}),
        (Residual, {"batch_values": 1, "rounding_rate": 0.0, "shift_rate": 1e-2}),
        (Residual, {"rounding_rate": 0.0, "step_rate": 0.0}),
        (Transposed, {}),
    ],
    ids=str,
)
def test_other_networks_and_options(ready, net, options):
    prepared, data = ready(net)
    reconstruct(prepared, data, quick(**options), progress=False)
    quantized = repq_fx.convert(prepared, "reference")
    with torch.no_grad():
        exact, outputs = first_output(prepared(data)), first_output(quantized(data))
    assert (outputs - exact).square().mean() < 0.5 * exact.square().mean()


@pytest.mark.parametrize(
    ("weight", "rounds_coarse"),
    [
        (PerTensor(), False),
        (PerChannel(), True),
        (CoarseFine(threshold=0), False),
        (CoarseFine(threshold=0), True),
    ],
    ids=["tensor", "channel", "split", "split-coarse"],
)
def test_every_weight_quantizer(ready, weight, rounds_coarse):
    prepared, data = ready(Chain, replace(FAST, weight=weight))
    reconstruct(prepared, data, quick(RepAPQ, rounds_coarse=rounds_coarse), progress=False)
    found = Refinement.left_on(prepared).weights
    assert len(found) == 7
    for name, quantized in found.items():
        assert quantized.values.abs().max() <= 7
        is_split = isinstance(weight, CoarseFine) and name != "head"
        assert (quantized.coarse_values is not None) == is_split
    repq_fx.convert(prepared, "int8")(data)


def test_equal_seeds_give_equal_results(ready):
    first, second, other = (learn(ready, quick(QDrop), seed=seed) for seed in (1, 1, 2))
    assert_same(first, second)
    assert any(
        isinstance(value, torch.Tensor) and not torch.equal(value, other[name])
        for name, value in first.items()
    )


def test_memory_does_not_change_the_result(ready):
    method = quick(QDrop, loss=Fisher())
    nothing, all_ = (learn(ready, method, Residual, memory=memory) for memory in (0, 2**30))
    assert_same(nothing, all_)


def test_data_may_come_in_batches_with_labels(ready):
    prepared, data = ready()
    reconstruct(prepared, data, quick(), progress=False)
    whole = found_in(prepared)
    batches = [(part, torch.zeros(len(part))) for part in data.split(5)]
    prepared, _ = ready()
    reconstruct(prepared, batches, quick(), progress=False)
    assert_same(found_in(prepared), whole)


def test_only_so_many_images_are_used(ready):
    prepared, data = ready()
    more = torch.cat([data, 100 * data])
    reconstruct(prepared, more, quick(), progress=False)
    assert_same(found_in(prepared), learn(ready, quick()))


def trained_parts(monkeypatch, stop_before=None):
    """Names of the parts that are trained, optionally up to an interruption."""
    names, original = [], PartTrainer.run

    def run(self, name, *rest):
        if len(names) == stop_before:
            raise KeyboardInterrupt
        names.append(name)
        return original(self, name, *rest)

    monkeypatch.setattr(PartTrainer, "run", run)
    return names


@pytest.mark.parametrize(
    ("net", "method"),
    [(Residual, quick(RepAPQ, loss=Fisher(), across_blocks=1.0)), (Split, quick(QDrop))],
    ids=["residual-fisher", "split-qdrop"],
)
def test_an_interrupted_run_goes_on(ready, monkeypatch, tmp_path, net, method):
    path = tmp_path / "run.ckpt"
    whole = learn(ready, method, net)
    for _ in range(2):  # One part is learned each time.
        with monkeypatch.context() as patch:
            trained_parts(patch, stop_before=1)
            prepared, data = ready(net)
            with pytest.raises(KeyboardInterrupt):
                reconstruct(prepared, data, method, checkpoint=path, progress=False)
            assert Refinement.left_on(prepared) is None
    with monkeypatch.context() as patch:
        names = trained_parts(patch)
        assert_same(learn(ready, method, net, checkpoint=path), whole)
        assert len(names) >= 1
        names.clear()
        assert_same(learn(ready, method, net, checkpoint=path), whole)
        assert names == []
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("changed", ["method", "seed", "data", "model", "scheme", "rule"])
def test_the_checkpoint_of_another_run_is_refused(ready, tmp_path, changed):
    path, method, seed = tmp_path / "run.ckpt", quick(iterations=0), 0
    learn(ready, method, checkpoint=path)
    prepared, data = ready()
    if changed == "method":
        method = quick(iterations=1)
    elif changed == "seed":
        seed = 1
    elif changed == "data":
        data = data.flip(0)
    elif changed == "model":
        prepared.get_submodule("head").bias.data += 1
    elif changed == "scheme":
        prepared, _ = ready(scheme=replace(FAST, activation_bits=8))
    else:
        prepared, _ = ready(scheme=replace(FAST, weight=PerTensor()))
    with pytest.raises(FileFormatError, match="is the checkpoint of another run"):
        reconstruct(prepared, data, method, checkpoint=path, seed=seed, progress=False)


@pytest.mark.parametrize("changed", ["weights", "ranges"])
def test_a_checkpoint_knows_what_its_run_went_on_from(ready, tmp_path, changed):
    path, method = tmp_path / "run.ckpt", quick(iterations=0)
    prepared, data = ready()
    reconstruct(prepared, data, method, progress=False)
    before = Refinement.left_on(prepared)
    reconstruct(prepared, data, method, checkpoint=path, progress=False)
    if changed == "weights":
        head = before.weights["head"]
        before.weights["head"] = replace(head, scale=2 * head.scale)
    else:
        name, parameters = next(iter(before.ranges.items()))
        before.ranges[name] = parameters.scaled(2.0)
    before.leave_on(prepared)
    with pytest.raises(FileFormatError, match="is the checkpoint of another run"):
        reconstruct(prepared, data, method, checkpoint=path, progress=False)


def test_a_file_that_is_no_checkpoint_is_refused_and_kept(ready, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    prepared, data = ready()
    with pytest.raises(FileFormatError, match="is no checkpoint"):
        reconstruct(prepared, data, quick(), checkpoint=str(path), progress=False)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("net", [Residual])
def test_without_iterations_it_is_what_convert_finds(ready, caplog, net):
    """Part by part as in one walk, but for float16 on the way and the images that are held out."""
    prepared, data = ready(net, replace(W4, output_search=False))
    own = repq_fx.convert(prepared, "reference")
    with caplog.at_level(logging.WARNING, "repq_fx"):
        reconstruct(prepared, data, quick(iterations=0, validation=0.01), progress=False)
    assert caplog.records == []
    quantized = repq_fx.convert(prepared, "reference")
    with torch.no_grad():
        exact = prepared(data)
        errors = [(part(data) - exact).square().mean() for part in (quantized, own)]
    assert errors[0] == pytest.approx(errors[1].item(), rel=0.5)
    found = Refinement.left_on(prepared).weights["stem"].values
    assert (found != own.get_submodule("stem").values).float().mean() < 0.1


@pytest.mark.parametrize(
    "spoilt",
    [
        {"method": RepAPQ, "gain_rate": 1e6},
        {"method": RepAPQ, "shift_rate": 1e6},
        {"step_rate": 50.0},
    ],
    ids=str,
)
def test_a_part_that_becomes_worse_is_rolled_back(ready, caplog, spoilt):
    untrained = learn(ready, quick(**{**spoilt, "iterations": 0}))
    prepared, data = ready()
    method = quick(**{"rounding_rate": 0.0, **spoilt})
    with caplog.at_level(logging.INFO, "repq_fx"):
        reconstruct(prepared, data, method, progress=False)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    reports = [r.args[0] for r in caplog.records if r.message.startswith("reconstructed")]
    assert reports
    for report in reports:
        assert report.after == report.before
        assert report.problem is not None
        is_warned = any(w.startswith(f"{report.name} was rolled back: ") for w in warnings)
        assert is_warned == ("NaN" in report.problem)
    assert_same(found_in(prepared), untrained)


def test_a_loss_that_is_not_finite_is_named(ready, caplog, monkeypatch):
    untrained = learn(ready, quick(iterations=0))
    original = PartTrainer._loss

    def loss(self, batch):
        value = original(self, batch)
        return value * torch.nan if torch.is_grad_enabled() else value

    monkeypatch.setattr(PartTrainer, "_loss", loss)
    prepared, data = ready()
    with caplog.at_level(logging.WARNING, "repq_fx"):
        reconstruct(prepared, data, quick(), progress=False)
    assert (
        "stem was rolled back: its loss or a gradient became infinite or NaN in step 1"
        in caplog.text
    )
    assert_same(found_in(prepared), untrained)


def replaced(data, value):
    data = data.clone()
    data[3, 0, 0, 0] = value
    return data


BAD_DATA = {
    "few": (lambda x: x[:8], "of 8 images 2 are held out for validation, which leaves less than"),
    "no-tensor": (lambda x: x[:0], "the data is empty"),
    "no-batch": (lambda _: [], "the data is empty"),
    "empty-batch": (lambda x: [x[:16], x[:0]], "batch 1 is empty"),
    "shapes": (lambda x: [x[:8], x[8:, :, :6]], "images of batch 1 have shape .*, those before"),
    "channels": (lambda x: x[:, :2], r"shape \(2, 8, 8\) torch.float32 do not fit the model"),
    "nan": (lambda x: replaced(x, torch.nan), "batch 0 holds NaN or infinite values"),
    "infinite": (lambda x: replaced(x, torch.inf), "batch 0 holds NaN or infinite values"),
    "integers": (lambda x: x.int(), "batch 0 has dtype torch.int32"),
    "number": (lambda _: 3, "must be a tensor or an iterable of batches"),
    "strings": (lambda _: ["abc"], "batch 0"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_is_refused(ready, spoil, message):
    prepared, data = ready()
    with pytest.raises(CalibrationError, match=message):
        reconstruct(prepared, spoil(data), quick(), progress=False)
    assert Refinement.left_on(prepared) is None


class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, image, gain):
        return self.conv(image * gain)


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), ()], ids=["one", "number"])
def test_inputs_that_are_not_all_batches_are_refused(shape):
    data = [(torch.rand(8, 3, 4, 4), torch.rand(shape)) for _ in range(3)]
    with pytest.raises(CalibrationError, match="the inputs of batch 0 differ in length"):
        repq_fx.quantize(Gain().eval(), data, reconstruction=quick(), progress=False)


@pytest.mark.parametrize("method", [AdaRound, "adaround", None, repq_fx.MSE()], ids=str)
def test_other_methods_are_refused(ready, method):
    prepared, data = ready()
    with pytest.raises(
        TypeError, match=re.escape(f"AdaRound(), BRECQ(), QDrop() or RepAPQ(), got {method!r}")
    ):
        reconstruct(prepared, data, method, progress=False)


def test_negative_memory_is_refused(ready):
    prepared, data = ready()
    with pytest.raises(ValueError, match="memory must not be negative, got -1"):
        reconstruct(prepared, data, quick(), memory=-1, progress=False)


def test_a_model_must_be_prepared_and_calibrated():
    model, data = Chain().eval(), inputs_of(Chain(), IMAGES)
    with pytest.raises(ConversionError, match="reconstruct: expected a model prepared"):
        reconstruct(model, data, quick(), progress=False)
    prepared = api.prepare(repq_fx.reparameterize(model, data), data, W4)
    with pytest.raises(CalibrationError, match=r"reconstruct: the observer .* has seen no data"):
        reconstruct(prepared, data, quick(), progress=False)


def shuffled(data):
    return DataLoader(TensorDataset(data), 8, shuffle=True)


KINDS = {
    "iterator": (lambda data: iter(data.split(8)), lambda data: data.split(8)),
    "loader that shuffles": (shuffled, lambda data: list(shuffled(data))),
}


@pytest.mark.parametrize(("kind", "as_list"), KINDS.values(), ids=KINDS)
def test_quantize_reconstructs_for_the_images_that_it_calibrates_with(kind, as_list):
    model, data = Chain().eval(), inputs_of(Chain(), 2 * IMAGES)
    method = quick(rounding_rate=0.05)
    results = []
    for source in (kind, as_list):
        torch.manual_seed(0)
        results.append(
            repq_fx.quantize(
                model, source(data), scheme=Scheme(2, 4), reconstruction=method,
                backend="reference", progress=False,
            )
        )  # fmt: skip
    assert torch.equal(*(quantized(data) for quantized in results))


def test_quantize_cuts_a_tensor_into_batches():
    model, data = Chain().eval(), inputs_of(Chain(), IMAGES)
    options = {"scheme": Scheme(2, 4), "backend": "reference", "progress": False}
    method = quick(rounding_rate=0.05)
    learned = repq_fx.quantize(model, data, reconstruction=method, **options)
    batches = repq_fx.quantize(model, iter(data.split(8)), reconstruction=method, **options)
    torch.testing.assert_close(batches(data), learned(data))


@each_method
def test_runs_where_the_model_is(device, method):
    model = lively(Residual())
    data = inputs_of(model, IMAGES)
    prepared = prepared_net(model, data, FAST).to(device)
    reconstruct(prepared, data, quick(method), progress=False)
    converted = repq_fx.convert(prepared, "reference")
    assert converted(data.to(device)).isfinite().all()
