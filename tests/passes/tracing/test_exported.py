import copy
import logging
import operator
import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace
from torch.nn import functional as F

from repq_fx.errors import TraceError
from repq_fx.passes.tracing.exported import export_trace

Pair = namedtuple("Pair", ["first", "second"])


@dataclass
class Detections:
    boxes: torch.Tensor
    scores: torch.Tensor | None = None


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Chunked(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Block(), Block()
        self.gain = nn.Parameter(torch.rand(1, 8, 1, 1))
        self.offset = torch.rand(8, 1, 1)

    def forward(self, x):
        left, right = (part for part in x.chunk(2, 1))
        joined = torch.cat([self.first(left), self.second(right)], 1)
        return joined * self.gain + self.offset - torch.tensor(0.5, dtype=x.dtype)


class Bordered(nn.Module):
    """Pads with the bias that a 1x1 convolution would give there, as DBB and ECB do."""

    def __init__(self):
        super().__init__()
        self.point = nn.Conv2d(8, 4, 1)
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        y = F.pad(self.point(x), [1, 1, 1, 1])
        border = self.point.bias.detach().view(1, -1, 1, 1)
        y[:, :, 0:1, :] = border
        y[:, :, -1:, :] = border
        y[:, :, :, 0:1] = border
        y[:, :, :, -1:] = border
        return self.conv(y)


class AsksForShape(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 3)

    def forward(self, x):
        if x.shape[2] > 4 and len(x.shape) == 4:
            x = F.avg_pool2d(x, 2)
        return self.linear(x.mean((2, 3)).reshape(x.shape[0], -1))


class ComputedWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 4, 3)
        self.mix = nn.Parameter(torch.rand(2, 4, 4))
        self.raw = nn.Parameter(torch.rand(4, 4, 1, 1))

    def forward(self, x):
        weight = self.conv.weight
        standard = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3)).view(
            -1, 1, 1, 1
        )
        x = F.conv2d(x, standard, self.conv.bias)
        x = F.conv2d(x, torch.einsum("aij,ajk->ik", self.mix, self.mix)[..., None, None])
        return F.conv2d(x, self.raw)


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.alias = self.conv
        self.tied = nn.Conv2d(8, 8, 3, padding=1)
        self.tied.weight = self.conv.weight
        self.norm = nn.BatchNorm2d(8, affine=False)

    def forward(self, x):
        y = self.alias(self.conv(x))
        y = F.conv2d(y, self.conv.weight, self.conv.bias, padding=2)
        y = F.batch_norm(self.tied(y), self.norm.running_mean, self.norm.running_var)
        return self.norm(y)


class Activations(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2)
        self.same = nn.Conv2d(4, 4, 3, padding="same", groups=2)
        self.layers = nn.Sequential(
            nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.GELU("tanh"), nn.Sigmoid(), nn.LeakyReLU(0.2),
            nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2), nn.Dropout(),
            nn.ReflectionPad2d(1), nn.Hardsigmoid(), nn.PReLU(), nn.Softmax(1),
        )  # fmt: skip

    def forward(self, x):
        y = self.layers(self.same(self.up(x)))
        y = torch.add(y, y, alpha=2) / 3 - torch.sub(y, 1, alpha=2)
        y = -y.clone().detach().permute(0, 2, 3, 1)
        return F.layer_norm(y, (4,)).flatten(1)


class Structured(nn.Module):
    def forward(self, x):
        pair = Pair(x, [x + 1])
        ordered = OrderedDict(last=x * 2)
        return {"pair": pair, "ordered": ordered, "found": Detections(x - 1), "name": "image"}


def called(graph_module):
    return [str(node.target) for node in graph_module.graph.nodes if node.op == "call_module"]


def trace_exactly(model, image):
    before = copy.deepcopy(model.state_dict())
    graph_module = export_trace(copy.deepcopy(model), (image,))
    with torch.no_grad():
        for sample in (image, torch.randn(3, *image.shape[1:], dtype=image.dtype)):
            torch.testing.assert_close(graph_module(sample), model(sample), rtol=1e-9, atol=1e-9)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert graph_module.state_dict().keys() - {"offset", "lifted_tensor_0"} <= before.keys()
    assert not any(module.training for module in graph_module.modules())
    assert type(graph_module).__name__ == type(model).__name__
    return graph_module


@pytest.fixture
def exported(randomize_batch_norm):
    def trace(model, batch=1):
        model = randomize_batch_norm(model).double().eval()
        return trace_exactly(model, torch.randn(batch, 8, 6, 6).double())

    return trace


def test_layers_keep_names_and_become_plain(exported):
    traced = exported(Chunked())
    assert called(traced) == ["first.conv", "first.bn", "second.conv", "second.bn"]
    assert type(traced.get_submodule("first.conv")) is nn.Conv2d
    assert type(traced.get_submodule("second.bn")) is nn.BatchNorm2d
    assert str(traced.first.conv) == str(Block().conv)
    functions = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert functions.count(F.relu) == 2
    assert functions[-4:] == [torch.cat, operator.mul, operator.add, operator.sub]
    assert isinstance(traced.gain, nn.Parameter)


def test_slice_assignment(exported):
    traced = exported(Bordered(), batch=2)
    assert called(traced) == ["point", "conv"]
    targets = [node.target for node in traced.graph.nodes]
    # Some of the scatters run over whole dimensions, which export leaves out.
    assert targets.count(torch.ops.aten.slice_scatter.default) >= 4
    assert "point.bias" in targets


def test_questions_about_the_shape(exported):
    traced = exported(AsksForShape())
    assert called(traced) == ["linear"]
    assert str(traced.linear) == str(AsksForShape().linear)


def test_size_that_the_model_makes_a_number_stays_fixed():
    class Fixed(nn.Module):
        def forward(self, x):
            return x.reshape(len(x), -1)

    assert export_trace(Fixed().eval(), (torch.ones(1, 2, 3),))(torch.ones(1, 2, 3)).shape == (1, 6)


def test_computed_and_raw_weights():
    model = ComputedWeight().double().eval()
    image = torch.randn(1, 8, 6, 6).double()
    traced = export_trace(model, (image,))
    torch.testing.assert_close(traced(image), model(image), rtol=1e-9, atol=1e-9)
    assert called(traced) == []
    assert [node.target for node in traced.graph.nodes].count(F.conv2d) == 3
    assert set(dict(traced.named_parameters())) == {"conv.weight", "conv.bias", "mix", "raw"}


def test_shared_layers_and_weights(exported):
    traced = exported(Shared())
    # The functional call has another padding, and the second layer shares no more than a weight.
    assert called(traced) == ["conv", "conv", "tied", "norm", "norm"]
    assert traced.conv.weight is traced.tied.weight
    assert [node.target for node in traced.graph.nodes].count(F.conv2d) == 1


def test_common_operators_get_their_usual_names(exported):
    traced = exported(Activations(), batch=2)
    assert called(traced) == ["up", "same"]
    assert str(traced.up) == str(Activations().up)
    assert str(traced.same) == str(Activations().same)
    kept = {str(n.target) for n in traced.graph.nodes if "aten" in str(n.target)}
    assert kept == set()


def test_returned_structure():
    image = torch.ones(2, 3)
    found = export_trace(Structured().eval(), (image,))(image)
    assert list(found) == ["pair", "ordered", "found", "name"]
    assert isinstance(found["pair"], Pair)
    assert torch.equal(found["pair"].second[0], image + 1)
    assert isinstance(found["ordered"], OrderedDict)
    assert torch.equal(found["found"].boxes, image - 1)
    assert found["found"].scores is None
    assert found["name"] == "image"


def test_several_inputs_of_which_one_is_unused_and_one_is_overwritten():
    class Inputs(nn.Module):
        def forward(self, x, _, scale):
            return x.mul_(scale) + 1

    model, image = Inputs().eval(), torch.full((2, 3), 2.0)
    traced = export_trace(model, (image.clone(), torch.ones(5), torch.tensor(3.0)))
    assert torch.equal(traced(image, torch.ones(5), torch.tensor(3.0)), torch.full((2, 3), 7.0))
    assert torch.equal(image, torch.full((2, 3), 2.0))


def test_hook_subclass_and_forward_of_an_instance_act_once():
    class Doubled(nn.Conv2d):
        def forward(self, input):
            return super().forward(input) * 2

    model = nn.Sequential(Doubled(8, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)).double().eval()
    model[1].register_forward_hook(lambda _, __, output: output + 1)
    last = model[2]
    last.forward = lambda x: F.conv2d(x, last.weight, last.bias) * 3
    image = torch.randn(1, 8, 6, 6).double()
    expected = model(image)
    traced = export_trace(model, (image,))
    torch.testing.assert_close(traced(image), expected, rtol=1e-9, atol=1e-9)
    assert called(traced) == ["0", "1", "2"]
    assert all(type(traced.get_submodule(name)) is nn.Conv2d for name in "012")


def test_model_that_is_a_layer():
    model, image = nn.Conv2d(3, 4, 1).eval(), torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(export_trace(model, (image,))(image), model(image))


def test_observers_surround_lifted_layers():
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_fx

    image = torch.randn(2, 8, 6, 6)
    traced = export_trace(Chunked().eval(), (image,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare_fx(traced, get_default_qconfig_mapping("x86"), (image,))
        prepared(torch.randn(3, 8, 6, 6))
    fused = next(node for node in prepared.graph.nodes if node.target == "first.conv")
    assert type(prepared.get_submodule("first.conv")).__name__ == "ConvReLU2d"
    assert str(fused.args[0].target).startswith("activation_post_process")
    assert all(str(user.target).startswith("activation_post_process") for user in fused.users)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x * 2


class Opaque(nn.Module):
    def forward(self, x):
        return {x}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Branching(), r"'1.0' \(Branching, .*test_exported.py:\d+\): .*data-dependent"),
        (Counting(), r"'1.0' \(Counting\): its forward changes 'calls'"),
        (nn.Sequential(Opaque()), r"the model itself \(Sequential.*\): the model returns a set"),
    ],
    ids=["branching", "counting", "opaque"],
)
def test_refusals_name_the_place(model, message, capfd):
    model = nn.Sequential(nn.Identity(), nn.Sequential(model)).eval()
    with pytest.raises(TraceError, match=f"Cannot export {message}") as caught:
        export_trace(model, (torch.ones(2, 3),))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_global_state_stays_and_nothing_is_printed(capfd):
    model = Chunked().eval()
    random, disabled = torch.get_rng_state(), logging.root.manager.disable
    export_trace(model, (torch.ones(1, 8, 6, 6),))
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled()
    assert logging.root.manager.disable == disabled
    assert "forward" not in vars(model)
    assert capfd.readouterr() == ("", "")


def test_fastvit():
    timm = pytest.importorskip("timm")
    model = timm.create_model("fastvit_t8", pretrained=False).double().eval()
    traced = trace_exactly(model, torch.randn(1, 3, 64, 64).double())
    ours, theirs = (
        [name for name, module in each.named_modules() if type(module) is nn.Conv2d]
        for each in (traced, model)
    )
    assert sorted(ours) == sorted(theirs)


def test_zeros_of_free_sizes_can_be_traced_again():
    """As `prepare_fx` does; the masks of shifted windows are made of such."""

    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            mask = torch.zeros((1, 1, *x.shape[2:]))
            mask[..., :-2] = 1
            return self.conv(x) + mask

    images = torch.randn(2, 3, 8, 8)
    traced = export_trace(Windows().eval(), (images,))
    again = symbolic_trace(traced)
    other = torch.randn(1, 3, 6, 10)
    assert torch.equal(again(other), traced(other))
