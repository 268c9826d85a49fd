"""Tensor algebra of re-parameterization: affine maps, their sums and compositions. No graphs."""

from .channel_affine import batch_norm_scale_shift as batch_norm_scale_shift
from .channel_affine import scale_channels as scale_channels
from .channel_affine import shift_channels as shift_channels
from .conv_map import ConvMap as ConvMap
from .conv_map import MapError as MapError
from .conv_map import average as average
from .conv_map import identity as identity
from .conv_map import in_float64 as in_float64
from .conv_map import pad as pad
from .conv_map import split_padding as split_padding
from .conv_map import with_axes as with_axes
from .layers import Geometry as Geometry
from .layers import conv_map as conv_map
from .layers import from_conv as from_conv
from .layers import from_linear as from_linear
from .layers import to_conv as to_conv
from .layers import to_linear as to_linear
from .map_composition import compose as compose
from .map_stack import select as select
from .map_stack import stack as stack
from .map_sum import add as add
from .map_sum import regroup as regroup
