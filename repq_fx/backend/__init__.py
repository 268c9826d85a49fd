"""Tables for torch.ao, reference layers, and where observers are placed before calibration."""

from .configuration import get_backend_config as get_backend_config
from .configuration import get_qconfig_mapping as get_qconfig_mapping
from .preparing.override_targets import require_override_targets as require_override_targets
from .preparing.prepare import equalized as equalized
from .preparing.prepare import place_observers as place_observers
from .preparing.prepare import write_as_layers as write_as_layers
from .reference import ReferenceConv2d as ReferenceConv2d
from .reference import ReferenceLinear as ReferenceLinear
