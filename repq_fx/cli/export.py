"""`repq export`: a quantized model as an ONNX file, and what its runtime makes of that."""

from pathlib import Path
from typing import Annotated, TypeAlias

import torch
import typer
from torch import Tensor
from torch.fx import GraphModule

from .. import export as exporting
from .. import integrations
from ..analysis.report import Column, Columns, Report, Row, print_table
from ..errors import ExportError, RepqError
from ..export import OperatorUse
from .outputs import require_writable
from .stages import Stages

_File: TypeAlias = Annotated[
    Path, typer.Argument(help="FILE.repq of repq quantize --backend reference")
]
_Target: TypeAlias = Annotated[str, typer.Option(help="onnxruntime or openvino")]
_Out: TypeAlias = Annotated[Path, typer.Option(help="The ONNX file")]
_Shape: TypeAlias = Annotated[
    str | None,
    typer.Option(help="As 1,3,224,224", show_default="two images of 224 pixels"),
]
_Strict: TypeAlias = Annotated[
    bool, typer.Option("--strict", help="Fail if a convolution or matrix product is in float")
]
_COLUMNS: Columns = (
    Column("node", "node"),
    Column("operator", "runs as"),
    Column("arithmetic", "in"),
    Column("reason", "reason"),
)


def export(
    file: _File,
    out: _Out,
    target: _Target = "onnxruntime",
    input_shape: _Shape = None,
    strict: _Strict = False,
) -> None:
    """Write FILE as ONNX for a runtime, and list what that computes with integers.

    Where the runtime is not installed, the file is written and not checked.
    """
    require_writable(out, "--out", ".onnx")
    example, stages = _example(input_shape), Stages()
    quantized = integrations.load(file)
    if not isinstance(quantized, GraphModule):
        raise RepqError(f"{str(file)!r} holds a detector; only networks can be exported.")
    with stages.stage("write", f"write ONNX for {target}"):
        exporting.onnx(quantized, out, target=target, example_inputs=example)
    try:
        with stages.stage("check", f"let {target} optimize it"):
            uses = exporting.check_onnx(out, target)
    except ExportError as error:  # The runtime is not installed.
        if strict:
            raise
        stages.warn(f"not checked: {error}")
        uses = []
    if uses:
        rows = [_row(use) for use in uses]
        print_table(Report(f"{out} in {target}: {_summary(uses)}", _COLUMNS, rows))
    stages.end(out)
    in_float = [use for use in uses if use.is_product and not use.is_integer]
    if strict and in_float:
        raise RepqError(
            f"--strict: {len(in_float)} convolutions or matrix products are in float, "
            f"first {in_float[0].node!r}: {in_float[0].reason}."
        )


def _example(shape: str | None) -> Tensor | None:
    """Noise of the shape that the user gives."""
    if shape is None:
        return None
    sizes = shape.split(",")
    if not all(size.strip().isdecimal() and int(size) for size in sizes):
        raise RepqError(f"--input-shape must be whole numbers separated by commas, got {shape!r}.")
    return torch.randn(*map(int, sizes), generator=torch.Generator().manual_seed(0))


def _row(use: OperatorUse) -> Row:
    arithmetic = "integer" if use.is_integer else "float"
    return Row(
        use.node, operator=use.operator, arithmetic=arithmetic, reason=use.reason or None
    )  # fmt: skip


def _summary(uses: list[OperatorUse]) -> str:
    products = [use for use in uses if use.is_product]
    integer = sum(use.is_integer for use in products)
    others = sum(not (use.is_product or use.is_integer) for use in uses)
    return (
        f"{integer} of {len(products)} convolutions and matrix products in integers, "
        f"{others} other operators in float"
    )
