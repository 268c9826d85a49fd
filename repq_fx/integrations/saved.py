"""`save` and `load`: one file for a quantized graph, alone or in the detector it belongs to."""

import os
from typing import Any

from torch.fx import GraphModule

from ..errors import FileFormatError
from ..export import read_model, refusal_of_damage, write_model
from . import ultralytics


def save(quantized: Any, path: str | os.PathLike[str]) -> None:
    """Write a quantized model; the file appears whole or not at all.

    Args:
        quantized: What `convert` or `quantize` returned, or `integrations.ultralytics.quantize`.
        path: The file: safetensors with the graph as JSON, and nothing in it to execute.

    Raises:
        FileFormatError: It is something else, or holds a layer or function that the format does
            not know.
        OSError: `path` is not writable.

    Example:
        >>> repq_fx.save(int8_model, "model.repq")  # doctest: +SKIP
    """
    if isinstance(quantized, GraphModule):
        write_model(quantized, path)
    elif ultralytics.is_quantized(quantized):
        ultralytics.save(quantized, path)
    else:
        raise FileFormatError(
            f"save: expected what convert or quantize returned, got {type(quantized).__name__}."
        )


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model that `save` wrote, onto the CPU and in evaluation mode.

    Returns:
        A `GraphModule`, or the `YOLO` or `RTDETR` that was saved, for which ultralytics has to be
        installed.

    Raises:
        FileFormatError: The file is missing, truncated, not ours, of a newer version, or refers to
            something that is not in the closed set.
        RepqError: The package that it needs is not installed.
    """
    graph, surroundings = read_model(path)
    if surroundings is None:
        return graph
    if surroundings.kind == ultralytics.KIND:
        with refusal_of_damage(path):
            return ultralytics.restore(graph, surroundings)
    raise FileFormatError(f"load: {str(path)!r} is part of an unknown {surroundings.kind!r}.")
