"""The command group, and the one place where errors become a sentence and an exit code."""

import sys
from typing import Annotated

import torch
import typer
from rich.console import Console

from .. import ops
from .._version import __version__
from ..errors import RepqError
from . import bench, demo, export, fuse, predict, quantize, val

# In Markdown, paragraphs of a docstring are filled to the width of the terminal.
app = typer.Typer(
    name="repq", no_args_is_help=True, add_completion=False, rich_markup_mode="markdown"
)
app.command("demo")(demo.demo)
app.command("quantize")(quantize.quantize)
app.command("export")(export.export)
app.command("fuse")(fuse.fuse)
app.command("predict")(predict.predict)
app.command("val")(val.val)
app.command("bench")(bench.bench)


def _print_version(wanted: bool) -> None:  # noqa: FBT001  (as typer calls it)
    if wanted:
        kernels = " and ".join(device.upper() for device in ops.compiled_devices())
        typer.echo(
            f"repq_fx {__version__}, torch {torch.__version__}, "
            + (f"compiled kernels for {kernels}" if kernels else "no compiled kernels (slow)")
        )
        raise typer.Exit


@app.callback()
def repq(
    _: Annotated[
        bool,
        typer.Option(
            "--version", help="Show version and kernels, and exit.", callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:  # fmt: skip
    """INT8 quantization of re-parameterized networks."""


def main() -> None:
    """Run the command; bad input ends in one sentence on standard error and exit code 1."""
    try:
        app()
    except (RepqError, ValueError, TypeError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(
            f"repq: {_sentence(error)}", style="red", markup=False, highlight=False
        )
        sys.exit(1)


def _sentence(error: Exception) -> str:
    """Without the number of an `OSError`, and with the file that it is about."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{str(error.filename)!r}: {error.strerror}."
    return str(error)
