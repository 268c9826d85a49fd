"""Which sizes of inputs `torch.export` is asked to leave free."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.export import Dim

from ...graph.example import Inputs


def sizes_to_try(inputs: Inputs) -> Iterator[tuple[Inputs, tuple[Any, ...] | None]]:
    """Inputs to export with, and the sizes to leave free, the most general first."""
    batch = inputs[0].shape[:1]
    is_batched = [entry.shape[:1] == batch and entry.dim() > 0 for entry in inputs]
    # Export takes a size of 1 for a constant.
    many = tuple(
        torch.cat([entry, entry]) if batched and batch[0] == 1 else entry
        for entry, batched in zip(inputs, is_batched, strict=True)
    )
    free = tuple(dict.fromkeys(range(entry.dim()), Dim.AUTO) for entry in inputs)
    free_batch = tuple(
        axes | {0: Dim.DYNAMIC} if batched else axes
        for axes, batched in zip(free, is_batched, strict=True)
    )
    yield many, free_batch
    yield inputs, free
    if any(is_batched):
        yield many, tuple({0: Dim.DYNAMIC} if batched else {} for batched in is_batched)
    yield inputs, None
