"""One file, tried in a process of its own with little time and memory."""

import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from repq_fx import FileFormatError

from .mutations import CANARY
from .seeds import SeedFile

_MOST_SECONDS = 10
# Beside what the process had before; the models here need less than one.
_MOST_BYTES = 512 << 20
# A file holds a few numbers; what it makes of them must not take this long on any machine.
_MOST_WAITING = 120


class Outcome(Enum):
    """What became of a file; all but the first three are faults."""

    RAN = "loaded and ran"
    REFUSED = "refused"
    FAILED_IN_USE = "loaded, an exception in use"
    ESCAPED = "loading raised something else than FileFormatError"
    KILLED = "a signal, or more than 10 seconds"
    EXECUTED = "code was executed"

    @property
    def is_fault(self) -> bool:
        """Whether no file may do that."""
        return self in (Outcome.ESCAPED, Outcome.KILLED, Outcome.EXECUTED)


_CODES = {64 + i: each for i, each in enumerate(Outcome)}


@dataclass(frozen=True)
class Trial:
    """An outcome, and what was written about it."""

    outcome: Outcome
    words: str


def try_file(seed: SeedFile, content: bytes, folder: Path) -> Trial:
    """Load `content` as if it were `seed`, and use it, in a copy of this process.

    Args:
        seed: What the file was before.
        content: The damaged file.
        folder: For this trial alone, one after the other.
    """
    path, words = folder / "file", folder / "words"
    path.write_bytes(content)
    child = os.fork()
    if child == 0:
        _in_child(words, lambda: _load_and_use(seed, path))
    status = os.waitpid(child, 0)[1]
    text = words.read_text(errors="replace")
    canary = folder / CANARY
    if canary.exists():
        canary.unlink()
        return Trial(Outcome.EXECUTED, text)
    outcome = _CODES.get(os.waitstatus_to_exitcode(status))
    if outcome is None:
        return Trial(Outcome.KILLED, f"status {os.waitstatus_to_exitcode(status)}\n{text}")
    return Trial(outcome, text)


def _in_child(words: Path, run: Callable[[], Outcome]) -> None:
    """Never returns; nothing that the parent had pending is done twice.

    Python's own streams are left alone: another thread may have held their locks.
    """
    code = 1
    try:
        os.chdir(words.parent)
        for stream in (1, 2):
            os.dup2(os.open(words, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
        _limit()
        outcome = run()
        code = next(code for code, each in _CODES.items() if each is outcome)
    finally:
        os._exit(code)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_MOST_WAITING)
    # The address sanitizer reserves terabytes.
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MOST_BYTES,) * 2)


def _tell(error: BaseException) -> None:
    os.write(1, f"{type(error).__name__}: {error}".encode(errors="replace"))


def _load_and_use(seed: SeedFile, path: Path) -> Outcome:
    try:
        loaded = seed.load(path)
    except FileFormatError as error:
        _tell(error)
        return Outcome.REFUSED
    except BaseException as error:
        _tell(error)
        return Outcome.ESCAPED
    try:
        seed.use(loaded)
    except Exception as error:
        _tell(error)
        return Outcome.FAILED_IN_USE
    return Outcome.RAN
