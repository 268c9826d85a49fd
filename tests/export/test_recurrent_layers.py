"""Recurrent layers in a model file: whole, and refused where memory would be read past an end."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import repq_fx
from repq_fx import FileFormatError
from tests.export.model_files import edited

SEQUENCES = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))


class _Net(nn.Module):
    def __init__(self, recurrent: nn.RNNBase) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.last = nn.LazyLinear(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.recurrent(x)[0])


LAYERS = {
    "LSTM": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True),
    "projected LSTM": lambda: nn.LSTM(3, 4, proj_size=2, batch_first=True),
    "GRU": lambda: nn.GRU(3, 4, bias=False, batch_first=True),
    "RNN": lambda: nn.RNN(3, 4, nonlinearity="relu"),
}


def _saved(recurrent: nn.RNNBase, folder: Path) -> tuple[nn.Module, Path]:
    model = _Net(recurrent).eval()
    model(SEQUENCES)
    quantized = repq_fx.quantize(model, SEQUENCES, progress=False)
    repq_fx.save(quantized, folder / "model.repq")
    return quantized, folder / "model.repq"


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_they_come_back_whole(make, tmp_path):
    quantized, file = _saved(make(), tmp_path)
    loaded = repq_fx.load(file)
    longer = torch.randn(4, 9, 3)
    assert torch.equal(loaded(longer), quantized(longer))
    # The list that the layer itself keeps holds its parameters, not others.
    with torch.no_grad():
        loaded.recurrent.weight_ih_l0.zero_()
    assert not torch.equal(loaded(longer), quantized(longer))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("hidden_size", 5000, "other parameters than its settings"),
        ("input_size", 64, "other parameters than its settings"),
        ("bidirectional", True, "other parameters than its settings"),
        ("proj_size", 2, "other parameters than its settings"),
        ("num_layers", 2**40, "settings that no LSTM has"),
        ("mode", "GRU", "settings that no LSTM has"),
        ("hidden_size", 2**62, "cannot be made"),
        ("hidden_size", -1, "cannot be made"),
        ("hidden_size", "4", "'hidden_size' of layer 'recurrent'"),
        ("bias", 1, "'bias' of layer 'recurrent'"),
    ],
)
def test_settings_that_do_not_fit_the_parameters_are_refused(setting, value, message, tmp_path):
    _, file = _saved(nn.LSTM(3, 4), tmp_path)
    change = {setting: value}
    edited(file, lambda header: header["layers"]["recurrent"]["attributes"].update(change))
    with pytest.raises(FileFormatError, match=message):
        repq_fx.load(file)


def test_a_layer_of_another_type_is_refused(tmp_path):
    _, file = _saved(nn.GRU(3, 4), tmp_path)
    edited(file, lambda header: header["layers"]["recurrent"].update(type="LSTM"))
    with pytest.raises(FileFormatError, match="settings that no LSTM has"):
        repq_fx.load(file)


def test_a_parameter_less_is_refused(tmp_path):
    _, file = _saved(nn.LSTM(3, 4), tmp_path)
    edited(file, lambda header: header["layers"]["recurrent"]["parameters"].pop("bias_hh_l0"))
    with pytest.raises(FileFormatError):
        repq_fx.load(file)
