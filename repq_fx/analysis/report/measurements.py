"""What is measured of every model: values of `MODEL_COLUMNS`, computed from its outputs."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from ...lowering.int8.instructions import Int8Program
from ..evaluation import agreement, predict, sqnr_db, top1_accuracy
from ..latency import thread_count
from ..speed import StepTime, compare_speed


def accuracy_fields(scores: Tensor, labels: Tensor | None) -> dict[str, Any]:
    """``top1_percent``, where labels are known and the output is one score per class."""
    if labels is None or scores.dim() != 2:
        return {}
    return {"top1_percent": top1_accuracy(scores, labels)}


def similarity_fields(reference: Tensor, scores: Tensor) -> dict[str, Any]:
    """``sqnr_db``, and ``agreement_percent`` where the output is one score per class."""
    fields: dict[str, Any] = {"sqnr_db": sqnr_db(reference, scores)}
    if scores.dim() == 2:
        fields["agreement_percent"] = agreement(reference, scores)
    return fields


def slow_steps_of(
    merged: nn.Module, int8: GraphModule, example: Tensor, threads: int
) -> tuple[StepTime, ...] | None:
    """What makes a network slower than FP32, and its programs that run in PyTorch.

    None of one for the reference backend, which is not made to be fast.
    """
    if not any(isinstance(module, Int8Program) for module in int8.modules()):
        return None
    with thread_count(threads):
        return compare_speed(merged, int8, (example,)).slow_steps


def float_size(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, as a float checkpoint stores them."""
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def scores_of(
    model: nn.Module, batches: Iterable[Tensor], *, label: str = "evaluate", progress: bool = False
) -> Tensor:
    """The outputs for all batches; of a model with several, one row of all their numbers each."""
    return predict(lambda batch: _joined(model(batch)), batches, label=label, progress=progress)


def _joined(outputs: object) -> Tensor:
    if isinstance(outputs, Tensor):
        return outputs
    found = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    # With a third axis, so that nobody takes them for the scores of classes.
    return torch.cat([leaf.flatten(1) for leaf in found], 1).unsqueeze(1)
