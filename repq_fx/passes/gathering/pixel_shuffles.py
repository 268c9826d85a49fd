"""Transposed convolutions as convolutions with more channels and a pixel shuffle.

Of a transposed convolution with stride s, the outputs at the same place of each s x s square are a
convolution of its input with every s-th tap (Shi et al., arXiv 1609.07009).
"""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import GraphModule, Node

from .elementwise_function import ScaledActivation

# They treat all elements alike, so that it does not matter on which side of the shuffle they stand.
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid,
    nn.GELU, ScaledActivation,
)  # fmt: skip
_ACTIVATION_FUNCTIONS = (
    F.relu, torch.relu, "relu", F.relu6, F.hardtanh, F.leaky_relu, F.silu, F.hardswish,
    F.hardsigmoid, torch.sigmoid, F.sigmoid, "sigmoid", F.gelu,
)  # fmt: skip


@torch.no_grad()
def shuffle_pixels(graph_module: GraphModule, kept: Iterable[nn.Module] = ()) -> None:
    """Replace transposed convolutions by convolutions, which have integer kernels, in place.

    Those that an image enlarges by their stride are, as all usual ones do; an activation function
    behind one then follows the convolution. Others stay.

    Args:
        graph_module: A graph in evaluation mode that the caller owns.
        kept: Modules that stay as they are.
    """
    kept_ids = {id(module) for module in kept}
    graph = graph_module.graph
    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    for target in dict.fromkeys(called):
        layer = graph_module.get_submodule(target)
        calls = graph.find_nodes(op="call_module", target=target)
        is_plain = all(len(call.args) == 1 and not call.kwargs for call in calls)
        if type(layer) is nn.ConvTranspose2d and is_plain and id(layer) not in kept_ids:
            convolution = equivalent_convolution(layer)
            if convolution is not None:
                graph_module.set_submodule(target, convolution)
                for call in calls:
                    _shuffle(graph_module, call, layer.stride[0])
    graph_module.recompile()


def equivalent_convolution(layer: nn.ConvTranspose2d) -> nn.Conv2d | None:
    """The convolution whose pixels, shuffled by the stride, are the output of `layer`.

    Returns:
        None where the output of `layer` is not as many times larger than its input as its stride
        says, or not in both directions.
    """
    stride = layer.stride[0]
    paddings = map(int, layer.padding)
    axes = list(zip(layer.kernel_size, paddings, layer.output_padding, strict=True))
    is_enlarged = all(kernel - 2 * pad + rest == stride for kernel, pad, rest in axes)
    is_plain = layer.stride == (stride, stride) and tuple(layer.dilation) == (1, 1)
    if not (is_enlarged and is_plain and layer.padding_mode == "zeros"):
        return None
    taps = [list(_taps(stride, kernel, pad)) for kernel, pad, _ in axes]
    reach = [max(abs(offset) for _, _, offset in each) for each in taps]
    groups, out_of_group = layer.groups, layer.out_channels // layer.groups
    given = layer.weight.unflatten(0, (groups, -1)).transpose(1, 2)  # [G, out, in, rows, columns]
    weight = given.new_zeros(
        groups, out_of_group, stride, stride, given.shape[2], *(2 * each + 1 for each in reach)
    )
    for row, in_row, down in taps[0]:
        for column, in_column, right in taps[1]:
            weight[:, :, row, column, :, down + reach[0], right + reach[1]] = given[
                :, :, :, in_row, in_column
            ]
    convolution = nn.Conv2d(
        layer.in_channels, layer.out_channels * stride**2, weight.shape[-2:],
        padding=(reach[0], reach[1]), groups=groups, bias=layer.bias is not None, device="meta",
    )  # fmt: skip
    convolution.weight = nn.Parameter(weight.flatten(0, 3), layer.weight.requires_grad)
    if layer.bias is not None:
        bias = layer.bias.repeat_interleave(stride**2)
        convolution.bias = nn.Parameter(bias, layer.bias.requires_grad)
    return convolution.train(layer.training)


def _taps(stride: int, kernel: int, padding: int) -> Iterator[tuple[int, int, int]]:
    """Along one axis: a place in the square, a tap, and how far off it reads the input."""
    for place in range(stride):
        for tap in range(kernel):
            if (place + padding - tap) % stride == 0:
                yield place, tap, (place + padding - tap) // stride


def _shuffle(graph_module: GraphModule, call: Node, factor: int) -> None:
    last = call
    while len(last.users) == 1 and _is_activation(graph_module, next(iter(last.users))):
        last = next(iter(last.users))
    with graph_module.graph.inserting_after(last):
        shuffled = graph_module.graph.call_function(F.pixel_shuffle, (last, factor))
    last.replace_all_uses_with(shuffled, delete_user_cb=lambda user: user is not shuffled)


def _is_activation(graph_module: GraphModule, node: Node) -> bool:
    if node.op == "call_module":
        return type(graph_module.get_submodule(str(node.target))) in _ACTIVATIONS
    return node.target in _ACTIVATION_FUNCTIONS and len(node.all_input_nodes) == 1
