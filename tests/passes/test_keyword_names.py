import pytest
import torch
from torch import nn

import repq_fx


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleDict({"global": nn.Conv2d(3, 4, 1), "in": nn.Conv2d(3, 4, 3)})
        self.scales = nn.ParameterDict({"from": nn.Parameter(torch.randn(4, 1, 1))})
        self.heads_global_ = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        total = self.heads["global"](x) * self.scales["from"]
        return self.heads_global_(torch.sigmoid(total)), self.heads["in"](x)


@pytest.mark.parametrize("backend", ["reference", "x86"])
def test_layers_may_be_called_what_python_calls_something_else(tmp_path, backend):
    model, images = Heads().eval(), torch.randn(8, 3, 6, 6)
    names = list(model.state_dict())
    merged = repq_fx.reparameterize(model, images)
    for found, known in zip(merged(images), model(images), strict=True):
        torch.testing.assert_close(found, known)
    assert list(model.state_dict()) == names
    quantized = repq_fx.quantize(model, images, backend=backend, progress=False)
    repq_fx.save(quantized, tmp_path / "model.repq")
    for found, known in zip(
        repq_fx.load(tmp_path / "model.repq")(images), quantized(images), strict=True
    ):
        assert torch.equal(found, known)
