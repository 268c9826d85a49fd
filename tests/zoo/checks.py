"""What must hold whenever a model is merged, and probes that do not depend on the library."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from repq_fx import reparameterize

CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
LAYERS = (*CONVOLUTIONS, nn.Linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose2d, F.linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, F.batch_norm)


def randomized(block: nn.Module, randomize_batch_norm: Callable[..., nn.Module]) -> nn.Module:
    """`block` in float64 and evaluation mode, no parameter of which is zero, one or neutral."""
    with torch.no_grad():
        for module in block.modules():
            if not isinstance(module, tuple(kind for kind in LAYERS if isinstance(kind, type))):
                for parameter in module.parameters(recurse=False):
                    parameter.uniform_(-1, 1)
    return randomize_batch_norm(block).double().eval()


def merged_exactly(block: nn.Module, image: Tensor) -> GraphModule:
    """`block` merged, after checks that its outputs are kept and that itself is."""
    before = copy.deepcopy(block.state_dict())
    merged = reparameterize(block, image)
    after = block.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in block.modules())
    for sample in (image, torch.randn_like(image)):
        assert_same(block(sample), merged(sample))
    return merged


@torch.no_grad()
def assert_same(expected: object, actual: object) -> None:
    """Tensors, or containers of tensors, agree to 1e-9 of the largest magnitude."""
    expected, actual = tree_leaves(expected), tree_leaves(actual)
    assert len(expected) == len(actual)
    for known, found in zip(expected, actual, strict=True):
        scale = float(known.abs().max())
        torch.testing.assert_close(found, known, rtol=0, atol=1e-9 * scale)


def calls_of(merged: GraphModule, kinds: tuple[object, ...]) -> list[object]:
    """The modules, or else the functions, that `merged` calls and that are one of `kinds`."""
    called = [
        merged.get_submodule(str(node.target)) if node.op == "call_module" else node.target
        for node in merged.graph.nodes
    ]
    return [target for target in called if target in kinds or type(target) in kinds]


def assert_one_convolution(merged: GraphModule, activation: nn.Module) -> None:
    """One convolution alone reads the input, and only `activation` has parameters beside it."""
    (conv,) = calls_of(merged, CONVOLUTIONS)
    (source,) = merged.graph.find_nodes(op="placeholder")
    sizes = ("call_function", getattr), ("call_function", torch.ops.repq_fx.require_size.default)
    readers = [user for user in source.users if (user.op, user.target) not in sizes]
    assert [merged.get_submodule(str(reader.target)) for reader in readers] == [conv]
    assert count_parameters(merged) == count_parameters(conv) + count_parameters(activation)


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def impulse_response(
    block: nn.Module,
    channels: int,
    taps: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
) -> tuple[Tensor, Tensor]:
    """Kernel and bias of the convolution that `block` must be, if it is one of these sizes.

    Zero gives the bias. An impulse at each place that one output reads, away from the border,
    gives the kernel.
    """
    output = tuple(p // s + 1 for p, s in zip(padding, stride, strict=True))
    window = [
        slice(o * s - p, o * s - p + t)
        for o, s, p, t in zip(output, stride, padding, taps, strict=True)
    ]
    size = [place.stop + 1 for place in window]
    count = channels * torch.Size(taps).numel()
    impulses = torch.zeros(count, channels, *size, dtype=torch.float64)
    unit = torch.eye(count, dtype=torch.float64).reshape(count, channels, *taps)
    impulses[(slice(None), slice(None), *window)] = unit
    here = (slice(None), slice(None), *output)
    bias = block(torch.zeros_like(impulses[:1]))[here][0]
    kernel = (block(impulses)[here] - bias).T
    return kernel.reshape(-1, channels, *taps), bias


def is_block_diagonal(kernel: Tensor, groups: int) -> bool:
    """Whether no output reads a channel of another group."""
    outputs, inputs = (size // groups for size in kernel.shape[:2])
    inside = torch.kron(torch.eye(groups), torch.ones(outputs, inputs)).bool()
    return float(kernel[~inside].abs().sum()) <= 1e-9 * float(kernel.abs().max())
