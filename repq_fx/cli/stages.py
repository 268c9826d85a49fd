"""What a command says while it works, kept for its report."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from ..analysis.peak_memory import PeakMemory


def shows_bars() -> bool:
    """Whether standard error is a terminal; a file or a pipe gets no bars."""
    return sys.stderr.isatty()


class Stages:
    """Lines of what is being done, each after the seconds since the start, and warnings.

    Attributes:
        seconds: How long each stage took, by name.
        peak_bytes: The most memory that each held above what was held before; see `PeakMemory`.
        warnings: Whole sentences.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_bytes: dict[str, int | None] = {}
        self.warnings: list[str] = []
        self._start = time.perf_counter()

    @contextmanager
    def stage(self, name: str, doing: str) -> Iterator[None]:
        """Say what is being done within a ``with`` statement, and keep what it takes."""
        self.say(doing)
        memory, start = PeakMemory(), time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        self.peak_bytes[name] = memory.bytes_above_start()

    def say(self, text: str) -> None:
        """One line, after the seconds since the start."""
        typer.echo(f"{time.perf_counter() - self._start:6.1f} s  {text}")

    def warn(self, sentence: str) -> None:
        """Keep what to know of the result; it is said when there is one."""
        self.warnings.append(sentence)

    def end(self, *written: Path) -> None:
        """Say the warnings on standard error, and which files there are now."""
        for sentence in self.warnings:
            typer.secho(f"warning: {sentence}", fg="yellow", err=True)
        self.say(f"wrote {' and '.join(map(str, written))}")
