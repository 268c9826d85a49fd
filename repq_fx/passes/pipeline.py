"""The order of the passes."""

import logging

from torch import nn
from torch.fx import GraphModule

from ..errors import RepqError
from .agreement import difference
from .erase_assertions import erase_assertions
from .example import ExampleInputs, as_inputs, run
from .merge_regions import merge_regions
from .region import Region
from .trace import trace

_logger = logging.getLogger(__name__)


def reparameterize(model: nn.Module, example_inputs: ExampleInputs) -> GraphModule:
    """Merge every linear multi-branch part of `model` into one convolution.

    Regions are found by their algebra, not by class names: convolutions, batch normalizations,
    identities and scalings between one tensor and a sum of branches. Each is merged in float64,
    verified on the example, and left as it was if it cannot be merged exactly or would cost more.

    Args:
        model: A float model in evaluation mode, in training form. It is not changed.
        example_inputs: A tensor or a tuple of tensors, the positional inputs of the model.

    Returns:
        A graph module in evaluation mode that shares nothing with `model`.

    Raises:
        TypeError: See `trace`.
        ValueError: See `trace`.
        TraceError: See `trace`.
        RepqError: The merged model differs from `model` although each region agrees.

    Example:
        >>> import torch
        >>> from repq_fx.models import fashion_repvgg
        >>> merged = reparameterize(fashion_repvgg().eval(), torch.randn(1, 1, 28, 28))
        >>> merged.get_submodule("stem.reparam_conv")
        Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))
    """
    merged, _ = _reparameterize(model, example_inputs)
    return merged


def find_regions(model: nn.Module, example_inputs: ExampleInputs) -> list[Region]:
    """What `reparameterize` merges and what it refuses, and why; `model` is not changed.

    Args:
        model: As for `reparameterize`.
        example_inputs: As for `reparameterize`.

    Returns:
        The regions in the order of the graph. A part of a refused region may be merged on its own
        and then is listed too.

    Raises:
        RepqError: As `reparameterize` does.
    """
    _, regions = _reparameterize(model, example_inputs)
    return regions


def _reparameterize(
    model: nn.Module, example_inputs: ExampleInputs
) -> tuple[GraphModule, list[Region]]:
    inputs = as_inputs(example_inputs)
    graph_module = trace(model, inputs)
    expected = run(graph_module, inputs)
    erase_assertions(graph_module)
    regions = merge_regions(graph_module, inputs)
    departure = difference(expected, run(graph_module, inputs))
    if departure is not None:
        raise RepqError(
            f"Cannot merge {type(model).__name__}: every merged region agrees with the original, "
            f"but the model as a whole does not: on the example, {departure}. Its later layers "
            f"amplify rounding, as selecting the largest scores does; merge a part without them."
        )
    merged = sum(region.merged for region in regions)
    _logger.info("Merged %d regions, refused %d.", merged, len(regions) - merged)
    return graph_module, regions
