"""Backend tables, reference layers and lowering."""

from .batch_statistics import call_batch_statistics as call_batch_statistics
from .configuration import get_backend_config as get_backend_config
from .configuration import get_qconfig_mapping as get_qconfig_mapping
from .lowering import lower_to_x86 as lower_to_x86
from .output_shell import OutputShell as OutputShell
from .reference import ReferenceConv2d as ReferenceConv2d
from .reference import ReferenceLinear as ReferenceLinear
from .reference_graph import to_reference as to_reference
