"""Calibration images that are kept for what `convert` refines."""

import torch
from torch import Tensor

# Where `calibrate` leaves inputs in a prepared model's `meta` for steps that need data again.
KEPT_INPUTS = "repq_fx_calibration_inputs"
# At least 32 images, and of small ones as many as have the pixels of 32 of 224 x 224.
KEPT_IMAGES = 32
_KEPT_PIXELS = 32 * 224 * 224
_MOST_KEPT_IMAGES = 1024


def keep(kept: list[tuple[Tensor, ...]], inputs: tuple[Tensor, ...], count: int) -> None:
    """Add to `kept` until it holds `count` images; batches of another size are passed over.

    Inputs that are not all batches of the same length cannot be joined: then the first is kept.
    """
    if kept and not (_are_batches(inputs) and _are_batches(kept[0])):
        return
    if not _are_batches(inputs):
        kept.append(inputs)
        return
    room = count - sum(len(values[0]) for values in kept)
    fits = not kept or all(a.shape[1:] == b.shape[1:] for a, b in zip(kept[0], inputs, strict=True))
    if room > 0 and fits:
        kept.append(tuple(value[:room] for value in inputs))


def _are_batches(inputs: tuple[Tensor, ...]) -> bool:
    return all(value.dim() > 0 and len(value) == len(inputs[0]) for value in inputs)


def images_worth_keeping(inputs: tuple[Tensor, ...]) -> int:
    """How many images of this size are enough to choose ranges and round weights with."""
    pixels = max(value[0, :1].numel() if value.dim() > 2 else 1 for value in inputs)
    return min(max(KEPT_IMAGES, _KEPT_PIXELS // pixels), _MOST_KEPT_IMAGES)


def joined(kept: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """What was kept as one batch."""
    if len(kept) == 1:
        return kept[0]
    return tuple(torch.cat(values) for values in zip(*kept, strict=True))
