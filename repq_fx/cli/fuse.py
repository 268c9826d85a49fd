"""`repq fuse`: merge a model's branches, show what was merged, write the merged weights."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import save as safetensors_bytes

from .. import analysis, export, passes
from ..analysis.report import (
    MODEL_COLUMNS,
    Column,
    Columns,
    ImageFormat,
    Protocol,
    Report,
    Row,
    Session,
    float_size,
    print_table,
    scores_of,
    write,
)
from ..errors import RepqError
from .image_data import Preprocessing
from .model_source import build_model, load_weights, require_runs
from .options import Weights
from .outputs import report_path, require_writable_with_report
from .stages import Stages


def fuse(
    model: Annotated[str, typer.Argument(help="package.module:factory or timm:NAME")],
    out: Annotated[Path, typer.Option(help="Merged weights, .safetensors; the report gets .json")],
    weights: Weights = None,
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
    shape = _shape(input_shape, preprocessing)
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    require_runs(network, example, "--input-shape")
    with stages.stage("merge", "merge branches"):
        merged, regions = passes.merge_with_report(network, example)
    state = {name: value.contiguous() for name, value in merged.state_dict().items()}
    export.write_atomically(out, safetensors_bytes(state, {"format": "pt"}))
    title = f"Linear regions of {model}"
    print_table(Report(title, _REGION_COLUMNS, [_row(region) for region in regions]))
    reference, outputs = (scores_of(net, [example]) for net in (network, merged))
    before, after = (float_size(net) for net in (network, merged))
    sqnr_db = analysis.sqnr_db(reference, outputs)
    rows = [
        Row("as it was", size_bytes=before),
        Row("merged", size_bytes=after, sqnr_db=sqnr_db),
    ]
    session = Session(
        "fuse", model, Protocol(image=ImageFormat.of(shape[1:])), weights=weights, output=out,
        regions=[asdict(region) | {"merged": region.merged} for region in regions],
        stage_seconds=stages.seconds,
    )  # fmt: skip
    write(Report(title, MODEL_COLUMNS, rows, session.context()), report_path(out))
    typer.echo(f"{before / 1e6:.2f} MB -> {after / 1e6:.2f} MB, output equal to {sqnr_db:.0f} dB")
    stages.end(out, report_path(out))


def _shape(text: str | None, preprocessing: Preprocessing) -> tuple[int, ...]:
    if text is None:
        return (1, len(preprocessing.mean), preprocessing.size, preprocessing.size)
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RepqError(
            f"--input-shape must be whole numbers separated by commas, got {text!r}."
        ) from error


def _row(region: passes.Region) -> Row:
    return Row(
        region.name,
        branches=region.branches,
        layers=region.convs,
        parameters=(region.parameters_before, region.parameters_after),
        multiply_adds=(region.multiply_adds_before, region.multiply_adds_after),
        result="merged" if region.merged else f"left: {region.reason}",
    )


def _change(counts: tuple[int, int]) -> str:
    before, after = counts
    return _short(before) if before == after else f"{_short(before)}→{_short(after)}"


def _short(count: int) -> str:
    """Three digits and the unit: 164k, 2.62M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            digits = 2 if count < 10 * unit else 1 if count < 100 * unit else 0
            return f"{count / unit:.{digits}f}{name}"
    return str(count)


_REGION_COLUMNS: Columns = (
    Column("name", "region"),
    Column("branches", "branches"),
    Column("layers", "layers"),
    Column("parameters", "parameters", _change),
    Column("multiply_adds", "MACs", _change),
    Column("result", "result"),
)
