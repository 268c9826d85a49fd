"""The most memory that a piece of work holds."""

from pathlib import Path

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


class PeakMemory:
    """Counts from its construction, by the kernel's figures, which only Linux has.

    Memory that the process has freed but not given back may be used again without being counted.
    """

    def __init__(self) -> None:
        self._before = _resident_bytes("VmRSS")
        try:
            _REFERENCES.write_text(_RESET_PEAK)
        except OSError:  # The peak would be that of all the process has done.
            self._before = None

    def bytes_above_start(self) -> int | None:
        """The most that was held above what was held at first; None where it is unknown."""
        peak = _resident_bytes("VmHWM")
        return None if self._before is None or peak is None else max(peak - self._before, 0)


def _resident_bytes(field: str) -> int | None:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    kibibytes = (line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return next((1024 * int(number) for number in kibibytes), None)
