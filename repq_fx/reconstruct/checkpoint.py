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
from ..backend.refinement import Refinement
from ..errors import FileFormatError
from ..quant import AffineParameters, QuantizedWeight
from .training import PartReport

_FORMAT = "repq_fx reconstruction 1"


class Checkpoint:
    """Finished parts of one run, by their number.

    Args:
        path: The file; None keeps them in memory alone. A file that exists is read.
        fingerprint: Of everything that the result depends on.

    Raises:
        FileFormatError: The file is no checkpoint, or that of another run.
    """

    def __init__(self, path: Path | None, fingerprint: str) -> None:
        self._path, self._fingerprint = path, fingerprint
        self._parts: dict[int, dict[str, Any]] = {}
        if path is not None and path.exists():
            self._parts = _read(path, fingerprint)

    def __getitem__(self, part: int) -> tuple[Refinement, PartReport | None]:
        content = self._parts[part]
        report = content["report"]
        refinement = Refinement(
            {name: QuantizedWeight(**fields) for name, fields in content["weights"].items()},
            dict(content["biases"]),
            {name: AffineParameters(*values) for name, values in content["ranges"].items()},
        )
        return refinement, None if report is None else PartReport(**report)

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
        content = {"format": _FORMAT, "fingerprint": self._fingerprint, "parts": self._parts}
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_atomically(self._path, buffer.getvalue())


def fingerprint_of(description: str, tensors: Iterable[Tensor]) -> str:
    """A hash of a text and the values of tensors."""
    digest = hashlib.sha256(description.encode())
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(values.numpy().data)
    return digest.hexdigest()


def _fields_of(weight: QuantizedWeight) -> dict[str, Any]:
    return {name: getattr(weight, name) for name in weight.__dataclass_fields__}


def _read(path: Path, fingerprint: str) -> dict[int, dict[str, Any]]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise FileFormatError(f"'{path}' is no checkpoint of reconstruct: {reason}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT or "parts" not in content:
        raise FileFormatError(f"'{path}' is no checkpoint of reconstruct.")
    if content.get("fingerprint") != fingerprint:
        raise FileFormatError(
            f"'{path}' is the checkpoint of another run: model, data, method or seed differ. "
            "Delete it or give another path."
        )
    parts: dict[int, dict[str, Any]] = content["parts"]
    return parts
