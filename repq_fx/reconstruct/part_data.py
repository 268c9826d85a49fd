"""What flows into and out of the parts of a network, for all images."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.fx import GraphModule

from .activation_store import ActivationStore
from .losses import size_of
from .methods import PartInput, Reconstruction
from .training import Batch
from .unit import Unit

_EXACT, _QUANTIZED = "exact/", "quantized/"
_END, _FISHER = "end/", "fisher/"


class NetworkData:
    """Tensors of the float network and of the one quantized so far, under the names of nodes.

    Args:
        store: Holds them.
        method: Says what parts are trained on, and how many images are run at once.
        device: Where they are needed.
        inputs: Of the network, ``[N, ...]`` each, by name.
    """

    def __init__(
        self,
        store: ActivationStore,
        method: Reconstruction,
        device: torch.device,
        inputs: dict[str, Tensor],
    ) -> None:
        self._store, self._method, self._device = store, method, device
        self.images = len(next(iter(inputs.values())))
        for name, value in inputs.items():
            store.write(_EXACT + name, 0, value)
            store.share(_QUANTIZED + name, _EXACT + name)

    def exact(self, names: Iterable[str], images: Tensor) -> list[Tensor]:
        """Values of the float network."""
        return [self._get(_EXACT + name, images) for name in names]

    def quantized(self, names: Iterable[str], images: Tensor) -> list[Tensor]:
        """Values of the network quantized so far."""
        return [self._get(_QUANTIZED + name, images) for name in names]

    def mixed(
        self, names: Iterable[str], images: Tensor, generator: torch.Generator
    ) -> list[Tensor]:
        """What the method trains a part on."""
        if self._method.input == PartInput.QUANTIZED:
            return self.quantized(names, images)
        if self._method.input == PartInput.FLOAT:
            return self.exact(names, images)
        pairs = zip(self.exact(names, images), self.quantized(names, images), strict=True)
        return [_mix(exact, arriving, self._method.keep, generator) for exact, arriving in pairs]

    def store_exact(self, unit: Unit, module: GraphModule) -> list[float]:
        """Run a part of the float network on all images; the sizes of its outputs."""
        return self._run(module, _EXACT, unit.inputs, [_EXACT + name for name in unit.outputs])

    def store_quantized(self, unit: Unit, module: GraphModule) -> None:
        """Run a finished part on all images."""
        self._run(module, _QUANTIZED, unit.inputs, [_QUANTIZED + n for n in unit.outputs])

    def store_ends(self, unit: Unit, tail: GraphModule, count: int) -> list[float]:
        """Run what follows a part in its stage, in float; the sizes of its outputs."""
        return self._run(tail, _EXACT, unit.outputs, [f"{_END}{i}" for i in range(count)])

    def store_fisher(self, unit: Unit, gradients: Callable[[Tensor], Sequence[Tensor]]) -> None:
        """Store squared gradients at the outputs of a part, with a mean of 1."""
        names = [_FISHER + name for name in unit.outputs]
        totals = [0.0] * len(names)
        for images in self._batches():
            for index, gradient in enumerate(gradients(images)):
                square = gradient.square()
                totals[index] += float(square.mean()) * len(images) / self.images
                self._store.write(names[index], int(images[0]), square)
        for name, total in zip(names, totals, strict=True):
            self._store[name].divide(total)

    def batch(
        self, unit: Unit, ends: int, images: Tensor, generator: torch.Generator | None
    ) -> Batch:
        """Inputs and targets of a part; without a generator the inputs are the quantized ones.

        Args:
            unit: The part.
            ends: How many outputs of the end of the stage are targets too.
            images: Indices.
            generator: Mixes the inputs.
        """
        if generator is None:
            inputs = self.quantized(unit.inputs, images)
        else:
            inputs = self.mixed(unit.inputs, images, generator)
        targets = self.exact(unit.outputs, images)
        targets += [self._get(f"{_END}{index}", images) for index in range(ends)]
        weights = [
            self._get(_FISHER + n, images) if _FISHER + n in self._store else None
            for n in unit.outputs
        ]
        return Batch(inputs, targets, weights)

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all other tensors."""
        self._store.keep_only([prefix + n for n in names for prefix in (_EXACT, _QUANTIZED)])

    @torch.no_grad()
    def _run(
        self, module: GraphModule, source: str, inputs: Sequence[str], outputs: Sequence[str]
    ) -> list[float]:
        sums = [0.0] * len(outputs)
        for images in self._batches():
            results = module(*(self._get(source + name, images) for name in inputs))
            for index, (name, result) in enumerate(zip(outputs, results, strict=True)):
                self._store.write(name, int(images[0]), result)
                sums[index] += float(size_of(result, self._method.loss.power)) * len(images)
        return [max(total / self.images, torch.finfo(torch.float32).tiny) for total in sums]

    def _batches(self) -> tuple[Tensor, ...]:
        batches: tuple[Tensor, ...] = torch.arange(self.images).split(self._method.batch_size)
        return batches

    def _get(self, name: str, images: Tensor) -> Tensor:
        return self._store[name].read(images, self._device)


def _mix(exact: Tensor, arriving: Tensor, keep: float, generator: torch.Generator) -> Tensor:
    """Each value of `exact` with probability `keep`, else of `arriving`."""
    # A byte for each value is several times cheaper to draw than a float.
    drawn = torch.randint(256, exact.shape, dtype=torch.uint8, generator=generator)
    return torch.where((drawn < round(256 * keep)).to(exact.device), exact, arriving)
