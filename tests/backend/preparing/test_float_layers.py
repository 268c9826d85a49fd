"""One warning of layers that stay in float for want of an integer form."""

import re

import pytest
import torch
from torch import nn

import repq_fx


class LastStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, steps):
        return self.head(self.lstm(steps)[0][:, -1])


CASES = {
    "conv1d": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 4, 3)), (4, 3, 9),
               "2 of 2 layers that multiply .*: 2 Conv1d"),
    "conv3d": (nn.Sequential(nn.Conv3d(3, 4, 3)), (2, 3, 5, 5, 5), "1 of 1 .*: 1 Conv3d"),
    "lstm": (LastStep(), (4, 5, 4), "1 of 2 .*: 1 LSTM"),
    "transposed": (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 3, 3, 2)), (2, 3, 9, 9),
                   "1 of 2 .*: 1 ConvTranspose2d"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_layers_without_an_integer_form(case, caplog):
    torch.manual_seed(0)
    model, shape, message = CASES[case]
    inputs = torch.randn(shape)
    int8 = repq_fx.quantize(model.eval(), inputs, progress=False)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len([each for each in warnings if "stay in float" in each]) == 1
    assert re.search(message, " ".join(warnings))
    with torch.no_grad():
        assert repq_fx.analysis.sqnr_db(model(inputs), int8(inputs)) > 25


def test_silence_where_all_is_quantized_or_meant_to_be_float(caplog):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, 2)).eval()
    scheme = repq_fx.Scheme().with_overrides(repq_fx.Override(nn.ConvTranspose2d, None))
    repq_fx.quantize(model, torch.randn(2, 3, 9, 9), scheme=scheme, progress=False)
    assert "stay in float" not in caplog.text
