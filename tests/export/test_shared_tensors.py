"""Tensors that share memory: stored once where they are the same, and shared again when loaded."""

import torch
from torch import nn

import repq_fx
from repq_fx.export.shared_tensors import without_repeats

IMAGES = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Twice(nn.Module):
    """One convolution, called twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(torch.relu(self.conv(x)))


def test_a_layer_called_twice_is_stored_once_when_lowered(tmp_path):
    torch.manual_seed(0)
    quantized = repq_fx.quantize(Twice().eval(), [IMAGES], progress=False)
    repq_fx.save(quantized, tmp_path / "model.repq")
    loaded = repq_fx.load(tmp_path / "model.repq")
    assert torch.equal(loaded(IMAGES), quantized(IMAGES))
    repq_fx.save(loaded, tmp_path / "again.repq")
    assert (tmp_path / "again.repq").read_bytes() == (tmp_path / "model.repq").read_bytes()
    for model in (quantized, loaded):
        weights = [value for name, value in model.named_buffers(remove_duplicate=False)
                   if name.endswith("conv.weight") or value.shape == (4, 4, 3, 3)]  # fmt: skip
        assert len({weight.data_ptr() for weight in weights}) == 1


def test_parts_of_one_tensor_are_stored_apart():
    whole = torch.arange(6.0).reshape(2, 3)
    tensors = {"whole": whole, "same": whole.view(2, 3), "row": whole[0], "turned": whole.t(),
               "none": whole[:0], "nothing": whole[:0]}  # fmt: skip
    stored, repeats = without_repeats(tensors)
    assert repeats == {"same": "whole"}
    assert stored.keys() == {"whole", "row", "turned", "none", "nothing"}
    assert len({stored[name].data_ptr() for name in ("whole", "row", "turned")}) == 3
    for name, tensor in stored.items():
        assert torch.equal(tensor, tensors[name])
        assert tensor.is_contiguous()
