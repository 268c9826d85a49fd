"""Where observers are placed before calibration."""

from torch import Tensor, nn
from torch.fx import GraphModule

from .. import _torch_ao
from ..quant import Scheme
from .configuration import get_backend_config, get_qconfig_mapping
from .float_layers import report_float_layers
from .other_values import drop_observers_of_other_values
from .pool_padding import observe_inside_padding
from .unread_observers import drop_unread_observers


def place_observers(model: nn.Module, inputs: tuple[Tensor, ...], scheme: Scheme) -> GraphModule:
    """The result of `prepare_fx` with our tables, without observers that have nothing to round."""
    mapping, backend = get_qconfig_mapping(scheme), get_backend_config()
    prepared = _torch_ao.prepare(model, mapping, inputs, backend)
    report_float_layers(prepared)
    drop_unread_observers(prepared)
    drop_observers_of_other_values(prepared, inputs)
    observe_inside_padding(prepared)
    return prepared
