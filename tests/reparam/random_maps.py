"""Random affine maps for property-based tests, and an oracle that applies them."""

import hypothesis.strategies as st
import torch
from torch.nn import functional as F

from repq_fx.reparam import ConvMap

CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def apply(conv_map, image):
    """Explicit padding, then an unpadded convolution."""
    mode = "constant" if conv_map.padding_mode == "zeros" else conv_map.padding_mode
    for axis, sides in enumerate(conv_map.padding):
        # One axis at a time, since torch refuses to reflect more than it has along any of them.
        amounts = [0, 0] * (conv_map.spatial_dims - 1 - axis) + list(sides)
        amounts += [0, 0] * (conv_map.spatial_dims - len(amounts) // 2)
        if mode == "constant" or any(sides):
            image = F.pad(image, amounts, mode=mode)
    return CONVOLVE[conv_map.spatial_dims](
        image,
        conv_map.kernel,
        conv_map.bias,
        conv_map.stride,
        0,
        conv_map.dilation,
        conv_map.groups,
    )


@st.composite
def conv_maps(draw, channels, stride, out_channels=None):
    """Maps whose outputs are as large as those of a 1x1 convolution with the same stride."""
    out_channels = out_channels or channels
    counts = [g for g in (1, 2, 3, 4, 6, 12) if channels % g == out_channels % g == 0]
    groups = draw(st.sampled_from(counts))
    taps = [draw(st.integers(1, 5)) for _ in stride]
    dilation = [draw(st.integers(1, 3)) if k > 1 else 1 for k in taps]
    extents = [(k - 1) * d for k, d in zip(taps, dilation, strict=True)]
    before = [draw(st.integers(0, extent)) for extent in extents]
    padding = tuple((p, extent - p) for p, extent in zip(before, extents, strict=True))
    bias = draw(st.booleans())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    kernel = torch.randn(out_channels, channels // groups, *taps, generator=generator).double()
    bias = torch.randn(out_channels, generator=generator).double() if bias else None
    return ConvMap(kernel, bias, stride, padding, tuple(dilation), groups)
