"""`repq fuse`: merge a model's branches, show what was merged, write the merged weights."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table
from safetensors.torch import save as safetensors_bytes

from .. import analysis, export, passes
from ..errors import RepqError
from .measurements import float_size
from .model_source import build_model, load_weights
from .report import wide_console


def fuse(
    model: Annotated[str, typer.Argument(help="package.module:factory or timm:NAME")],
    out: Annotated[Path, typer.Option(help="Merged weights, .safetensors")],
    weights: Annotated[Path | None, typer.Option(help="State dict, .safetensors or .pt")] = None,
    input_shape: Annotated[str | None, typer.Option(help="As 1,3,224,224")] = None,
) -> None:
    """Merge the parallel branches of MODEL and write the deploy-form weights."""
    network, preprocessing = build_model(model)
    if weights is not None:
        load_weights(network, weights)
    shape: tuple[int, ...]
    if input_shape is None:
        shape = (1, len(preprocessing.mean), preprocessing.size, preprocessing.size)
    else:
        shape = _shape(input_shape)
    example = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    merged, regions = passes.merge_with_report(network, example)
    state = {name: value.contiguous() for name, value in merged.state_dict().items()}
    export.write_atomically(out, safetensors_bytes(state, {"format": "pt"}))
    _print_regions(model, regions)
    with torch.inference_mode():
        sqnr = analysis.sqnr_db(network(example), merged(example))
    typer.echo(
        f"wrote {out}: {float_size(network) / 1000:.0f} KB -> {float_size(merged) / 1000:.0f} KB, "
        f"output equal to {sqnr:.0f} dB"
    )


def _shape(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise RepqError(
            f"--input-shape must be whole numbers separated by commas, got {text!r}."
        ) from error


def _print_regions(model: str, regions: list[passes.Region]) -> None:
    table = Table(title=f"Linear regions of {model}", title_justify="left")
    for heading in ("region", "branches", "layers", "parameters", "multiplications", "result"):
        table.add_column(heading)
    for region in regions:
        table.add_row(
            region.name,
            str(region.branches),
            str(region.convs),
            _change(region.parameters_before, region.parameters_after),
            _change(region.multiply_adds_before, region.multiply_adds_after),
            "merged" if region.merged else f"left: {region.reason}",
        )
    wide_console().print(table)


def _change(before: int, after: int) -> str:
    return f"{before:,}" if before == after else f"{before:,} -> {after:,}"
