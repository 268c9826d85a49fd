"""A few images of a batch, which say as much about a model as all of them."""

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .example import Inputs, map_tensors, run
from .trace import copy_of

# More than one, so that nothing takes the axis of images for one of size 1.
_IMAGES = 2


def small_example(model: nn.Module, inputs: Inputs) -> Inputs:
    """The first two images of `inputs` where `model` takes them, else `inputs`.

    Tracing and merging run the model about ten times. Other inputs than batches of one length stay
    as they are, and so do those of a model that only takes as many images as they hold.
    """
    lengths = {len(leaf) if leaf.dim() else 0 for leaf in tree_leaves(inputs)}
    if len(lengths) != 1 or lengths.pop() <= _IMAGES:
        return inputs
    few = map_tensors(lambda tensor: tensor[:_IMAGES], inputs)
    try:
        outputs = tree_leaves(run(copy_of(model), few))
    except Exception:  # Whatever a model does with a number of images that it was not made for.
        return inputs
    return few if any(len(leaf) == _IMAGES for leaf in outputs if _is_batch(leaf)) else inputs


def _is_batch(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0
