"""How the operators of grids become ONNX's, with the scales and zero points that they have.

Torch's own translations decompose some of them, and know no grid of less than 8 bits. It calls a
translation by the names of the operator's parameters, and writes on it, so it must be a function.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ...lowering.grids import DEQUANTIZE, QUANTIZE
from .layers import DEQUANTIZE_ROWS
from .targets import Narrowing, Target

_Translation: TypeAlias = Callable[..., Any]


def translations_for(target: Target) -> dict[Callable[..., Any], _Translation]:
    """What `torch.onnx.export` writes for each operator of grids."""
    import onnxscript.onnx_opset

    operators = onnxscript.onnx_opset.all_opsets["", target.opset]
    return {
        QUANTIZE: _quantize(operators, target.narrowing),
        DEQUANTIZE: _dequantize(operators),
        DEQUANTIZE_ROWS: _dequantize_rows(operators),
    }


def _quantize(operators: Any, narrowing: Narrowing) -> _Translation:
    def quantize(
        input: Any, scale: float, zero_point: int, quant_min: int, quant_max: int, dtype: int
    ) -> Any:
        kind, ends = _numpy_type(dtype), (quant_min, quant_max)
        is_narrow = ends != (np.iinfo(kind).min, np.iinfo(kind).max)
        values = input
        if is_narrow and narrowing is Narrowing.VALUES:
            reals = [(end - zero_point) * scale for end in ends]
            values = operators.Clip(input, *(_constant(operators, x, np.float32) for x in reals))
        step, zero = _constant(operators, scale, np.float32), _constant(operators, zero_point, kind)
        levels = operators.QuantizeLinear(values, step, zero)
        if is_narrow and narrowing is Narrowing.LEVELS:
            levels = operators.Clip(levels, *(_constant(operators, end, kind) for end in ends))
        return levels

    return quantize


def _dequantize(operators: Any) -> _Translation:
    def dequantize(
        input: Any,
        scale: float,
        zero_point: int,
        quant_min: int,
        quant_max: int,
        dtype: int,
        out_dtype: int | None = None,
    ) -> Any:
        zero = _constant(operators, zero_point, _numpy_type(dtype))
        return operators.DequantizeLinear(input, _constant(operators, scale, np.float32), zero)

    return dequantize


def _dequantize_rows(operators: Any) -> _Translation:
    def dequantize_rows(
        input: Any,
        scales: Any,
        zero_points: Any,
        axis: int,
        quant_min: int,
        quant_max: int,
        dtype: int,
        out_dtype: int | None = None,
    ) -> Any:
        zeros = _constant(operators, [0] * scales.shape[0], _numpy_type(dtype))
        return operators.DequantizeLinear(input, scales, zeros, axis=axis)

    return dequantize_rows


def _constant(operators: Any, value: Any, kind: Any) -> Any:
    import onnx_ir

    return operators.Constant(value=onnx_ir.tensor(np.array(value, kind)))


def _numpy_type(dtype: int) -> Any:
    """The integer type of numpy that ONNX numbers so."""
    import onnx_ir

    return onnx_ir.DataType(dtype).numpy()
