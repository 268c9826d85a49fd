"""Conversion to the reference graph: exact ranges, float output, refusals."""

import copy

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import api
from repq_fx.lowering.grids import DEQUANTIZE, QUANTIZE
from repq_fx.lowering.reference_graph import to_reference
from repq_fx.progress import Progress


def calibrated(model, images, scheme):
    prepared = api.prepare(model, images, scheme)
    repq_fx.calibrate(prepared, images, progress=False)
    return prepared


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_integers_between_layers_stay_inside_their_own_grid(bits, small_net, images):
    scheme = repq_fx.Scheme(activation_bits=bits)
    reference = to_reference(calibrated(small_net, images, scheme), Progress.hidden())
    seen = []

    class Recorder(torch.fx.Interpreter):
        def run_node(self, node):
            value = super().run_node(node)
            if node.target is QUANTIZE:
                seen.append(value)
            return value

    Recorder(reference).run(100 * images)
    assert len(seen) >= 6
    assert all(value.dtype == torch.uint8 and value.max() <= 2**bits - 1 for value in seen)
    assert max(int(value.max()) for value in seen) == 2**bits - 1


def test_the_output_stays_in_float(small_net, images):
    reference = to_reference(calibrated(small_net, images, repq_fx.Scheme()), Progress.hidden())
    (output,) = (node for node in reference.graph.nodes if node.op == "output")
    assert output.args[0].target == "classifier"


class Tail(nn.Module):
    """Ends in operations that no quantized layer reads."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)
        self.last = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, image):
        return self.last(self.shuffle(self.conv(image))).relu() + 1.0


def test_what_no_layer_reads_is_not_quantized(images):
    reference = to_reference(calibrated(Tail().eval(), images, repq_fx.Scheme()), Progress.hidden())
    after_last = False
    for node in reference.graph.nodes:
        assert not (after_last and node.target in (QUANTIZE, DEQUANTIZE))
        after_last |= node.target == "last"


def test_the_prepared_model_is_not_changed(small_net, images):
    prepared = calibrated(small_net, images, repq_fx.Scheme())
    code, state = prepared.code, copy.deepcopy(prepared.state_dict())
    first, second = (
        to_reference(prepared, Progress.hidden()),
        to_reference(prepared, Progress.hidden()),
    )
    assert prepared.code == code
    assert all(torch.equal(state[name], value) for name, value in prepared.state_dict().items())
    assert torch.equal(first(images), second(images))


def test_convert_before_calibrate_names_the_tensor(small_net, images):
    prepared = api.prepare(small_net, images, repq_fx.Scheme())
    with pytest.raises(repq_fx.CalibrationError, match="observer of 'image' has seen no data"):
        to_reference(prepared, Progress.hidden())


def test_a_model_that_was_not_prepared_is_refused(small_net):
    with pytest.raises(repq_fx.ConversionError, match="prepared by prepare_fx, got SmallNet"):
        to_reference(small_net, Progress.hidden())
