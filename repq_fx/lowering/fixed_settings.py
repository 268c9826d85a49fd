"""State dicts of quantized models hold their integers, and a check of what these stand for."""

from abc import abstractmethod
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from ..quant import QuantizedModule


class FixedSettings(QuantizedModule):
    """Base of modules whose `load_state_dict` refuses the state of one with other settings.

    The grids of activations are plain numbers of a model, no tensors: on them the integers of
    another model would stand for something else. So a state dict holds a fingerprint of them.
    """

    @abstractmethod
    def settings(self) -> str:
        """What decides what the module computes, but for its tensors, as text."""

    def get_extra_state(self) -> Tensor:
        """The fingerprint, as a tensor, which every kind of file can hold."""
        digest = sha256(self.settings().encode()).digest()
        return torch.tensor(list(digest), dtype=torch.uint8)

    def set_extra_state(self, state: Any) -> None:
        """Compare the fingerprint of a state dict with that of this module.

        Raises:
            ValueError: They differ.
        """
        if not (isinstance(state, Tensor) and torch.equal(state.cpu(), self.get_extra_state())):
            raise ValueError(
                "load_state_dict: the state is that of another quantized model, whose activations "
                "have other grids, which no state dict holds; use repq_fx.save and repq_fx.load."
            )
