"""One activation for a whole model, and what is asked of one block by its name."""

import torch
from torch import nn

import repq_fx
from repq_fx import Override, Scheme

QUICK = Scheme(gptq=False, output_search=False, sequential_ranges=False, equalization=False)


class Block(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.act = act

    def forward(self, image):
        return self.act(self.conv(image))


class Net(nn.Module):
    """Three blocks and a sum that all call one SiLU."""

    def __init__(self):
        super().__init__()
        act = nn.SiLU()
        self.blocks = nn.Sequential(*(Block(act) for _ in range(3)))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, image):
        features = self.blocks(image)
        return self.head(self.blocks[0].act(features + image))


def test_each_call_has_a_name_of_its_own():
    model, image = Net().eval(), torch.randn(2, 4, 8, 8)
    merged = repq_fx.reparameterize(model, image)
    targets = [
        node.target
        for node in merged.graph.nodes
        if node.op == "call_module" and isinstance(merged.get_submodule(node.target), nn.SiLU)
    ]
    assert targets == ["blocks.0.act", "blocks.1.act", "blocks.2.act", "blocks.0.act_1"]
    with torch.no_grad():
        torch.testing.assert_close(merged(image), model(image))


def test_one_block_in_float_leaves_the_others_quantized():
    model, image = Net().eval(), torch.randn(4, 4, 8, 8)
    scheme = QUICK.with_overrides(Override("blocks.0", None))
    reference = repq_fx.quantize(model, image, scheme=scheme, backend="reference", progress=False)
    floats = [n for n, m in reference.named_modules() if isinstance(m, nn.Conv2d)]
    assert floats == ["blocks.0.conv"]


def test_an_activation_in_float_leaves_a_plain_layer(tmp_path):
    """torch quantizes no layer whose activation is left in float; nothing of ours stays on it."""
    model, image = Net().eval(), torch.randn(4, 4, 8, 8)
    scheme = QUICK.with_overrides(Override(nn.SiLU, None))
    int8 = repq_fx.quantize(model, image, scheme=scheme, progress=False)
    repq_fx.save(int8, tmp_path / "model.repq")
    assert torch.equal(repq_fx.load(tmp_path / "model.repq")(image), int8(image))


def test_layers_with_weights_stay_shared():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, nn.ReLU(), conv).eval()
    merged = repq_fx.reparameterize(model, torch.randn(1, 4, 8, 8))
    assert sum(isinstance(module, nn.Conv2d) for module in merged.modules()) == 1
