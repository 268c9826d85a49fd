import copy
import pickle
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import repq_fx
from repq_fx import api
from repq_fx.errors import TraceError
from repq_fx.models import fashion_repvgg
from repq_fx.passes import trace

IMAGE = torch.randn(2, 3, 8, 8)


class Scaled(nn.Conv2d):
    def forward(self, input):
        return super().forward(input) * 2


class Renamed(nn.Conv2d):
    pass


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Stale(nn.Module):
    """Reads an attribute that forward itself writes, as some super-resolution nets do."""

    def __init__(self):
        super().__init__()
        self.offset = 0.0

    def forward(self, x):
        result = x + self.offset
        self.offset = self.offset + 1.0
        return result


class Containers(nn.Module):
    def forward(self, x, y):
        return {"sum": x + y, "pair": (x, [y])}


class Optional(nn.Module):
    def forward(self, x, mask=None, scale=2.0):
        return x * scale if mask is None else x * mask


class Random(nn.Module):
    def forward(self, x):
        return F.dropout(x)


def test_graph_computes_the_same_and_shares_nothing():
    model = fashion_repvgg().eval()
    image = torch.randn(1, 1, 28, 28)
    traced = trace(model, image)
    assert torch.equal(traced(image), model(image))
    ours = {tensor.data_ptr() for tensor in traced.state_dict().values()}
    assert ours.isdisjoint(tensor.data_ptr() for tensor in model.state_dict().values())
    assert not traced.training


def test_model_and_generator_stay_as_they_are():
    model = fashion_repvgg().eval()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    trace(model, torch.randn(1, 1, 28, 28, generator=torch.Generator()))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_nested_outputs_and_several_inputs():
    traced = trace(Containers().eval(), (torch.ones(2), torch.ones(2)))
    result = traced(torch.ones(2), torch.zeros(2))
    assert torch.equal(result["sum"], torch.ones(2))


def test_arguments_that_are_not_given_keep_their_defaults():
    traced = trace(Optional().eval(), torch.ones(2))
    assert torch.equal(traced(torch.ones(2)), torch.full((2,), 2.0))
    masked = trace(Optional().eval(), (torch.ones(2), torch.ones(2)))
    assert torch.equal(masked(torch.ones(2), torch.zeros(2)), torch.zeros(2))


def test_variadic_forward():
    class Variadic(nn.Module):
        def forward(self, *inputs):
            return inputs[0] + inputs[1]

    assert torch.equal(trace(Variadic().eval(), (IMAGE, IMAGE))(IMAGE, IMAGE), 2 * IMAGE)


def test_layer_with_its_own_forward_is_no_leaf():
    traced = trace(nn.Sequential(Scaled(3, 3, 1), Renamed(3, 3, 1)).eval(), IMAGE)
    called = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert called == ["1"]


def test_forward_of_an_instance_is_traced():
    model = nn.Sequential(nn.ReLU(), nn.ReLU()).eval()
    model[0].forward = lambda x: x + 1
    traced = trace(model, IMAGE)
    torch.testing.assert_close(traced(IMAGE), (IMAGE + 1).relu())


def test_graph_module_can_be_traced_again():
    traced = trace(fashion_repvgg().eval(), torch.randn(1, 1, 28, 28))
    again = trace(traced, torch.randn(1, 1, 28, 28))
    assert str(again.graph) == str(traced.graph)


def test_training_mode_is_refused_by_name():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(nn.BatchNorm2d(3))).eval()
    model[1][0].train()
    with pytest.raises(TraceError, match=r"'1.0' \(BatchNorm2d\). Call model.eval\(\) first"):
        trace(model, IMAGE)
    with pytest.raises(TraceError, match=r"the model \(Sequential\), '0' .* and 1 more"):
        trace(model.train(), IMAGE)


def test_failure_names_module_and_line():
    model = nn.Sequential(nn.Identity(), nn.Sequential(Branching())).eval()
    with pytest.raises(
        TraceError, match=r"'1.0' \(Branching, .*test_trace.py:\d+\): .*control fl"
    ) as e:
        trace(model, IMAGE)
    assert e.value.__cause__ is not None
    with pytest.raises(TraceError, match=r"the model itself \(Branching, "):
        trace(Branching().eval(), IMAGE)


def test_unfaithful_trace_is_refused():
    with pytest.raises(TraceError, match=r"not faithful .* on a random input, output differs"):
        trace(Stale().eval(), IMAGE)
    with pytest.raises(TraceError, match=r"not faithful .* on the example"):
        trace(Random().eval(), IMAGE)


def test_overwritten_value_that_torch_fx_forgets_is_noticed_and_exported():
    class Accumulating(nn.Module):
        def forward(self, x):
            y = x * 2
            z = y
            z += 1
            return z * y

    traced = trace(Accumulating().eval(), IMAGE)
    torch.testing.assert_close(traced(IMAGE), (2 * IMAGE + 1) ** 2)


def test_message_tells_what_stopped_each_way():
    with pytest.raises(TraceError) as caught:
        trace(nn.Sequential(Branching()).eval(), IMAGE)
    message = str(caught.value)
    assert message.startswith("Cannot trace Sequential. Symbolic tracing: Cannot trace '0' (Branch")
    assert " torch.export: Cannot export '0' (Branching, " in message


def test_model_that_fails_on_the_example():
    with pytest.raises(ValueError, match="The model itself fails on inputs like the example"):
        trace(nn.Conv2d(4, 4, 1).eval(), IMAGE)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")  # deprecated upstream
def test_quantized_or_absent_parameters_are_refused():
    model = nn.ReLU().eval()
    model.register_buffer("table", torch.quantize_per_tensor(torch.ones(2), 1.0, 0, torch.qint8))
    with pytest.raises(TraceError, match="'table' is already quantized"):
        trace(model, IMAGE)
    with pytest.raises(TraceError, match="'weight' is on the meta device"):
        trace(nn.Conv2d(3, 3, 1, device="meta").eval(), IMAGE)
    with pytest.raises(TraceError, match="'weight' is not initialized"):
        trace(nn.LazyConv2d(3, 1).eval(), IMAGE)


def layers():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()


def quantized_by_torch():
    return torch.ao.quantization.quantize_dynamic(layers(), {nn.Linear})


QUANTIZED = {
    "reference": lambda: repq_fx.quantize(layers(), IMAGE, backend="reference", progress=False),
    "int8": lambda: repq_fx.quantize(layers(), IMAGE, progress=False),
    "prepared": lambda: api.prepare(trace(layers(), IMAGE), IMAGE, repq_fx.Scheme()),
    "evaluating": lambda: api.prepare(trace(layers(), IMAGE), IMAGE, repq_fx.Scheme()).eval(),
    "torch": quantized_by_torch,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*deprecated:UserWarning")
@pytest.mark.parametrize("make", QUANTIZED.values(), ids=QUANTIZED)
@pytest.mark.parametrize(
    "use",
    [
        trace,
        repq_fx.reparameterize,
        repq_fx.find_regions,
        lambda model, images: repq_fx.quantize(model, images, progress=False),
    ],
    ids=["trace", "reparameterize", "find_regions", "quantize"],
)
def test_a_quantized_model_is_refused_in_one_sentence(use, make):
    model = make()
    before = model(IMAGE)
    for each in (model, nn.Sequential(model, nn.Linear(2, 2)).eval()):
        with pytest.raises(TraceError, match=r"is quantized already or prepared .*; give the fl"):
            use(each, IMAGE)
    assert torch.equal(model(IMAGE), before)


def test_float_models_may_hold_what_torch_quantizes_sums_by():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.sum = torch.ao.nn.quantized.FloatFunctional()

        def forward(self, x):
            return self.sum.add(x, x)

    assert torch.equal(trace(Sum().eval(), IMAGE)(IMAGE), IMAGE * 2)


def test_a_function_is_no_model():
    with pytest.raises(TypeError, match=r"Cannot trace a function; give a torch\.nn\.Module"):
        trace(lambda x: x, IMAGE)


def test_model_that_cannot_be_copied():
    model = nn.ReLU().eval()
    model.lock = threading.Lock()
    with pytest.raises(TraceError, match=r"Cannot copy the model \(ReLU\)"):
        trace(model, IMAGE)


def test_traced_models_can_be_pickled():
    images = torch.randn(1, 3, 8, 8)
    traced = trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), images)
    assert torch.equal(pickle.loads(pickle.dumps(traced))(images), traced(images))


class WritesWeights(nn.Module):
    """A convolution whose weight every forward in evaluation computes from two others, as SPAN."""

    def __init__(self):
        super().__init__()
        self.skip = nn.Conv2d(3, 3, 1)
        self.full = nn.Conv2d(3, 3, 3, padding=1)
        self.merged = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x):
        weight = self.full.weight.data + F.pad(self.skip.weight.data, [1, 1, 1, 1])
        self.merged.weight.data = weight
        self.merged.bias.data = self.full.bias.data + self.skip.bias.data
        return self.merged(x)


def test_weights_that_a_forward_writes_are_those_after_a_run():
    model = WritesWeights().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    traced = trace(model, IMAGE)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    other = torch.randn(1, 3, 5, 9)
    torch.testing.assert_close(traced(other), model(other))


def test_weights_that_change_from_call_to_call_are_refused():
    class Drifts(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            self.conv.weight.data = self.conv.weight.data * 1.5
            return self.conv(x)

    with pytest.raises(TraceError, match=r"Symbolic tracing after a run: .* not faithful"):
        trace(Drifts().eval(), IMAGE)
