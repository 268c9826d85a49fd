"""Tensors in one piece of memory: the same one is stored once, parts of one are stored apart."""

from torch import Tensor


def without_repeats(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Contiguous CPU tensors with memory of their own, and which names stand for which of them."""
    stored: dict[str, Tensor] = {}
    repeats: dict[str, str] = {}
    names: dict[tuple[object, ...], str] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        identity = (
            tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride()
        )  # fmt: skip
        first = names.setdefault(identity, name) if tensor.numel() else name
        if first != name:
            repeats[name] = first
            continue
        own = tensor.detach().cpu().contiguous()
        stored[name] = own.clone() if own.untyped_storage().data_ptr() in taken else own
        taken.add(memory)
    return stored, repeats
