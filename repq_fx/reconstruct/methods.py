"""Options of the reconstruction methods: one frozen class for each, with its paper's defaults."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from ..quant import MSE, LpLoss
from .losses import Fisher
from .partition import Partition

_RATES_AND_WEIGHTS = ("rounding_rate", "rounding_weight", "step_rate", "gain_rate", "shift_rate",
                      "across_blocks")  # fmt: skip
_LARGEST = sys.float_info.max


class PartInput(str, Enum):
    """What a part is trained on."""

    QUANTIZED = "quantized"
    FLOAT = "float"
    MIXED = "mixed"


@dataclass(frozen=True)
class Reconstruction:
    """What all methods share; use one of its subclasses.

    Part by part, weights are softly rounded (AdaRound, Nagel et al., 2020) from the integers that
    `convert` would choose, and everything that is learned minimizes the error of the part's
    outputs on what really arrives there.

    Attributes:
        partition: ``"layers"``, ``"blocks"``, ``"stages"`` or ``"net"``: what is learned at once.
        loss: `MSE()`, `MAE()`, `LpLoss(p)` or `Fisher()`, of the outputs relative to their size.
        iterations: Steps of Adam for each part; 0 for none.
        images: Use at most so many images of the data.
        batch_size: Images to a step.
        batch_values: Fewer images where the outputs of a step would have more values than this: a
            few maps of high resolution say as much as many of low.
        input: What a part is trained on: ``"quantized"``, what arrives when all parts before it
            are quantized; ``"float"``, what arrives in the float network; or ``"mixed"``, each
            value from one or the other.
        keep: Probability that an activation is not rounded while training (QDrop), and that
            ``"mixed"`` takes the float network's value.
        rounding_rate: Adam's learning rate for the rounding; 0 leaves it as it is.
        rounding_weight: Of the regularizer that makes the rounding decide: of its mean over all
            weights, beside the error relative to where it started. The papers have 0.01 for the sum
            beside the error itself, which depends on the units of the network.
        rounding_power: Its power at the beginning and at the end.
        warm_up: Share of the iterations without the regularizer. The papers have 0.2, from weights
            rounded to nearest; here the start is decided already, and better than what a warm-up
            leads to.
        rounds_coarse: Learn the rounding of the coarse part of split weights too.
        step_rate: Learning rate for the logarithm of activation steps; 0 leaves them.
        gain_rate: Learning rate for a gain of each output channel; 0 leaves 1.
        shift_rate: Learning rate for the biases, relative to the magnitude of the outputs; the
            papers leave them, and rounding for other outputs moves means.
        across_blocks: Weight of the error at the end of the stage, which the part's output reaches
            through the float blocks in between (RepAPQ's across-block calibration).
        validation: Share of the images that is not trained on and decides when a part has
            converged and whether it has become better at all.
    """

    partition: Partition | str = Partition.BLOCKS
    loss: LpLoss | Fisher = field(default_factory=MSE)
    iterations: int = 20_000
    images: int = 1024
    batch_size: int = 32
    batch_values: int = 2**40
    input: PartInput | str = PartInput.QUANTIZED
    keep: float = 0.0
    rounding_rate: float = 1e-3
    rounding_weight: float = 100.0
    rounding_power: tuple[float, float] = (20.0, 2.0)
    warm_up: float = 0.0
    rounds_coarse: bool = False
    step_rate: float = 0.0
    gain_rate: float = 0.0
    shift_rate: float = 1e-3
    across_blocks: float = 0.0
    validation: float = 0.125

    def __post_init__(self) -> None:
        for name, expected, holds in self._conditions():
            if not holds:
                found = getattr(self, name)
                kind = type(self).__name__
                raise ValueError(f"{kind}: {name} must be {expected}, got {found!r}.")

    def _conditions(self) -> Iterator[tuple[str, str, bool]]:
        """Of each field: what it must be, and whether it is."""
        partitions = [entry.value for entry in Partition]
        yield "partition", f"one of {partitions}", self.partition in partitions
        is_loss = isinstance(self.loss, LpLoss | Fisher)
        yield "loss", "MSE(), MAE(), LpLoss(p) or Fisher()", is_loss
        for name, least in (("iterations", 0), ("images", 2), ("batch_size", 1)):
            yield name, f"a whole number from {least}", _is_count(getattr(self, name), least)
        yield "batch_values", "a whole number from 1", _is_count(self.batch_values, 1)
        inputs = [entry.value for entry in PartInput]
        yield "input", f"one of {inputs}", self.input in inputs
        for name in ("keep", "warm_up"):
            yield name, "from 0 to 1", _is_within(getattr(self, name), 0, 1)
        is_share = _is_within(self.validation, 0, 1) and 0 < self.validation < 1
        yield "validation", "between 0 and 1", is_share
        for name in _RATES_AND_WEIGHTS:
            yield name, "a finite number from 0", _is_within(getattr(self, name), 0, _LARGEST)
        powers = self.rounding_power if isinstance(self.rounding_power, tuple) else ()
        fits = len(powers) == 2 and all(_is_within(power, 1, 1024) for power in powers)
        yield "rounding_power", "two numbers from 1 to 1024", fits

    @staticmethod
    def from_name(name: str) -> "Reconstruction":
        """The defaults of the method called adaround, brecq, qdrop or repapq, in any case.

        Raises:
            ValueError: There is none.
        """
        known = {method.__name__.lower(): method for method in Reconstruction.__subclasses__()}
        if name.lower() not in known:
            raise ValueError(f"unknown reconstruction {name!r}: use {', '.join(sorted(known))}.")
        return known[name.lower()]()

    def held_out(self, images: int) -> int:
        """How many of `images` are for validation."""
        return max(1, round(images * self.validation))


def require_method(method: object) -> None:
    """Refuse what is no `Reconstruction`.

    Raises:
        TypeError: The message names `method`.
    """
    if not isinstance(method, Reconstruction):
        raise TypeError(
            f"reconstruct: method must be AdaRound(), BRECQ(), QDrop() or RepAPQ(), got {method!r}."
        )


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_within(value: object, lowest: float, highest: float) -> bool:
    return isinstance(value, int | float) and lowest <= value <= highest


@dataclass(frozen=True)
class AdaRound(Reconstruction):
    """Rounding alone, layer by layer (Nagel et al., arXiv 2004.10568)."""

    partition: Partition | str = Partition.LAYERS
    iterations: int = 10_000


@dataclass(frozen=True)
class BRECQ(Reconstruction):
    """Rounding and activation steps, block by block (Li et al., arXiv 2102.05426)."""

    step_rate: float = 1e-3


@dataclass(frozen=True)
class QDrop(Reconstruction):
    """The same with half of the activations not rounded (Wei et al., arXiv 2203.05740)."""

    input: PartInput | str = PartInput.MIXED
    keep: float = 0.5
    step_rate: float = 1e-3


@dataclass(frozen=True)
class RepAPQ(Reconstruction):
    """For merged networks: QPRep's learned channel affine, and steps (arXiv 2402.16121).

    The integers stay those that GPTQ and coordinate descent have chosen for the same images; gains
    and shifts fold into scales and biases. The paper's other ingredients are ``loss=MAE()`` and
    ``across_blocks=1.0``, and ranges by `Scheme(activation=MAE())`; the defaults are what measured
    best (`benchmarks/README.md`).
    """

    iterations: int = 300
    batch_values: int = 2**21
    rounding_rate: float = 0.0
    step_rate: float = 1e-3
    gain_rate: float = 1e-3
