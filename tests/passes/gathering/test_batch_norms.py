import pytest
import torch
import torch.nn.functional as F
from torch import nn

import repq_fx
from repq_fx.lowering.int8.instructions import Int8Program


class NormAndActivation(nn.BatchNorm2d):
    """As timm's: traced through, because its forward is its own."""

    def forward(self, input):
        return F.relu(
            F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias,
                self.training, 0.1, self.eps,
            )
        )  # fmt: skip


def dense(norm):
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 4, 3, padding=1), norm
            self.second = nn.Conv2d(7, 5, 1)

        def forward(self, x):
            return self.second(self.norm(torch.cat([x, self.first(x).relu()], 1)))

    return Dense().eval()


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
def test_a_norm_that_nothing_merges_with_is_a_layer(affine, randomize_batch_norm):
    model = randomize_batch_norm(dense(NormAndActivation(7, eps=0.1, affine=affine))).double()
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    merged = repq_fx.reparameterize(model, images)
    assert [type(each) for each in merged.modules()].count(nn.BatchNorm2d) == 1
    assert F.batch_norm not in [node.target for node in merged.graph.nodes]
    other = torch.randn(3, 3, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(merged(other), model(other), rtol=1e-9, atol=1e-9)


def test_it_has_an_integer_form(randomize_batch_norm):
    model = randomize_batch_norm(dense(NormAndActivation(7)))
    images = torch.randn(4, 3, 8, 8)
    int8 = repq_fx.quantize(model, images, progress=False)
    assert sum(isinstance(module, Int8Program) for module in int8.modules()) == 1
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(images), int8(images)) > 30


def test_statistics_of_the_batch_stay_a_function():
    class Batch(nn.BatchNorm2d):
        def forward(self, input):
            return F.batch_norm(input, None, None, self.weight, self.bias, True)

    merged = repq_fx.reparameterize(dense(Batch(7)), torch.randn(2, 3, 8, 8))
    assert F.batch_norm in [node.target for node in merged.graph.nodes]
