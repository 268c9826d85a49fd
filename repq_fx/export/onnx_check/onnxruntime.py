"""What ONNX Runtime makes of a file: its optimized model, opened."""

import re
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from .operator_use import OperatorUse, is_product

PACKAGES = ("onnx", "onnxruntime")
"""What has to be installed."""

# They only move or convert numbers; or there is one for each grid.
_UNLISTED = frozenset(
    {"Cast", "Concat", "Constant", "DequantizeLinear", "Expand", "Flatten", "Gather", "Identity",
     "QLinearConcat", "QuantizeLinear", "ReorderInput", "ReorderOutput", "Reshape", "Shape",
     "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)  # fmt: skip
_INTEGER_OPERATORS = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger", "QuantizeLinear")
# Of the copy of a layer that reads channels last.
_COPY = re.compile(r"_token_\d+$")


def operators_in_onnxruntime(path: Path) -> list[OperatorUse]:
    """One entry for each operator that computes, in the order in which they run."""
    graph = _Graph(_optimized(path).graph)
    return [graph.use_of(node) for node in graph.nodes if node.op_type not in _UNLISTED]


def _optimized(path: Path) -> Any:
    """The model that runs, as an ``onnx.ModelProto``."""
    import onnx
    import onnxruntime

    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder, "optimized.onnx"))
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # It warns that such a file is for this processor only.
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


class _Graph:
    """An optimized graph, and questions about its nodes."""

    def __init__(self, graph: Any) -> None:
        self.nodes = list(graph.node)
        self._maker = {output: node for node in self.nodes for output in node.output}
        self._readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.nodes:
            for value in node.input:
                self._readers[value].append(node)
        self._outputs = {value.name for value in graph.output}
        self._types = {tensor.name: tensor.data_type for tensor in graph.initializer}
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._types[value.name] = value.type.tensor_type.elem_type

    def use_of(self, node: Any) -> OperatorUse:
        """How `node` is computed."""
        product = is_product(node.op_type)
        integer = _is_integer_operator(node) or self._is_integer(node.input[0])
        reason = "" if integer else self._why_float(node) if product else self._what_is_read(node)
        return OperatorUse(_COPY.sub("", node.name), node.op_type, product, integer, reason)

    def _is_integer(self, value: str) -> bool:
        import onnx

        if value in self._types:
            return self._types[value] in (onnx.TensorProto.UINT8, onnx.TensorProto.INT8)
        maker = self._maker.get(value)  # Of values between operators of its own it notes no types.
        if maker is None or maker.op_type == "DequantizeLinear":
            return False
        return _is_integer_operator(maker) or self._is_integer(maker.input[0])

    def _what_is_read(self, node: Any) -> str:
        maker = self._maker.get(node.input[0])
        if maker is None:
            return "reads a float input of the network"
        if maker.op_type != "DequantizeLinear":
            return f"reads floats of {maker.op_type}"
        return "ONNX Runtime has no integer operator for it here"

    def _why_float(self, node: Any) -> str:
        """Of a product, which of the conditions for an integer one fails."""
        for value, what in zip(node.input[:2], ("input", "weight"), strict=False):
            maker = self._maker.get(value)
            if maker is None or maker.op_type != "DequantizeLinear":
                return f"its {what} is not dequantized"
            if not self._is_integer(maker.input[0]):
                return f"its {what} has more than 8 bits"
        if len(node.input) > 3:
            return "another tensor is added to it in float"
        readers = [reader.op_type for reader in self._readers[node.output[0]]]
        if node.output[0] in self._outputs:
            return "its output leaves the network in float"
        if readers != ["QuantizeLinear"]:
            return f"its output is not quantized, but read by {', '.join(sorted(set(readers)))}"
        return "ONNX Runtime has no integer operator for it here"


def _is_integer_operator(node: Any) -> bool:
    return bool(node.op_type.startswith(_INTEGER_OPERATORS))
