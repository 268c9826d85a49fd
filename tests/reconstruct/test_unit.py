"""Units as modules, and the tail of their stage."""

import pytest
import torch
from torch import nn

from repq_fx.reconstruct.partition import Partition
from repq_fx.reconstruct.unit import called_values, part_of_graph, tail_of_stage
from tests.reconstruct.nets import Chain, CutNet, Detector, Residual


def tails(cut):
    return [tail_of_stage(unit, cut.units, cut.values) for unit in cut.units]


def test_the_tail_leads_from_a_unit_to_the_end_of_its_stage():
    cut = CutNet(Chain(), Partition.LAYERS)
    found = cut.run()
    lengths = [sum(other.stage == unit.stage for other in cut.units) for unit in cut.units]
    assert max(lengths) == 5
    for unit, (tail, count) in zip(cut.units, tails(cut), strict=True):
        last = [other for other in cut.units if other.stage == unit.stage][-1]
        if unit is last:
            assert (tail, count) == (None, 0)
            continue
        assert count == len(last.outputs)
        with torch.no_grad():
            ends = tail(*(found[name] for name in unit.outputs))
        for end, name in zip(ends, last.outputs, strict=True):
            assert torch.equal(end, found[name])


@pytest.mark.parametrize("net", [Residual, Detector])
def test_every_tail_can_be_run(net):
    cut = CutNet(net(), Partition.LAYERS)
    found = cut.run()
    for unit, (tail, count) in zip(cut.units, tails(cut), strict=True):
        if tail is not None:
            with torch.no_grad():
                assert len(tail(*(found[name] for name in unit.outputs))) == count


def test_a_unit_calls_the_modules_that_it_is_given():
    cut = CutNet(Chain(), Partition.LAYERS)
    unit, (name,) = cut.units[0], cut.units[0].layers
    module = unit.module({**cut.values, name: nn.Identity()})
    (output,) = module(cut.data)
    assert torch.equal(output, cut.data.relu())
    assert unit.module(cut.values).get_submodule(name) is cut.original.get_submodule(name)


class WithParameter(nn.Module):
    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.ones(3))
        self.inner = nn.Module()
        self.inner.table = nn.Parameter(torch.arange(3.0))
        self.inner.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.inner.layer(x + self.offset) * self.inner.table


def test_values_are_found_by_qualified_name():
    model = WithParameter()
    graph = torch.fx.symbolic_trace(model).graph
    values = called_values(model, graph)
    assert set(values) == {"offset", "inner.table", "inner.layer"}
    assert values["inner.table"] is model.inner.table
    nodes = [n for n in graph.nodes if n.op not in ("placeholder", "output")]
    part = part_of_graph(nodes, ["x"], [nodes[-1].name, nodes[0].name], values)
    data = torch.randn(2, 3)
    assert torch.equal(part(data)[0], model(data))
    assert part(data)[1] is model.offset or torch.equal(part(data)[1], model.offset)
