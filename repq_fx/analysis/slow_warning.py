"""What `convert` says of a network that it did not make faster."""

import logging

from torch.fx import GraphModule

from ..backend.prepared_view import PreparedView
from ..lowering.int8.instructions import Int8Program
from ..ops import has_extension
from ..quant.images import inputs_left
from .speed import compare_speed

_LOGGER = logging.getLogger(__name__)


def warn_if_slow(prepared: GraphModule, lowered: GraphModule) -> GraphModule:
    """Log a warning if `lowered` is slower than the float network, or partly runs in PyTorch.

    Both are timed on the first of the images that `calibrate` has kept; where there is none, and
    without integer programs or compiled kernels, nothing is.

    Args:
        prepared: What was converted; not changed.
        lowered: What it was converted to.

    Returns:
        `lowered`.
    """
    inputs = inputs_left(prepared)
    has_programs = any(isinstance(module, Int8Program) for module in lowered.modules())
    if inputs is None or not has_programs or not has_extension():
        return lowered
    view = PreparedView.of(prepared, "convert")
    image = tuple(value[:1].cpu() if value.dim() else value.cpu() for value in inputs)
    try:
        speed = compare_speed(view.without_observers(), lowered, image)
    except Exception:  # Whatever a model does with a number of images it was not made for.
        _LOGGER.debug("the speed of one image is unknown", exc_info=True)
        return lowered
    if speed.warning is not None:
        _LOGGER.warning("%s", speed.warning)
    return lowered
