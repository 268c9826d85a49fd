"""The one order in which all kernels sum a tensor per channel, told in csrc/common/blocks.h."""

import torch
from torch import Tensor
from torch.nn import functional as F

_MIN_LANES = 128
_BLOCK_ROWS = 32


def channel_sums(values: Tensor, like: Tensor, axis: int | None) -> Tensor:
    """Sum `values`, float32 of the shape of `like`, over all that shares an index of `axis`.

    The order is that of the values in the memory of `like`, or of its dense copy.

    Returns:
        float64 `[channels]`; `[1]` without `axis`.
    """
    dense = torch.empty_like(like, dtype=torch.float32).copy_(values)
    size = dense.numel()
    channels = 1 if axis is None else dense.shape[axis]
    if size == 0:
        return dense.new_zeros(channels, dtype=torch.float64)
    run = size if axis is None or channels == 1 else dense.stride(axis)
    width = channels if run == 1 else 1
    segment = size if width > 1 else run
    lanes = width * max(1, _MIN_LANES // width)

    segments = dense.as_strided((size // segment, segment), (segment, 1)).double()
    padded = F.pad(segments, (0, -segment % (lanes * _BLOCK_ROWS)))
    rows = padded.view(len(segments), -1, _BLOCK_ROWS, lanes)
    of_lanes = torch.zeros_like(rows[:, :, 0])
    for row in range(_BLOCK_ROWS):
        of_lanes += rows[:, :, row]
    of_blocks = tree_sum(of_lanes.view(*of_lanes.shape[:2], -1, width).movedim(2, 0))
    if width == 1:  # Segments lie in the order of channels, again and again.
        of_blocks = of_blocks.view(-1, channels, of_blocks.shape[1]).movedim(1, 2)
    return tree_sum(of_blocks.reshape(-1, channels))


def tree_sum(rows: Tensor) -> Tensor:
    """Sum over the first dimension: while several are left, the second half onto the first."""
    while len(rows) > 1:
        half = (len(rows) + 1) // 2
        added = len(rows) - half
        rows = torch.cat([rows[:added] + rows[half:], rows[added:half]])
    return rows[:1].sum(0)  # Zero of none.
