"""The only file that imports `torch.ao.quantization`, which upstream deprecates but still ships.

Its entry points warn on every call ("will be removed in 2.10"; they are present through 2.15). The
wrappers here silence exactly that, so that `repq_fx` functions do not pass it on to users.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch.ao.nn.quantized.modules.utils import WeightedQuantizedModule as WeightedQuantizedModule
from torch.ao.quantization import QConfig as QConfig
from torch.ao.quantization import QConfigMapping as QConfigMapping
from torch.ao.quantization import fuse_conv_bn as fuse_conv_bn
from torch.ao.quantization import get_default_qconfig_mapping
from torch.ao.quantization.backend_config import BackendConfig as BackendConfig
from torch.ao.quantization.backend_config import BackendPatternConfig as BackendPatternConfig
from torch.ao.quantization.backend_config import DTypeConfig as DTypeConfig
from torch.ao.quantization.backend_config import ObservationType as ObservationType
from torch.ao.quantization.fx import utils as _fx_utils
from torch.ao.quantization.fx.custom_config import PrepareCustomConfig
from torch.ao.quantization.observer import ObserverBase as ObserverBase
from torch.ao.quantization.quantize_fx import (
    _convert_to_reference_decomposed_fx,
    convert_fx,
    prepare_fx,
)
from torch.fx import GraphModule, Node
from torch.nn import Module

from .errors import PrecisionWarning

# Of torch's own use of itself, which nobody who calls us can change.
_DEPRECATIONS = (
    ".*torch.ao.quantization is deprecated.*",
    "Please use quant_min and quant_max to specify the range for observers.*",
    "torch.quantize_per_tensor, .* are deprecated.*",
)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's warnings about itself, and without what it keeps of the model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch.ao")
        for message in _DEPRECATIONS:
            warnings.filterwarnings("ignore", message=message)
        try:
            yield
        finally:
            # A cache without bounds, which would hold every model and its calibration images.
            clear = getattr(_fx_utils.assert_and_get_unique_device, "cache_clear", None)
            if clear is not None:
                clear()


def prepare(
    model: Module,
    qconfig_mapping: QConfigMapping,
    example_inputs: tuple[torch.Tensor, ...],
    backend_config: BackendConfig,
) -> GraphModule:
    """`torch.ao.quantization.quantize_fx.prepare_fx`, which inserts the observers."""
    custom = PrepareCustomConfig().set_non_traceable_module_names(_own_modules(model))
    with _quietly():
        return prepare_fx(
            model,
            qconfig_mapping,
            example_inputs,
            prepare_custom_config=custom,
            backend_config=backend_config,
        )


def _own_modules(model: Module) -> list[str]:
    """What a graph calls besides layers of torch; `prepare_fx` would trace through them again."""
    if not isinstance(model, GraphModule):
        return []
    called = {str(node.target) for node in model.graph.nodes if node.op == "call_module"}
    return [
        name
        for name in sorted(called)
        if not type(model.get_submodule(name)).__module__.startswith("torch.nn")
    ]


def convert_decomposed(prepared: GraphModule, backend_config: BackendConfig) -> GraphModule:
    """Replace observers by `quantized_decomposed` ops and layers by their reference modules.

    Unlike the `quint8` tensors of stock `convert_fx`, these ops keep the grid's own bounds, so
    activations below 8 bits are exact and the warning about them is not needed.
    """
    with _quietly():
        warnings.filterwarnings("ignore", category=PrecisionWarning)
        return _convert_to_reference_decomposed_fx(prepared, backend_config=backend_config)


def is_prepared(model: Module) -> bool:
    """Whether `model` came out of `prepare_fx` and was not converted yet."""
    return isinstance(model, GraphModule) and "_observed_graph_module_attrs" in model.meta


def is_without_tensors(node: Node, graph_module: GraphModule) -> bool:
    """Whether `prepare_fx` takes a node for one that computes numbers alone."""
    modules = dict(graph_module.named_modules())
    without: bool = _fx_utils.all_node_args_have_no_tensors(node, modules, {})
    return without


def quantize_with_torch_defaults(model: Module, batches: Iterable[torch.Tensor]) -> GraphModule:
    """What torch does out of the box for x86, as a baseline to measure against."""
    batches = list(batches)
    mapping = get_default_qconfig_mapping("x86")
    with _quietly(), torch.no_grad():
        prepared = prepare_fx(model, mapping, (batches[0],))
        for batch in batches:
            prepared(batch)
        return convert_fx(prepared)
