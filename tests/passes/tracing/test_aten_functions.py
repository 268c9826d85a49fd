import operator

import pytest
import torch
from torch import fx
from torch.nn import functional as F

from repq_fx.passes.tracing.aten_functions import call_in_torch

aten = torch.ops.aten
IMAGE = torch.rand(2, 4, 6, 6)
VECTOR = torch.rand(4)


@pytest.mark.parametrize(
    ("target", "args", "kwargs", "expected"),
    [
        (aten.add.Tensor, (IMAGE, 1), {}, operator.add),
        (aten.add.Tensor, (IMAGE, IMAGE), {"alpha": 2}, torch.add),
        (aten.gelu.default, (IMAGE,), {"approximate": "tanh"}, F.gelu),
        (aten.constant_pad_nd.default, (IMAGE, [1, 1], 2.0), {}, F.pad),
        (aten.softmax.int, (IMAGE, 1, torch.float64), {}, F.softmax),
        (aten.mean.dim, (IMAGE, [2, 3], True), {"dtype": torch.float64}, torch.mean),
        (aten.max_pool2d.default, (IMAGE, [3, 3], [2, 2], [1, 1]), {}, F.max_pool2d),
        (aten.avg_pool2d.default, (IMAGE, [2, 2], [], [1, 1], True, False), {}, F.avg_pool2d),
        (aten.layer_norm.default, (IMAGE, [6], None, None, 1e-3, False), {}, F.layer_norm),
        (aten.conv_transpose2d.input, (IMAGE, torch.rand(4, 2, 2, 2), None, [2, 2]), {},
         F.conv_transpose2d),
        (aten.sym_size.int, (IMAGE, 1), {}, "size"),
        (aten.zeros.default, ([2, 3],), {"dtype": torch.int64}, torch.zeros),
        (aten.ones.default, ([2, 3],), {}, torch.ones),
        (aten.full.default, ([2, 3], 0.5), {"device": torch.device("cpu")}, torch.full),
        (aten.eye.default, (3,), {}, torch.eye),
        (aten.eye.m, (3, 4), {"dtype": torch.float64}, torch.eye),
        (aten.arange.default, (4,), {"pin_memory": False}, torch.arange),
        (aten.arange.start, (1, 4), {}, torch.arange),
        (aten.arange.start_step, (1, 9, 3), {"dtype": torch.float32}, torch.arange),
        (aten.linspace.default, (0, 1, 5), {}, torch.linspace),
        (aten.roll.default, (IMAGE, [1], [2]), {}, aten.roll.default),
    ],
    ids=lambda value: str(value) if isinstance(value, torch._ops.OpOverload) else "",
)  # fmt: skip
def test_function_computes_the_same(target, args, kwargs, expected):
    graph = fx.Graph()
    node = graph.call_function(target, args, kwargs)
    assert call_in_torch(graph, node, args, kwargs).target == expected
    replaced = list(graph.nodes)[-1]
    function = getattr(torch.Tensor, expected) if expected == "size" else expected
    found = function(*replaced.args, **replaced.kwargs)
    torch.testing.assert_close(found, target(*args, **kwargs), rtol=0, atol=0)


def test_batch_norm_gets_its_operands_by_name():
    graph = fx.Graph()
    args = (IMAGE, VECTOR, None, -VECTOR, VECTOR + 1, 0.1, 1e-3)
    target = aten._native_batch_norm_legit_no_training.default
    call = call_in_torch(graph, graph.call_function(target, args), args, {})
    torch.testing.assert_close(F.batch_norm(*call.args, **call.kwargs), target(*args)[0])
