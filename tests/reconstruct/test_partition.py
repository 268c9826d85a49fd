"""Cutting networks: every layer in one unit, units that run, and what belongs together."""

import logging

import pytest
import torch

from repq_fx.reconstruct.partition import Partition, partition_network
from tests.reconstruct.nets import (
    NETS,
    Chain,
    CutNet,
    DepthwiseChain,
    Inverted,
    Residual,
    Split,
    Transposed,
    inputs_of,
)


def layers_of(model, partition):
    return [unit.layers for unit in CutNet(model, partition).units]


def assert_exact(cut):
    with torch.no_grad():
        expected = cut.original(cut.data)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for value, wanted in zip(cut.finish(cut.run()), expected, strict=True):
        assert torch.equal(value, wanted)


@pytest.mark.parametrize("partition", Partition, ids=lambda p: p.value)
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_units_in_order_are_the_network(net, partition):
    cut = CutNet(net(), partition)
    layers = [str(node.target) for node in cut.view.layers]
    assert sorted(name for unit in cut.units for name in unit.layers) == sorted(layers)
    assert_exact(cut)
    sizes = {Partition.NET: 1, Partition.LAYERS: len(layers)}
    assert len(cut.units) == sizes.get(partition, len(cut.units))
    assert all(unit.outputs and unit.inputs for unit in cut.units)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_stages_are_runs_of_blocks(net):
    blocks, stages = (CutNet(net(), p).units for p in (Partition.BLOCKS, Partition.STAGES))
    numbers = [unit.stage for unit in blocks]
    assert numbers == sorted(numbers)
    runs = {}
    for unit in blocks:
        runs[unit.stage] = runs.get(unit.stage, ()) + unit.layers
    assert [set(unit.layers) for unit in stages] == [set(run) for run in runs.values()]
    assert len({unit.stage for unit in stages}) == len(stages)


def test_a_chain_is_grouped_by_threes_within_a_resolution():
    assert layers_of(Chain(), Partition.BLOCKS) == [
        ("stem",), ("down", "blocks.0", "blocks.1"), ("blocks.2", "blocks.3"), ("head",),
    ]  # fmt: skip
    units = CutNet(Chain(), Partition.BLOCKS).units
    assert units[1].stage == units[2].stage
    assert len({units[i].stage for i in (0, 1, 3)}) == 3
    assert units[1].name == "down .. blocks.1"
    assert units[0].name == "stem"


def test_depthwise_layers_do_not_count():
    found = layers_of(DepthwiseChain(), Partition.BLOCKS)
    assert found[0] == ("stem", "blocks.0", "blocks.2", "blocks.4", "blocks.6")
    assert found[1] == ("blocks.8", "blocks.10", "blocks.12", "blocks.14")


def test_a_residual_is_one_block():
    found = [set(layers) for layers in layers_of(Residual(), Partition.BLOCKS)]
    assert found == [{"stem"}, {"first", "second"}, {"third", "fourth", "project"}, {"head"}]


def test_a_block_with_a_gate_is_one_block():
    found = [set(layers) for layers in layers_of(Inverted(), Partition.BLOCKS)]
    assert {"expand", "depthwise", "squeeze", "excite", "project"} in found


def test_a_split_is_one_block_to_where_its_paths_meet():
    found = [set(layers) for layers in layers_of(Split(), Partition.BLOCKS)]
    block = next(layers for layers in found if "first" in layers)
    assert "second" in block
    assert "stem" not in block


def test_activations_belong_to_their_layer():
    units = CutNet(Chain(), Partition.LAYERS).units
    for unit in units[:-1]:
        assert any("relu" in name for name in unit.outputs)
        assert len(unit.outputs) == 1


def test_values_that_cannot_be_stored_join_their_units(caplog):
    with caplog.at_level(logging.WARNING, "repq_fx"):
        cut = CutNet(Transposed(), Partition.LAYERS)
    layers = [unit.layers for unit in cut.units]
    assert len(layers) < 3
    assert sorted(name for unit in layers for name in unit) == ["first", "second", "third"]
    assert "cannot be isolated and are reconstructed as one" in caplog.text
    assert_exact(cut)


def test_other_networks_are_cut_without_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "repq_fx"):
        for net in NETS.values():
            CutNet(net(), Partition.LAYERS)
    assert not [record for record in caplog.records if "isolated" in record.message]


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_any_number_of_images_tells_what_can_be_stored(count):
    cut = CutNet(Residual(), Partition.BLOCKS, inputs_of(Residual(), count))
    assert len(cut.units) == 4


def test_a_network_without_layers_has_no_units():
    cut = CutNet(Chain(), Partition.BLOCKS)
    cut.view.plans.clear()
    assert partition_network(cut.view, cut.stored, Partition.BLOCKS) == []
