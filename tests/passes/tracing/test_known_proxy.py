import pytest
import torch
from torch import nn

from repq_fx.errors import SizeError, TraceError
from repq_fx.passes import trace
from repq_fx.passes.tracing.sizes.guards import is_size_guard
from repq_fx.passes.tracing.symbolic import symbolic_trace


class Net(nn.Module):
    """A function of an image, a convolution and parameters of a single number."""

    def __init__(self, function):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.alpha = nn.Parameter(torch.ones(()))
        self.zero = nn.Parameter(torch.zeros(1))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def rows(_, x):
    b, c, h, w = x.shape
    return x.reshape(b, c * h, w)


def from_size(_, x):
    b, c, h, w = x.size()
    return x.permute(0, 2, 3, 1).reshape(b, h * w, c)


def size_after_reshape(_, x):
    y = x.reshape(x.shape[0], 4, -1)
    return y * 2 if y.shape[2] > 4 else y


def rows_of_values(_, x):
    y = x.flatten(2) - x.flatten(2).max(dim=-1, keepdim=True).values
    b, c, n = y.shape
    return y.reshape(b, n, c)


ANSWERED = {
    "height": lambda _, x: x * 2 if x.shape[2] > 4 else x,
    "small_height": lambda _, x: x * 2 if x.shape[2] > 6 else x,
    "size": lambda _, x: x * 2 if x.size(1) == 4 else x,
    "size_from_the_end": lambda _, x: x * 2 if x.size(-1) % 2 == 0 else x,
    "square": lambda _, x: x * 2 if x.shape[2] == x.shape[3] else x,
    "axes": lambda _, x: x.flatten(2) if len(x.shape) == 4 else x,
    "ndim": lambda _, x: x.flatten(2) if x.ndim == 4 else x,
    "dim": lambda _, x: x if x.dim() == 3 else x.flatten(2),
    "chunk": lambda net, x: torch.cat([net.conv.bias[0] * part for part in x.chunk(2, 1)], 1),
    "torch_chunk": lambda _, x: sum(part * 2 for part in torch.chunk(x, 4, dim=1)),
    "uneven_split": lambda _, x: torch.cat([p.mean(1, True) for p in x.split([1, 3], 1)], 1),
    "unpacked_split": lambda _, x: torch.sub(*torch.split(x, 2, dim=1)),
    "sum_of_shape": lambda _, x: x * sum(x.shape[1:]),
    "half": lambda _, x: x[..., : int(x.shape[-1] / 2)],
    "float": lambda _, x: x * float(x.shape[2]),
    "range": lambda _, x: torch.stack([x[:, i] * i for i in range(x.shape[1])], 1),
    "length_of_list": lambda _, x: x * len(x.chunk(2, 1)),
    "alpha": lambda net, x: net.conv(x) if net.alpha else x,
    "zero": lambda net, x: net.conv(x) if net.zero else x,
    "computed_alpha": lambda net, x: net.conv(x) if net.alpha + net.zero > 0.5 else x,
    "dtype": lambda _, x: x * 2 if x.dtype == torch.float32 else x,
    "device": lambda _, x: x * 2 if x.device.type == "cpu" else x,
    "reshaped": rows,
    "reshaped_from_size": from_size,
    "size_after_reshape": size_after_reshape,
    "values_of_a_maximum": rows_of_values,
    "values_without_a_size": lambda _, x: x.sort(dim=1).values - x,
    "scaled_batch": lambda _, x: x.sum((1, 2, 3)) / x.shape[0],
}
REFUSED = {
    "sum": (lambda _, x: x if x.sum() > 0 else -x, "control flow"),
    "layer": (lambda net, x: x if net.conv(x).max() > 0 else -x, "control flow"),
    "input_and_parameter": (lambda net, x: x if net.alpha > x.mean() else -x, "control flow"),
    "batch": (lambda _, x: x if x.shape[0] > 1 else -x, "batch size of an input"),
    "batch_size": (lambda _, x: x if x.size(0) > 1 else -x, "batch size of an input"),
    "batch_of_slice": (lambda _, x: x if x.shape[:2][0] > 1 else -x, "batch size of an input"),
    "computed_batch": (
        lambda _, x: x if x.shape[0] * x.shape[1] > 5 else -x,
        "batch size of an input",
    ),
    "batch_of_layer": (
        lambda net, x: x if net.conv(x).shape[0] > 1 else -x,
        "batch size of an input",
    ),
    "range_of_batch": (lambda _, x: [x[i] for i in range(x.shape[0])], "batch size"),
    "length": (lambda _, x: x * len(x), "'len' is not supported"),
    "rows": (lambda _, x: torch.stack([row for row in x]), "cannot be iterated"),  # noqa: C416
    "numel": (lambda _, x: x / int(x.numel()), "batch size of an input"),
    "counted_from_the_end": (lambda _, x: x if x.shape[-4] > 1 else -x, "batch size of an input"),
    "all_sizes": (lambda _, x: x if x.shape == (2, 4, 6, 6) else -x, "batch size of an input"),
    "batch_among_rows": (lambda _, x: x * int(x.flatten().shape[-1]), "batch size of an input"),
    "moved_batch": (lambda _, x: x * int(x.permute(1, 0, 2, 3).shape[1]), "batch size of an input"),
    "images": (lambda _, x: [image + 1 for image in x.unbind(0)], "batch size of an input"),
    "item": (lambda _, x: x if x.sum().item() > 0 else -x, "values of an input"),
    "equal": (lambda _, x: x if torch.equal(x, x.abs()) else -x, "values of an input"),
    "float_of_values": (lambda _, x: x * float(x.sum()), "values of an input"),
}


@pytest.mark.parametrize("function", ANSWERED.values(), ids=ANSWERED.keys())
def test_answered_questions(function):
    model = Net(function).eval()
    traced = symbolic_trace(model, (torch.randn(2, 4, 6, 6),))
    for batch in (1, 2, 5):
        image = torch.randn(batch, 4, 6, 6)
        torch.testing.assert_close(traced(image), model(image), rtol=0, atol=0)


@pytest.mark.parametrize(("function", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_questions(function, reason):
    with pytest.raises(TraceError, match=f"itself .Net, .*test_known_proxy.py:.*{reason}"):
        symbolic_trace(Net(function).eval(), (torch.randn(2, 4, 6, 6),))


def test_answer_is_that_of_the_example():
    model = Net(lambda _, x: x * 2 if x.shape[2] > 4 else x)
    high, low = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 4, 4)
    assert torch.equal(symbolic_trace(model, (low,))(low), low)
    assert torch.equal(symbolic_trace(model, (high,))(high), high * 2)


ABOUT_TYPE = {
    "dtype": lambda net, x: net.conv(x) * 2 if net.conv(x).dtype == torch.float32 else x,
    "is_floating_point": lambda net, x: net.conv(x) / 2 if net.conv(x).is_floating_point() else x,
    "function": lambda net, x: net.conv(x) / 2 if torch.is_floating_point(net.conv(x)) else x,
    "device": lambda net, x: net.conv(x) * 2 if not net.conv(x).relu().is_cuda else x,
}


@pytest.mark.parametrize("function", ABOUT_TYPE.values(), ids=ABOUT_TYPE.keys())
def test_type_of_what_a_layer_returns_needs_no_check(function):
    model, image = Net(function).eval(), torch.randn(2, 4, 6, 6)
    traced = symbolic_trace(model, (image,))
    torch.testing.assert_close(traced(image), model(image), rtol=0, atol=0)
    assert not any(map(is_size_guard, traced.graph.nodes))


def test_type_of_an_input_is_checked():
    model = Net(lambda _, x: x / 2 if (x + 0).is_floating_point() else x)
    traced = symbolic_trace(model, (torch.randn(2, 4, 6, 6),))
    with pytest.raises(SizeError, match=r"on which \(x \+ 0\).is_floating_point\(\) is True"):
        traced(torch.ones(2, 4, 6, 6, dtype=torch.int64))


def test_unanswered_sizes_stay_in_the_graph():
    traced = symbolic_trace(Net(rows), (torch.randn(2, 4, 6, 6),))
    (reshape,) = (node for node in traced.graph.nodes if node.target == "reshape")
    assert reshape.args[1].args[1] == 0  # the first entry of the shape


def test_question_after_a_step_that_fails_on_the_example():
    model = Net(lambda net, x: net.conv(x) if net.conv(x[:, :3]).shape[1] == 4 else x)
    with pytest.raises(TraceError, match="control flow"):
        symbolic_trace(model, (torch.randn(2, 4, 6, 6),))


def test_several_inputs_are_known():
    class Pair(nn.Module):
        def forward(self, x, y):
            return x + y if x.shape[1] == y.shape[1] else x

    image, other = torch.randn(2, 4, 5, 5), torch.randn(2, 3, 5, 5)
    assert torch.equal(symbolic_trace(Pair(), (image, image))(image, image), image * 2)
    assert torch.equal(symbolic_trace(Pair(), (image, other))(image, other), image)


def test_the_caller_s_random_numbers_and_example_stay():
    model = Net(lambda net, x: net.conv(x + torch.rand_like(x)).relu_().add_(1))
    image = torch.randn(2, 4, 6, 6)
    before, state = image.clone(), torch.get_rng_state()
    traced = symbolic_trace(model, (image,))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.rand_like in {node.target for node in traced.graph.nodes}
    symbolic_trace(Net(lambda _, x: x.mul_(2)), (image,))
    assert torch.equal(image, before)


def test_layers_run_only_for_questions():
    calls = []

    class Counting(nn.Identity):
        def forward(self, input):
            calls.append(self)
            return super().forward(input)

    model = nn.Sequential(Counting(), nn.Sequential(Counting(), nn.Sequential(Counting()))).eval()
    traced = symbolic_trace(model, (torch.randn(2, 4, 6, 6),), leaves=(Counting,))
    assert not calls
    called = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert called == ["0", "1.0", "1.1.0"]

    class Asking(nn.Sequential):
        def forward(self, input):
            return super().forward(input) if input.shape[2] > 4 else input

    asking = Asking(*model).eval()
    symbolic_trace(asking, (torch.randn(2, 4, 6, 6),), leaves=(Counting,))
    assert len(calls) == 2 * 3  # on the example, and on one with another batch


def test_buffers_of_the_model_stay():
    def counting(net, x):
        net.steps.add_(1)
        return net.conv(x) if x.shape[1] == 4 else x

    model = Net(counting).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, torch.randn(2, 4, 6, 6))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("images", [1, 3])
def test_a_model_for_one_number_of_images(images):
    def function(_, x):
        y = x.reshape(images, 4, 36).transpose(1, 2)
        return y * 2 if y.is_floating_point() and y.shape[1] > 8 else y

    model, x = Net(function).eval(), torch.randn(images, 4, 6, 6)
    assert torch.equal(trace(model, x)(x), model(x))
