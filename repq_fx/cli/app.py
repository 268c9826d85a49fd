"""The command group, and the one place where errors become a sentence and an exit code."""

import sys

import typer
from rich.console import Console

from ..errors import RepqError
from . import bench, demo, fuse, predict, quantize, val

app = typer.Typer(
    name="repq",
    help="INT8 quantization of re-parameterized networks.",
    no_args_is_help=True,
    add_completion=False,
)
app.command("demo")(demo.demo)
app.command("quantize")(quantize.quantize)
app.command("fuse")(fuse.fuse)
app.command("predict")(predict.predict)
app.command("val")(val.val)
app.command("bench")(bench.bench)


def main() -> None:
    """Run the command; bad input ends in one sentence on standard error and exit code 1."""
    try:
        app()
    except (RepqError, ValueError, TypeError, OSError) as error:
        Console(stderr=True, soft_wrap=True).print(f"repq: {error}", style="red", markup=False)
        sys.exit(1)
