"""Which values of a network have one entry for each image, and can be kept."""

from collections.abc import Sequence

import torch
from torch import Size, Tensor
from torch.fx import GraphModule, Node

from ..errors import CalibrationError
from ..passes.graph.run import ShapeRecorder


class StoredTensors:
    """Which values of a network can be stored, image by image.

    Args:
        network: The float network, which is run once, on a few images.
        inputs: One batch, best of a prime number of images: rarely is that another axis's length.

    Raises:
        CalibrationError: The network cannot be run on them.
    """

    def __init__(self, network: GraphModule, inputs: Sequence[Tensor]) -> None:
        few = [value.clone() for value in inputs]
        self._batch = len(few[0])
        shapes: dict[Node, Size] = {}
        try:
            with torch.no_grad():
                ShapeRecorder(network, shapes).run(*few)
        except (RuntimeError, ValueError, TypeError) as error:
            found = ", ".join(f"{tuple(value.shape[1:])} {value.dtype}" for value in few)
            reason = str(error).partition("\n")[0]
            raise CalibrationError(
                f"reconstruct: images of shape {found} do not fit the model: {reason}"
            ) from error
        self._shapes = {node.name: shape for node, shape in shapes.items()}

    def holds(self, node: Node) -> bool:
        """Whether the value is a tensor with one entry for each image."""
        shape = self._shapes.get(node.name, Size())
        return node.op != "get_attr" and len(shape) > 0 and shape[0] == self._batch

    def values(self, node: Node) -> int:
        """How many values a tensor has for each image."""
        return self._shapes[node.name].numel() // self._batch if self.holds(node) else 0

    def resolution(self, node: Node) -> tuple[int, ...]:
        """The axes behind the channels."""
        return tuple(self._shapes.get(node.name, Size())[2:])
