"""Rows of results: a table for people, JSON of one schema for programs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table

from ..._atomic_file import write_atomically
from .. import LatencyStatistics, StepTime
from .environment import environment
from .json_value import json_value

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Row:
    """What was measured of one model; None where it was not.

    Attributes:
        name: The model, and in what it ran.
        top1_percent: Top-1 accuracy.
        map50_95_percent: Of a detector, mean average precision over IoU 0.5 to 0.95.
        map50_percent: The same at IoU 0.5.
        agreement_percent: Images for which top-1 is that of FP32.
        sqnr_db: SQNR of the output against FP32 in decibels.
        size_bytes: Size of the model file.
        latency_ms: Time of one forward pass.
        speedup: Median latency of the float model over this one's.
        quantize_seconds: Time to quantize.
        quantize_peak_bytes: The most memory that quantizing held above what was held before.
        slow_steps: Of a quantized network: the slowest steps if it is slower than FP32, and the
            programs that run in PyTorch; empty if there is nothing to tell.
        float_operations: What of a quantized network runs in float, and how often.
        float_layers: Which convolutions and linear layers do.
        problem: Why there are no numbers.
    """

    name: str
    top1_percent: float | None = None
    map50_95_percent: float | None = None
    map50_percent: float | None = None
    agreement_percent: float | None = None
    sqnr_db: float | None = None
    size_bytes: int | None = None
    latency_ms: LatencyStatistics | None = None
    speedup: float | None = None
    quantize_seconds: float | None = None
    quantize_peak_bytes: int | None = None
    slow_steps: Sequence[StepTime] | None = None
    float_operations: Mapping[str, int] | None = None
    float_layers: tuple[str, ...] | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ImageFormat:
    """What the model gets of an image; None for what is the model's own affair.

    Attributes:
        channels: How many.
        height_pixels: The size.
        width_pixels: The same.
        mean: Subtracted from each channel of an image between 0 and 1.
        std: What is then divided by.
    """

    channels: int | None = None
    height_pixels: int | None = None
    width_pixels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @staticmethod
    def of(
        shape: Sequence[int],
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> "ImageFormat":
        """The format of images ``[channels, height, width]``."""
        # Inputs with fewer axes are no images.
        channels, height, width = (*shape, None, None, None)[:3]
        return ImageFormat(channels, height, width, mean, std)


@dataclass(frozen=True)
class Timing:
    """How latency was measured: in so many rounds, by turns."""

    batch_size: int
    threads: int
    rounds: int = 30


@dataclass(frozen=True)
class Protocol:
    """How rows were measured; None where nothing was.

    Attributes:
        data: Where the images are from; None for noise.
        eval_data: Where those are from that evaluate.
        calibration_images: How many calibrate.
        evaluation_images: How many evaluate.
        batch_size: Images in one forward pass, of calibration and evaluation.
        image: What the model gets of each.
        latency: How it was timed.
    """

    data: str | None = None
    eval_data: str | None = None
    calibration_images: int | None = None
    evaluation_images: int | None = None
    batch_size: int | None = None
    image: ImageFormat = ImageFormat()
    latency: Timing | None = None


@dataclass(frozen=True)
class Report:
    """What a command found out; its file has these keys for every command.

    Attributes:
        command: Of `repq`.
        model: As the command line named it.
        protocol: How the rows were measured.
        rows: What was measured.
        weights: File of the weights.
        output: File that the command wrote.
        scheme: Of the quantization.
        reconstruction: Method that learned, if one did.
        backend: What the quantized model runs on.
        stage_seconds: How long each part of the work took.
        warnings: What to know before relying on the rows.
        regions: What was merged, or why not.
        objects: What was found in images.
    """

    command: str
    model: str
    protocol: Protocol
    rows: Sequence[Row] = ()
    weights: Path | None = None
    output: Path | None = None
    scheme: Any = None
    reconstruction: Any = None
    backend: str | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    regions: Sequence[Mapping[str, Any]] | None = None
    objects: Sequence[Mapping[str, Any]] | None = None

    def write(self, path: Path) -> None:
        """Write the report as JSON, atomically."""
        settings = vars(self) | {"protocol": asdict(self.protocol)}
        rows = settings.pop("rows")
        write_json(path, rows, schema_version=SCHEMA_VERSION, **settings)


def write_json(path: Path, rows: Sequence[Any], **context: Any) -> None:
    """Write `rows` (dataclasses), `context` and the environment of the measurement, atomically."""
    content = {**context, "environment": environment(), "rows": [asdict(row) for row in rows]}
    write_atomically(path, (json.dumps(json_value(content), indent=2) + "\n").encode())


def milliseconds(latency: LatencyStatistics) -> str:
    """Median and quartiles to three digits."""
    low, median, high = map(
        _three_digits, (latency.lower_quartile, latency.median, latency.upper_quartile)
    )
    return f"{median} ({low}-{high})"


_COLUMNS = (
    ("top1_percent", "top-1\n%", "{:.2f}".format),
    ("map50_95_percent", "mAP50-95\n%", "{:.2f}".format),
    ("map50_percent", "mAP50\n%", "{:.2f}".format),
    ("agreement_percent", "agrees\n%", "{:.1f}".format),
    ("sqnr_db", "SQNR\ndB", "{:.1f}".format),
    ("size_bytes", "size\nMB", lambda size: f"{size / 1e6:.2f}"),
    ("latency_ms", "latency ms\n(quartiles)", milliseconds),
    ("speedup", "speed-\nup", "{:.2f}".format),
    ("quantize_seconds", "made\nin s", "{:.1f}".format),
)


def print_table(title: str, rows: Sequence[Row]) -> None:
    """One line for each row, without the columns that nothing was measured for; then remarks."""
    columns = [c for c in _COLUMNS if any(getattr(row, c[0]) is not None for row in rows)]
    table = new_table({"model": False, **{heading: True for _, heading, _ in columns}})
    for row in rows:
        values = [(getattr(row, name), shown) for name, _, shown in columns]
        table.add_row(row.name, *("-" if v is None else shown(v) for v, shown in values))
    show(title, table)
    console = wide_console()
    for row in rows:
        for remark in _remarks(row):
            console.print(f"{row.name}: {remark}", markup=False, highlight=False, soft_wrap=True)


def _remarks(row: Row) -> Iterator[str]:
    """What no column holds."""
    if row.problem is not None:
        yield row.problem
    if row.float_operations is not None:
        counts = (f"{name} ({count})" for name, count in row.float_operations.items())
        yield f"in float {', '.join(counts) or 'nothing'}"
    if row.quantize_peak_bytes is not None:
        yield f"quantizing held {row.quantize_peak_bytes / 1e6:.0f} MB more at most"
    if row.slow_steps:
        yield f"slow: {', '.join(map(str, row.slow_steps))}"
    if row.float_layers:
        yield f"{len(row.float_layers)} layers in float: {', '.join(row.float_layers)}"


def new_table(headings: Mapping[str, bool]) -> Table:
    """A table without lines between columns, which 80 characters hold.

    Args:
        headings: For each column whether it holds numbers; they are never cut or broken.
    """
    table = Table(box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for heading, are_numbers in headings.items():
        table.add_column(
            heading, justify="right" if are_numbers else "left", no_wrap=are_numbers,
            overflow="fold", vertical="bottom",
        )  # fmt: skip
    return table


def show(title: str, table: Table) -> None:
    """Print a table below its title, which may be wider."""
    console = wide_console()
    console.print(f"\n{title}\n", style="italic", markup=False, highlight=False)
    console.print(table)


def wide_console() -> Console:
    """The terminal; a file or a pipe has no width, and gets lines that are not broken."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def _three_digits(number: float) -> str:
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f}"
