"""What was learned so far, in a file that an interrupted run goes on from."""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._atomic_file import write_atomically
from ..errors import FileFormatError
from ..quant import AffineParameters, QuantizedWeight
from ..refine.refinement import Refinement
from .training import PartReport

_FORMAT = b"repq_fx reconstruction 2 "  # And the SHA-256 of all that follows its line.


class Checkpoint:
    """Finished parts of one run, by their number.

    Args:
        path: The file; None keeps them in memory alone. A file that exists is read.
        fingerprint: Of everything that the result depends on.

    Raises:
        FileFormatError: The file is no checkpoint, is damaged, or is that of another run.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint
        self._parts: dict[int, dict[str, Any]] = {}
        if path is not None and path.exists():
            self._parts = _read(path, fingerprint)

    def __getitem__(self, part: int) -> tuple[Refinement, PartReport | None]:
        return _decoded(self._parts[part])

    def __contains__(self, part: int) -> bool:
        return part in self._parts

    def add(self, part: int, refinement: Refinement, report: PartReport | None) -> None:
        """Keep what was learned in a part, and write the file anew."""
        self._parts[part] = {
            "weights": {name: _fields_of(weight) for name, weight in refinement.weights.items()},
            "biases": refinement.biases,
            "ranges": {n: (r.scale, r.zero_point) for n, r in refinement.ranges.items()},
            "report": None if report is None else asdict(report),
        }
        if self._path is None:
            return
        buffer = io.BytesIO()
        torch.save({"fingerprint": self._fingerprint, "parts": self._parts}, buffer)
        write_atomically(self._path, _first_line(buffer.getbuffer()) + buffer.getbuffer())


def fingerprint_of(description: str, tensors: Iterable[Tensor]) -> str:
    """A hash of a text and the values of tensors."""
    digest = hashlib.sha256(description.encode())
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(values.numpy().data)
    return digest.hexdigest()


def _fields_of(weight: QuantizedWeight) -> dict[str, Any]:
    return {name: getattr(weight, name) for name in weight.__dataclass_fields__}


def _first_line(content: bytes | memoryview) -> bytes:
    return _FORMAT + hashlib.sha256(content).hexdigest().encode() + b"\n"


def _decoded(content: dict[str, Any]) -> tuple[Refinement, PartReport | None]:
    report = content["report"]
    refinement = Refinement(
        {name: QuantizedWeight(**fields) for name, fields in content["weights"].items()},
        dict(content["biases"]),
        {name: AffineParameters(*values) for name, values in content["ranges"].items()},
    )
    return refinement, None if report is None else PartReport(**report)


def _read(path: Path, fingerprint: str) -> dict[int, dict[str, Any]]:
    try:
        with path.open("rb") as file:
            line, content = file.readline(len(_FORMAT) + 65), file.read()
    except OSError as error:
        raise FileFormatError(f"'{path}' cannot be read: {error.strerror}.") from error
    if not line.startswith(_FORMAT):
        raise FileFormatError(f"'{path}' is no checkpoint of reconstruct, or of another version.")
    if line != _first_line(content):
        raise FileFormatError(f"'{path}' is damaged: it does not have its own checksum.")
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        of_this_run = found["fingerprint"] == fingerprint
        parts: dict[int, dict[str, Any]] = found["parts"]
        for part in parts.values():
            _decoded(part)
    except Exception as error:  # A forged file: its checksum is right, its content is not.
        reason = str(error).partition("\n")[0]
        raise FileFormatError(f"'{path}' is no checkpoint of reconstruct: {reason}") from error
    if not of_this_run:
        raise FileFormatError(
            f"'{path}' is the checkpoint of another run: model, data, method or seed differ. "
            "Delete it or give another path."
        )
    return parts
