"""What a tool's gradient descent took, whichever loop of its own it runs."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook


@contextmanager
def count_steps() -> Iterator[dict[str, Any]]:
    """Time the block and count optimizer steps in it.

    Yields a record that is complete when the block ends:

        blocks: Layers or blocks that were optimized, one optimizer to each.
        steps: Optimizer steps over all of them.
        reconstruction_seconds: Everything, with what the tool does before and between.
        loop_seconds: From the first step of each optimizer to its last, `steps - blocks` of them.
    """
    record: dict[str, Any] = {"blocks": 0, "steps": 0, "loop_seconds": 0.0}
    latest: WeakKeyDictionary[Optimizer, float] = WeakKeyDictionary()

    def count(optimizer: Optimizer, *_: Any) -> None:
        # A second optimizer, of activation scales, steps along with the one of weights.
        if not any(
            tensor.dim() > 1 for group in optimizer.param_groups for tensor in group["params"]
        ):
            return
        now = time.perf_counter()
        record["steps"] += 1
        if optimizer in latest:
            record["loop_seconds"] += now - latest[optimizer]
        else:
            record["blocks"] += 1
        latest[optimizer] = now

    handle = register_optimizer_step_post_hook(count)
    start = time.perf_counter()
    try:
        yield record
    finally:
        record["reconstruction_seconds"] = time.perf_counter() - start
        handle.remove()


def milliseconds(record: dict[str, Any]) -> dict[str, float]:
    """``ms_per_step`` with everything, and ``loop_ms_per_step`` of the gradient descent alone."""
    fields = {}
    if record.get("steps"):
        fields["ms_per_step"] = 1e3 * record["reconstruction_seconds"] / record["steps"]
        if record["steps"] > record["blocks"]:
            pairs = record["steps"] - record["blocks"]
            fields["loop_ms_per_step"] = 1e3 * record["loop_seconds"] / pairs
    return fields
