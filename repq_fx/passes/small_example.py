"""Examples of a model's inputs: a few images of a batch say as much about it as all of them."""

import inspect

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from .graph.example import Inputs, map_tensors, run
from .tracing.trace import copy_of

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


def required_inputs(model: nn.Module) -> int:
    """How many tensors `model` has to be given: its parameters without a default, at least one."""
    parameters = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return max(len(required), 1)


def _is_batch(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0
