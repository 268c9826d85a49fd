"""`repq fuse`: merge a model's branches, show what was merged, write the merged weights."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save as safetensors_bytes

from .. import analysis, export, passes
from ..analysis.report.rows import ImageFormat, Protocol, Report, Row, new_table, show
from ..errors import RepqError
from .measurements import float_size, scores_of
from .model_source import build_model, load_weights, require_runs
from .outputs import report_path, require_writable_with_report
from .stages import Stages


def fuse(
    model: Annotated[str, typer.Argument(help="package.module:factory or timm:NAME")],
    out: Annotated[Path, typer.Option(help="Merged weights, .safetensors; the report gets .json")],
    weights: Annotated[
        Path | None,
        typer.Option(help="State dict, .safetensors or .pt", show_default="as MODEL builds it"),
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option(help="As 1,3,224,224", show_default="the model's own, or 1,3,224,224"),
    ] = None,
) -> None:
    """Merge the parallel branches of MODEL and write the deploy-form weights."""
    require_writable_with_report(out, "--out", ".safetensors")
    stages = Stages()
    network, preprocessing = build_model(model)
    if weights is not None:
        load_weights(network, weights)
    shape: tuple[int, ...]
    if input_shape is None:
        shape = (1, len(preprocessing.mean), preprocessing.size, preprocessing.size)
    else:
        shape = _shape(input_shape)
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    require_runs(network, example, "--input-shape")
    with stages.stage("merge", "merge branches"):
        merged, regions = passes.merge_with_report(network, example)
    state = {name: value.contiguous() for name, value in merged.state_dict().items()}
    export.write_atomically(out, safetensors_bytes(state, {"format": "pt"}))
    _print_regions(model, regions)
    reference, outputs = (scores_of(net, [example], label="compare") for net in (network, merged))
    rows = [
        Row("as it was", size_bytes=float_size(network)),
        Row("merged", size_bytes=float_size(merged), sqnr_db=analysis.sqnr_db(reference, outputs)),
    ]
    found = [asdict(region) | {"merged": region.merged} for region in regions]
    protocol = Protocol(image=ImageFormat.of(shape[1:]))
    report = report_path(out)
    Report(
        "fuse", model, protocol, rows, weights=weights, output=out, regions=found,
        stage_seconds=stages.seconds,
    ).write(report)  # fmt: skip
    before, after = (f"{row.size_bytes / 1e6:.2f} MB" for row in rows if row.size_bytes is not None)
    typer.echo(f"{before} -> {after}, output equal to {rows[1].sqnr_db:.0f} dB")
    stages.end(out, report)


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RepqError(
            f"--input-shape must be whole numbers separated by commas, got {text!r}."
        ) from error


def _print_regions(model: str, regions: Sequence[passes.Region]) -> None:
    headings = {"region": False, "branches": True, "layers": True, "parameters": True,
                "MACs": True, "result": False}  # fmt: skip
    table = new_table(headings)
    for region in regions:
        table.add_row(
            region.name,
            str(region.branches),
            str(region.convs),
            _change(region.parameters_before, region.parameters_after),
            _change(region.multiply_adds_before, region.multiply_adds_after),
            "merged" if region.merged else f"left: {region.reason}",
        )
    show(f"Linear regions of {model}", table)


def _change(before: int, after: int) -> str:
    return _short(before) if before == after else f"{_short(before)}→{_short(after)}"


def _short(count: int) -> str:
    """Three digits and the unit: 164k, 2.62M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            digits = 2 if count < 10 * unit else 1 if count < 100 * unit else 0
            return f"{count / unit:.{digits}f}{name}"
    return str(count)
