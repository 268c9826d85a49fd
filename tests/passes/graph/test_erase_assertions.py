import torch
from torch import fx, nn

from repq_fx.passes.graph.erase_assertions import erase_assertions


class Checked(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        x = self.conv(x)
        torch._assert(x.ndim == 4, f"expected 4 dimensions, got {x.ndim}")
        torch._assert(x.size(1) == 3, "expected 3 channels")
        torch._assert(x.size(2) % 2 == 0, "expected an even height")
        return x


class Mutating(nn.Module):
    def forward(self, x):
        y = x + 1
        y.mul_(2)
        return y.reshape(y.shape[0], -1)


def test_assertions_and_their_questions_are_erased():
    traced = fx.symbolic_trace(Checked())
    erase_assertions(traced)
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "output"]
    traced(torch.randn(1, 3, 2, 2))


def test_everything_else_stays():
    traced = fx.symbolic_trace(Mutating())
    before = str(traced.graph)
    erase_assertions(traced)
    assert str(traced.graph) == before
    assert torch.equal(traced(torch.ones(1, 2, 1)), torch.full((1, 2), 4.0))
