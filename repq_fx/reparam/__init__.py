"""Tensor algebra of re-parameterization: affine maps and their sums. No graphs."""

from .channel_affine import batch_norm_scale_shift as batch_norm_scale_shift
from .channel_affine import scale_channels as scale_channels
from .channel_affine import shift_channels as shift_channels
from .conv_map import ConvMap as ConvMap
from .conv_map import MapError as MapError
from .conv_map import conv2d_padding as conv2d_padding
from .conv_map import from_conv2d as from_conv2d
from .conv_map import identity as identity
from .conv_map import to_conv2d as to_conv2d
from .map_sum import add as add
from .map_sum import regroup as regroup
