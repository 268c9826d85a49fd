"""What a report says about a model, computed from its outputs."""

from torch import Tensor, nn

from .. import analysis


def accuracy_fields(scores: Tensor, labels: Tensor | None) -> dict[str, float]:
    """``top1``, where labels are known and the output is one score per class."""
    if labels is None or scores.dim() != 2:
        return {}
    return {"top1": analysis.top1_accuracy(scores, labels)}


def similarity_fields(reference: Tensor, scores: Tensor) -> dict[str, float]:
    """``sqnr_db``, and ``agreement`` where the output is one score per class."""
    fields = {"sqnr_db": analysis.sqnr_db(reference, scores)}
    if scores.dim() == 2:
        fields["agreement"] = analysis.agreement(reference, scores)
    return fields


def float_size(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, as a float checkpoint stores them."""
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())
