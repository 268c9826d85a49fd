from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field

import pytest
import torch
from torch import fx, nn

from repq_fx.errors import TraceError
from repq_fx.passes.tracing.output_structure import put_together, take_apart

Pair = namedtuple("Pair", ["first", "second"])


@dataclass
class Scores:
    values: torch.Tensor
    count: int = field(init=False, default=0)


def rebuild(value):
    """The value that a graph returns whose inputs are the tensors in `value`."""
    leaves = []
    structure = take_apart(value, leaves)
    graph = fx.Graph()
    places = [graph.placeholder(f"leaf_{index}") for index in range(len(leaves))]
    graph.output(put_together(graph, structure, places))
    return fx.GraphModule(nn.Module(), graph)(*leaves)


def test_containers_and_constants_survive():
    tensor = torch.ones(2)
    value = {"a": [tensor, (tensor + 1, None)], "b": 3, "c": {}, "d": "text", "e": True}
    found = rebuild(value)
    assert str(found) == str(value)
    assert found["a"][0] is tensor
    assert rebuild(tensor) is tensor


def test_objects_are_constructed():
    pair = rebuild(Pair([torch.ones(1)], OrderedDict(last=torch.zeros(1))))
    assert isinstance(pair, Pair)
    assert isinstance(pair.second, OrderedDict)
    scores = rebuild((Scores(torch.ones(3)),))[0]
    assert isinstance(scores, Scores)
    assert torch.equal(scores.values, torch.ones(3))


def test_other_objects_are_refused():
    with pytest.raises(TraceError, match="the model returns a set"):
        take_apart([{1}], [])
