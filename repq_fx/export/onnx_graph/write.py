"""`onnx`: a quantized model as an ONNX file."""

import copy
import logging
import os
import warnings
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from ..._atomic_file import require_writable, write_atomically
from ..._version import __version__
from ...backend.reference import ReferenceLayer
from ...errors import ExportError
from ...lowering.int8.instructions import Int8Program
from ...passes.graph.example import ExampleInputs, map_tensors
from .clipping import clip_by_grids
from .example import example_of
from .layers import write_layers
from .node_names import name_nodes, name_sizes
from .packages import WRITING, require_packages
from .targets import Narrowing, Target, target_of
from .trace import traced
from .translations import translations_for

_LOGGER = logging.getLogger(__name__)
_LARGEST = 2**31 - 2**20  # Of a file without others beside it: what protobuf holds.


def onnx(
    quantized: GraphModule,
    path: str | os.PathLike[str],
    *,
    target: str = "onnxruntime",
    example_inputs: ExampleInputs | None = None,
) -> None:
    """Write a quantized model as ONNX, with QuantizeLinear and DequantizeLinear where grids are.

    Scales, zero points and weights are those of the model, so that it computes what the reference
    does, up to the order in which a runtime adds. A weight in two parts becomes the sum of two
    layers, and biases are rounded to int32 where the target wants that. Sizes of the inputs stay
    free where torch can follow them; the log says which are not.

    Args:
        quantized: What ``quantize(..., backend="reference")`` or ``convert`` returned.
        path: The file, which appears whole or not at all.
        target: ``"onnxruntime"`` or ``"openvino"``, for which the file is written.
        example_inputs: The model's inputs, of two images or more if their number is to be free; by
            default two images of 224x224 with the channels that the first convolution reads.

    Raises:
        ValueError: There is no such target.
        TypeError: `quantized` is no graph.
        ExportError: A package is not installed; the model is lowered to integer programs, is not
            quantized, does not take the inputs, has an operation that ONNX lacks, or is above 2 GB.
        OSError: `path` is not writable.

    Example:
        >>> reference = repq_fx.quantize(model, images, backend="reference")  # doctest: +SKIP
        >>> repq_fx.export.onnx(reference, "model.onnx", target="openvino")  # doctest: +SKIP
    """
    wanted = target_of(target)
    require_packages("onnx", WRITING)
    _require_reference(quantized)
    require_writable(path)
    inputs = example_of(quantized, example_inputs)
    written = copy.deepcopy(quantized).cpu()
    if wanted.narrowing is Narrowing.LEVELS:
        clip_by_grids(written)
    write_layers(written, dequantizes_all=wanted.dequantizes_all)
    program = traced(written, map_tensors(lambda entry: entry.cpu(), inputs))
    write_atomically(path, _content_of(program, wanted, _facts_of(quantized, wanted)))
    if wanted.sums_in_float:
        _tell_split_layers(quantized, wanted)


def _content_of(program: ExportedProgram, target: Target, facts: dict[str, str]) -> bytes:
    """The file."""
    import onnx

    found = _translated(program, target)
    name_nodes(found.model.graph)
    model = found.model_proto
    name_sizes(model)
    _tell_fixed_sizes(model)
    model.producer_name, model.producer_version = "repq_fx", __version__
    onnx.helper.set_model_props(model, facts)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # Of several kinds, by what is wrong.
        raise ExportError(f"onnx: what torch wrote is not valid: {error}") from error
    content: bytes = model.SerializeToString()
    return content


def _translated(program: ExportedProgram, target: Target) -> Any:
    """The ``torch.onnx.ONNXProgram`` of a program."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of exporters, about themselves.
            return torch.onnx.export(
                program, dynamo=True, opset_version=target.opset, verbose=False,
                custom_translation_table=translations_for(target),
            )  # fmt: skip
    except Exception as error:  # Its own wraps whatever went wrong, with a page of advice.
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).strip().partition("\n")[0]
        raise ExportError(f"onnx: torch cannot write the graph as ONNX: {reason}") from error


def _facts_of(quantized: GraphModule, target: Target) -> dict[str, str]:
    """What the file tells of itself."""
    layers = [module for module in quantized.modules() if isinstance(module, ReferenceLayer)]
    return {
        "repq_fx.version": __version__,
        "repq_fx.target": target.name,
        "repq_fx.quantized_layers": str(len(layers)),
        "repq_fx.split_layers": str(sum(layer.is_split for layer in layers)),
        "repq_fx.weight_bits": ",".join(map(str, sorted({layer.bits for layer in layers}))),
    }


def _tell_split_layers(quantized: GraphModule, target: Target) -> None:
    """Log how many layers will run in float for the sake of their weights."""
    layers = [module for module in quantized.modules() if isinstance(module, ReferenceLayer)]
    count = sum(layer.is_split for layer in layers)
    if count:
        _LOGGER.warning(
            "onnx: %d of %d layers have a weight in two parts, which %s computes in float; "
            "Scheme(weight=PerChannel()) leaves all in one.",
            count, len(layers), target.name,
        )  # fmt: skip


def _tell_fixed_sizes(model: Any) -> None:
    """Log which sizes of inputs have to be as in the example."""
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        shown = [size.dim_param or size.dim_value for size in sizes]
        free_axes = (0, 2, 3) if len(shown) == 4 else (0,)
        if any(isinstance(shown[axis], int) for axis in free_axes if axis < len(shown)):
            _LOGGER.warning("onnx: input %r has to be of %s", value.name, shown)


def _require_reference(quantized: GraphModule) -> None:
    if not isinstance(quantized, GraphModule):
        raise TypeError(
            f"onnx: expected what convert or quantize returned, got {type(quantized).__name__}."
        )
    modules = list(quantized.modules())
    if any(isinstance(module, Int8Program) for module in modules):
        raise ExportError(
            "onnx: the model is lowered to integer programs, which have no ONNX form; convert or "
            'quantize it with backend="reference" (repq quantize --backend reference).'
        )
    if not any(isinstance(module, ReferenceLayer) for module in modules):
        raise ExportError("onnx: the model has no quantized layer.")
    tensors = {id(tensor): tensor for tensor in quantized.state_dict().values()}.values()
    size = sum(tensor.nbytes for tensor in tensors)
    if size > _LARGEST:
        raise ExportError(f"onnx: the model holds {size / 2**30:.1f} GiB; 2 fit into one file.")
