"""Backend tables, reference layers and lowering."""

from .configuration import get_backend_config as get_backend_config
from .configuration import get_qconfig_mapping as get_qconfig_mapping
