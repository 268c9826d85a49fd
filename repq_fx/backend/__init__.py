"""Backend tables, reference layers and lowering."""

from .configuration import get_backend_config as get_backend_config
from .configuration import get_qconfig_mapping as get_qconfig_mapping
from .int8_layers import CACHES as CACHES
from .int8_layers import CfwsConv2d, Int8Conv2d, Int8Linear
from .lower_x86 import lower_to_x86 as lower_to_x86
from .reference import ReferenceConv2d, ReferenceLinear
from .reference_graph import to_reference as to_reference

# The layers of our own that a model file may hold.
SAVED_LAYERS = (ReferenceConv2d, ReferenceLinear, Int8Conv2d, CfwsConv2d, Int8Linear)
