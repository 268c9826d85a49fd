"""Tiny networks of the shapes that matter to reconstruction, and ways to prepare and cut them."""

import torch
from torch import nn

import repq_fx
from repq_fx import api
from repq_fx.backend.prepared_view import PreparedView
from repq_fx.reconstruct.networks import Networks
from repq_fx.reconstruct.partition import partition_network
from repq_fx.reconstruct.stored_tensors import StoredTensors
from repq_fx.reconstruct.unit import called_values, part_of_graph
from repq_fx.refine.refined_copy import refined_copy


def conv(inputs, outputs, kernel=3, stride=1, **options):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, **options)


class Chain(nn.Module):
    """A deployed RepVGG: a stem, a block at half the resolution with four after it, a head."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = conv(3, width, stride=2)
        self.down = conv(width, width, stride=2)
        self.blocks = nn.ModuleList(conv(width, width) for _ in range(4))
        self.head = nn.Linear(width, 5)

    def forward(self, image):
        x = self.down(self.stem(image).relu()).relu()
        for block in self.blocks:
            x = block(x).relu()
        return self.head(x.mean((2, 3)))


class DepthwiseChain(nn.Module):
    """Depthwise and pointwise in turn."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = conv(3, width)
        layers = []
        for _ in range(4):
            layers += [
                conv(width, width, groups=width),
                nn.ReLU(),
                conv(width, width, 1),
                nn.ReLU(),
            ]
        self.blocks = nn.Sequential(*layers)

    def forward(self, image):
        return self.blocks(self.stem(image))


class Residual(nn.Module):
    """Two basic blocks, of which the second halves the resolution and projects its shortcut."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = conv(3, width)
        self.first, self.second = conv(width, width), conv(width, width)
        self.third, self.fourth = conv(width, width, stride=2), conv(width, width)
        self.project = conv(width, width, 1, 2, bias=False)
        self.head = nn.Linear(width, 5)

    def forward(self, image):
        x = self.stem(image).relu()
        x = (x + self.second(self.first(x).relu())).relu()
        x = (self.project(x) + self.fourth(self.third(x).relu())).relu()
        return self.head(x.mean((2, 3)))


class Inverted(nn.Module):
    """An inverted residual with a squeeze-and-excitation gate."""

    def __init__(self, width=8):
        super().__init__()
        self.stem = conv(3, width)
        self.expand, self.depthwise = conv(width, 12, 1), conv(12, 12, groups=12)
        self.squeeze, self.excite = conv(12, 4, 1), conv(4, 12, 1)
        self.project, self.head = conv(12, width, 1), conv(width, 4, 1)

    def forward(self, image):
        x = nn.functional.silu(self.stem(image))
        y = nn.functional.silu(self.depthwise(nn.functional.silu(self.expand(x))))
        gate = self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head(x + self.project(y * gate))


class Split(nn.Module):
    """An ELAN block: a chunk, layers one after the other, and a concatenation of all."""

    def __init__(self):
        super().__init__()
        self.stem, self.enter = conv(3, 8), conv(8, 8, 1)
        self.first, self.second = conv(4, 4), conv(4, 4)
        self.leave, self.head = conv(16, 8, 1), conv(8, 4, 1)

    def forward(self, image):
        left, right = self.enter(self.stem(image).relu()).relu().chunk(2, 1)
        middle = self.first(right).relu()
        parts = [left, right, middle, self.second(middle).relu()]
        return self.head(self.leave(torch.cat(parts, 1)).relu())


class Detector(nn.Module):
    """Features of two resolutions, the lower one going up again, and a head for each."""

    def __init__(self):
        super().__init__()
        self.stem, self.down = conv(3, 8), conv(8, 8, stride=2)
        self.up = nn.Upsample(scale_factor=2)
        self.merge = conv(16, 8, 1)
        self.fine, self.coarse = conv(8, 4, 1), conv(8, 4, 1)

    def forward(self, image):
        high = self.stem(image).relu()
        low = self.down(high).relu()
        merged = self.merge(torch.cat([high, self.up(low)], 1)).relu()
        return self.fine(merged), self.coarse(low)


class HalfReturned(nn.Module):
    """One half of a chunk is an output, the other goes on."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = conv(3, 8), conv(4, 4, 1)

    def forward(self, image):
        left, right = self.stem(image).relu().chunk(2, 1)
        return left, self.head(right)


class Transposed(nn.Module):
    """Between its layers the images lie along the second axis."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, tokens):
        x = self.first(tokens).transpose(0, 1)
        return self.third(self.second(x).relu().transpose(0, 1))


class Mlp(nn.Module):
    """Linear layers alone, the last without a bias."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 4, bias=False)

    def forward(self, features):
        return self.head(self.second(self.first(features).relu()).relu())


NETS = {"chain": Chain, "depthwise": DepthwiseChain, "residual": Residual, "inverted": Inverted,
        "split": Split, "detector": Detector, "half": HalfReturned,
        "mlp": Mlp}  # fmt: skip


def lively(model):
    """Weights with which the magnitude of the signal, and its variety, survive all layers."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    return model.eval()


def inputs_of(model, count=8, seed=1):
    shape = {Mlp: (12,), Transposed: (5, 6)}.get(type(model), (3, 8, 8))
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def prepared_net(model, data, scheme=None):
    merged = repq_fx.reparameterize(model.eval(), data)
    prepared = api.prepare(merged, data, scheme or repq_fx.Scheme())
    repq_fx.calibrate(prepared, data, progress=False)
    return prepared


class CutNet:
    """A float network, its units, and what they call."""

    def __init__(self, model, partition, data=None):
        self.data = inputs_of(model) if data is None else data
        prepared = PreparedView.of(prepared_net(model, self.data), "test")
        self.view = refined_copy(prepared, "test")
        self.refined = self.view.graph_module
        self.original = Networks.of(self.view).original
        self.stored = StoredTensors(self.original, [self.data[:7]])
        self.units = partition_network(self.view, self.stored, partition)
        self.values = called_values(self.original, self.refined.graph)

    @torch.no_grad()
    def run(self):
        """What the units compute one after the other, by name."""
        placeholder = next(n.name for n in self.refined.graph.nodes if n.op == "placeholder")
        found = {placeholder: self.data}
        for unit in self.units:
            outputs = unit.module(self.values)(*(found[name] for name in unit.inputs))
            found.update(zip(unit.outputs, outputs, strict=True))
        return found

    @torch.no_grad()
    def finish(self, found):
        """The network's outputs from those of its units; no layer may be left over."""
        nodes = list(self.refined.graph.nodes)
        ends = nodes[-1].all_input_nodes
        pending, needed = list(ends), set()
        while pending:
            node = pending.pop()
            if node.name not in found and node not in needed:
                assert not self.view.is_layer(node)
                needed.add(node)
                pending += node.all_input_nodes
        rest = [n for n in nodes if n in needed]
        module = part_of_graph(rest, list(found), [n.name for n in ends], self.values)
        return module(*found.values())
