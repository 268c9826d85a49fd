"""Models of half or double precision, in the precision that integers are chosen in."""

import logging

import torch
from torch import nn

from .graph.example import Inputs, map_tensors
from .tracing.trace import copy_of, require_traceable

_LOGGER = logging.getLogger(__name__)


def in_single_precision(model: nn.Module) -> nn.Module:
    """`model` itself if all its numbers are float32, else a copy in float32, which is logged.

    Raises:
        TypeError: See `trace`.
        TraceError: See `trace`.
    """
    require_traceable(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            _LOGGER.warning(
                "the model holds %s numbers (%r): a copy in float32 is quantized, which reads and "
                "returns float32",
                tensor.dtype,
                name,
            )
            return copy_of(model).float()
    return model


def inputs_in_single_precision(inputs: Inputs) -> Inputs:
    """The inputs with every floating-point tensor in float32."""
    return map_tensors(lambda t: t.float() if t.is_floating_point() else t, inputs)
