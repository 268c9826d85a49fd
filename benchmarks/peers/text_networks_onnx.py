"""Published ONNX networks as torch modules: what onnx2torch leaves to do."""

import operator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node


def fold(content: bytes, shape: tuple[int, ...]) -> bytes:
    """The ONNX network for inputs of one shape, with nothing left that only computes shapes.

    ONNX Runtime's basic optimizations do that: constants become initializers, and batch norms and
    constants behind convolutions become a part of them.
    """
    import onnx
    import onnxruntime

    model = onnx.load_from_string(content)
    graph = model.graph
    for axis, size in zip(graph.input[0].type.tensor_type.shape.dim, shape, strict=True):
        axis.dim_value = size
    # Inferred shapes with one name for sizes that differ would contradict the new ones.
    del graph.value_info[:]
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3  # It warns that an optimized file is for this machine.
    with TemporaryDirectory() as folder:
        path = Path(folder, "folded.onnx")
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"],
            disabled_optimizers=["SliceConcatToSpaceToDepthFusion"],  # onnx2torch has no such op.
        )  # fmt: skip
        return path.read_bytes()


def to_torch(folded: bytes, example: Tensor) -> GraphModule:
    """The network in evaluation mode, for any number of images of the size of `example`.

    Args:
        folded: From `fold`.
        example: One image ``[1, C, H, W]`` of its shape.
    """
    import onnx
    import onnx2torch

    converted = onnx2torch.convert(onnx.load_from_string(folded)).eval()
    make_plain(converted, example)
    return converted


def make_plain(converted: GraphModule, example: Tensor) -> None:
    """Write onnx2torch's reshapes, slices and resizes as the functions of torch that they are.

    Its own modules read shapes, bounds and factors from tensors, which no tracer can follow.
    Reshapes of one image become those of any number: the images are the first axis, alone or
    together with others.
    """
    shapes = _Shapes(converted)
    with torch.no_grad():
        shapes.run(example)
    graph = converted.graph
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        write = _PLAIN.get(type(converted.get_submodule(str(node.target))).__name__)
        if write is None:
            continue
        with graph.inserting_before(node):
            node.replace_all_uses_with(write(converted, node, shapes.of[node]))
        graph.erase_node(node)
    graph.eliminate_dead_code()
    converted.delete_all_unused_submodules()
    graph.lint()
    converted.recompile()


class _Shapes(Interpreter):
    """Runs a graph and notes the shapes of its tensors."""

    def __init__(self, module: GraphModule):
        super().__init__(module)
        self.of: dict[Node, torch.Size] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.of[n] = result.shape
        return result


def _constants(module: GraphModule, node: Node) -> list[list[Any]]:
    """The values of the node's inputs behind its first: initializers all, or none that is known."""
    constants = []
    for argument in (*node.args[1:], *node.kwargs.values()):
        if not isinstance(argument, Node) or argument.op != "get_attr":
            raise ValueError(f"{node.name} reads {argument}, which is no initializer.")
        constants.append(module.get_buffer(str(argument.target)).tolist())
    return constants


def _reshape(module: GraphModule, node: Node, shape: torch.Size) -> Node:
    del module
    return node.graph.call_method("reshape", (node.args[0], -1, *shape[1:]))


def _slice(module: GraphModule, node: Node, shape: torch.Size) -> Node:
    starts, ends, *rest = _constants(module, node)
    axes = rest[0] if rest else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 else [1] * len(starts)
    index = [slice(None)] * len(shape)
    for axis, *bounds in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(*bounds)  # As in Python, an end may lie behind the last entry.
    return node.graph.call_function(operator.getitem, (node.args[0], tuple(index)))


def _resize(module: GraphModule, node: Node, shape: torch.Size) -> Node:
    resize = module.get_submodule(str(node.target))
    scales = _constants(module, node)[1]
    if resize.onnx_mode != "nearest" or len(scales) != len(shape):
        raise ValueError(f"{node.name} resizes otherwise than by factors to the nearest.")
    options = {"scale_factor": scales[2:], "mode": "nearest"}
    return node.graph.call_function(F.interpolate, (node.args[0],), options)


_PLAIN = {"OnnxReshape": _reshape, "OnnxSlice": _slice, "OnnxResize": _resize}
