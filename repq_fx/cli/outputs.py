"""Files that a command will write, refused before the work if it could not write them."""

from pathlib import Path

from torch.fx import GraphModule

from .. import export
from ..errors import RepqError


def require_writable(path: Path, option: str, suffix: str) -> None:
    """Check the name and the place of the file that `option` gives.

    Raises:
        RepqError: The name ends in something else than `suffix`, or the file cannot be written.
    """
    if path.suffix.lower() != suffix:
        raise RepqError(f"{option} must end in {suffix}, got {str(path)!r}.")
    if not path.parent.is_dir():
        raise RepqError(f"{option}: there is no folder {str(path.parent)!r}.")
    try:
        export.require_writable(path)
    except OSError as error:
        raise RepqError(f"{option}: {str(path)!r}: {error.strerror or error}.") from error


def report_path(out: Path) -> Path:
    """Where the report about the file `out` goes: beside it, under its name with .json."""
    return out.with_name(out.name + ".json")


def require_writable_with_report(out: Path, option: str, suffix: str) -> None:
    """Check the file that `option` gives and the report beside it; see `require_writable`."""
    require_writable(out, option, suffix)
    require_writable(report_path(out), option, ".json")


def require_storable(merged: GraphModule) -> None:
    """Refuse a network that no file could hold when it is quantized.

    Raises:
        RepqError: A layer or function of it, which the message names, is none that files hold.
    """
    reasons = export.unstorable(merged)
    if reasons:
        others = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        raise RepqError(f"what --out would hold cannot be saved: {reasons[0]}{others}.")
