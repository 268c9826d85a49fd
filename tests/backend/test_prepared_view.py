"""What is asked of a graph with observers."""

import pytest
import torch
from torch import nn

import repq_fx
from repq_fx import ConversionError, RepAPQ, Scheme, api
from repq_fx.backend.prepared_view import PreparedView
from repq_fx.quant import ActivationObserver
from repq_fx.reconstruct.activation_store import ActivationStore
from repq_fx.reconstruct.checkpoint import Checkpoint
from repq_fx.reconstruct.network import NetworkReconstruction, Run
from repq_fx.reconstruct.networks import Networks
from repq_fx.refine.refined_copy import refined_copy
from repq_fx.refine.refinement import Refinement
from repq_fx.refine.sequential import Pair, SequentialWalk


def test_it_computes_what_was_prepared_and_shares_its_layers():
    images = torch.randn(4, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    merged = repq_fx.reparameterize(net, images)
    expected = merged(images)
    prepared = api.prepare(merged, images, Scheme())
    before = str(prepared.graph)
    result = PreparedView.of(prepared, "test").without_observers()
    assert torch.equal(result(images), expected)
    assert not any(isinstance(module, ActivationObserver) for module in result.modules())
    assert str(prepared.graph) == before
    assert set(result.parameters()) <= set(prepared.parameters())


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, image):
        x = self.body(self.stem(image).relu()).relu()
        return self.head(x.mean((2, 3)))


SCHEME = Scheme.w4a8()
METHOD = RepAPQ(iterations=4, batch_size=8, validation=0.25)


def by_torch(model, images):
    prepared = api.prepare(repq_fx.trace(model, images), images, SCHEME)
    repq_fx.calibrate(prepared, images, progress=False)
    return PreparedView.of(prepared, "test")


def by_hand(like, model, images):
    """Observers where those of another view are, put there without torch.ao."""
    graph_module = repq_fx.trace(model, images)
    nodes = {node.name: node for node in graph_module.graph.nodes}
    for node in like.observers:
        observed = nodes[node.all_input_nodes[0].name]
        with graph_module.graph.inserting_after(observed):
            graph_module.add_submodule(node.name, ActivationObserver(SCHEME.tensor_plan()))
            observer = graph_module.graph.call_module(node.name, (observed,))
        observed.replace_all_uses_with(observer, delete_user_cb=lambda n, o=observer: n is not o)
    graph_module.recompile()
    for batch in images.split(32):
        graph_module(batch)
    layers = ("stem", "body", "head")
    return PreparedView(graph_module, dict.fromkeys(layers, SCHEME.layer_plan()))


@pytest.fixture
def views():
    torch.manual_seed(0)
    model, images = Chain().eval(), torch.randn(24, 3, 12, 12)
    first = by_torch(model, images)
    return first, by_hand(first, model, images), images


def same(first, second):
    assert first.weights.keys() == second.weights.keys() == {"stem", "body", "head"}
    for name, weight in first.weights.items():
        assert torch.equal(weight.dequantize(), second.weights[name].dequantize())
        assert torch.equal(first.biases[name], second.biases[name])
    assert list(first.ranges.values()) == list(second.ranges.values())


@torch.no_grad()
def test_who_placed_the_observers_makes_no_difference_to_the_walk(views):
    *both, images = views
    found = []
    for view in both:
        refined, refinement = refined_copy(view, "test"), Refinement()
        walk = SequentialWalk(refined, view.graph_module, refinement)
        walk.through(refined.graph_module, [Pair(images, images)])
        found.append(refinement)
    same(*found)


def test_who_placed_the_observers_makes_no_difference_to_reconstruction(views):
    *both, images = views
    found = []
    for view in both:
        networks, refinement = Networks.of(refined_copy(view, "test")), Refinement()
        with ActivationStore(len(images), 2**20) as store:
            run = Run(METHOD, seed=0, goes_on=False)
            network = NetworkReconstruction(networks, [images], run, store, refinement)
            reports = network.run(Checkpoint(None, ""), progress=False)
        assert any(report.iterations for report in reports)
        found.append(refinement)
    same(*found)


def test_only_a_graph_with_observers_has_a_view():
    with pytest.raises(ConversionError, match="test: expected a model prepared by prepare_fx, got"):
        PreparedView.of(nn.Linear(2, 2), "test")
