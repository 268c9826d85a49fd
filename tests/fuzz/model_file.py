"""A model file in its parts, and back: what a forger would do, seal and all."""

import json
from dataclasses import dataclass
from typing import Any

from repq_fx.export import checksum

_METADATA, _GRAPH = "__metadata__", "repq_fx"


@dataclass
class ModelFile:
    """The parts of a safetensors file that repq_fx wrote.

    Attributes:
        graph: The graph and its layers.
        tensors: Name to dtype, shape and place of each tensor.
        data: All their bytes.
    """

    graph: Any
    tensors: dict[str, Any]
    data: bytes

    @classmethod
    def parse(cls, content: bytes) -> "ModelFile":
        """Take a good file apart."""
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        metadata = header.pop(_METADATA)
        return cls(json.loads(metadata[_GRAPH]), header, content[start:])

    def sealed(self) -> bytes:
        """The file again, with everything in it that only vouches for the rest made to fit."""
        self.graph.pop(checksum.KEY, None)
        graph = {checksum.KEY: checksum.BLANK, **self.graph}
        metadata = {_GRAPH: json.dumps(graph)}
        header = json.dumps({_METADATA: metadata, **self.tensors}).encode()
        header += b" " * (-len(header) % 8)
        return bytes(checksum.sealed(len(header).to_bytes(8, "little") + header + self.data))
