"""What OpenVINO makes of a file: its runtime model on the CPU, opened."""

from pathlib import Path
from typing import Any

from .operator_use import OperatorUse, is_product

PACKAGES = ("openvino",)
"""What has to be installed."""

# They only move or convert numbers.
_UNLISTED = frozenset(
    {"Broadcast", "Concatenation", "Const", "Convert", "Crop", "FakeQuantize", "Gather", "Input",
     "Output", "Reorder", "Reshape", "ShapeOf", "Split", "StridedSlice", "Transpose"}
)  # fmt: skip
_INTEGERS = frozenset({"u8", "i8"})


def operators_in_openvino(path: Path) -> list[OperatorUse]:
    """One entry for each operator that computes, in the order in which they run."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    operators = compiled.get_runtime_model().get_ordered_ops()
    return [_use_of(entry) for entry in operators if _fact(entry, "layerType") not in _UNLISTED]


def _use_of(entry: Any) -> OperatorUse:
    kind, precision = _fact(entry, "layerType"), _fact(entry, "runtimePrecision")
    name = entry.get_friendly_name().partition("/WithoutBiases")[0]
    is_integer = precision in _INTEGERS
    reason = "" if is_integer else f"runs in {precision}, {_what_is_read(entry)}"
    return OperatorUse(name, kind, is_product(kind), is_integer, reason)


def _what_is_read(entry: Any) -> str:
    sources = [value.get_source_output().get_node() for value in entry.inputs()]
    if not sources:
        return "reads nothing"
    precision = _fact(sources[0], "outputPrecisions").split(",")[0]
    return f"reads {precision} of {sources[0].get_friendly_name()}"


def _fact(entry: Any, name: str) -> str:
    facts = entry.get_rt_info()
    return str(facts[name].astype(str)) if name in facts else ""
