"""Writing a file so that it appears whole or not at all."""

import hashlib
import os
import stat
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_SUFFIX = ".repq-part"
_LONGEST = 200  # File systems take 255 bytes; the rest is for what a temporary has around the name.
_STALE_SECONDS = 24 * 60 * 60  # No write takes that long.


def write_atomically(path: str | os.PathLike[str], content: bytes | bytearray) -> None:
    """Write `content` beside `path` and rename it into place.

    Of a symbolic link the file behind it is written. An existing file keeps its permissions, a new
    one follows the umask. What killed runs left of the same file a day ago or earlier is removed.

    Raises:
        OSError: The folder is missing or not writable, or `path` is no regular file; an existing
            file is untouched.
    """
    target = Path(os.path.realpath(path))
    mode = _mode_of(target, path)
    handle, temporary = _new_temporary(target, path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(mode)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _remove_stale(target.parent, _prefix_of(target.name))


def require_writable(path: str | os.PathLike[str]) -> None:
    """Check that `write_atomically` could write a file now; none is left, and an old one untouched.

    Raises:
        OSError: See `write_atomically`.
    """
    target = Path(os.path.realpath(path))
    _mode_of(target, path)
    handle, temporary = _new_temporary(target, path)
    os.close(handle)
    Path(temporary).unlink()


def _new_temporary(target: Path, path: str | os.PathLike[str]) -> tuple[int, str]:
    """An open file beside `target`, and its name."""
    try:
        return tempfile.mkstemp(dir=target.parent, prefix=_prefix_of(target.name), suffix=_SUFFIX)
    except OSError as error:
        raise OSError(error.errno, f"cannot write here: {error.strerror}", str(path)) from error


def _prefix_of(name: str) -> str:
    """How the temporaries of a file begin, short enough that they can be called so."""
    if len(os.fsencode(name)) <= _LONGEST:
        return f".{name}."
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()}."


def _mode_of(target: Path, path: str | os.PathLike[str]) -> int:
    """The permissions of `target`, or those of a new file."""
    try:
        status = target.stat()
    except FileNotFoundError:
        umask = os.umask(0)  # There is no way to read it alone.
        os.umask(umask)
        return 0o666 & ~umask
    except OSError as error:
        raise OSError(error.errno, f"cannot write here: {error.strerror}", str(path)) from error
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"cannot write {str(path)!r}: it is no regular file.")
    return stat.S_IMODE(status.st_mode)


def _remove_stale(folder: Path, prefix: str) -> None:
    """Remove temporaries of the same file that nobody writes to any more."""
    oldest = time.time() - _STALE_SECONDS
    with suppress(OSError):  # A folder that cannot be listed, or a file that another run removed.
        for entry in os.scandir(folder):
            ours = entry.name.startswith(prefix) and entry.name.endswith(_SUFFIX)
            if ours and entry.stat(follow_symlinks=False).st_mtime < oldest:
                Path(entry.path).unlink(missing_ok=True)
