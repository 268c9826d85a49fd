import pytest
import torch
from torch import Tensor, nn

import repq_fx
from repq_fx.analysis import sqnr_db
from repq_fx.backend import ReferenceConv2d


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("backend", ["reference", "int8"])
def test_a_norm_of_batch_statistics_is_computed_anew_for_each_batch(
    backend: str, affine: bool
) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(8, affine=affine, track_running_stats=False)
    layers = (nn.Conv2d(8, 8, 3), norm, nn.ReLU(), nn.Conv2d(8, 8, 3))
    model, images = nn.Sequential(*layers).eval(), torch.randn(16, 8, 8, 8)
    quantized = repq_fx.quantize(model, images, backend=backend, progress=False)
    for batch in (images, images[3:5]):
        assert sqnr_db(model(batch), quantized(batch)) > 30
    # Statistics of the calibration data would leave the half as large.
    halved = _output_norm(quantized, images / 2) / _output_norm(quantized, images)
    assert halved > 0.9


def test_both_convolutions_around_it_are_quantized() -> None:
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    model = nn.Sequential(nn.Conv2d(8, 8, 3), norm, nn.Conv2d(8, 8, 3)).eval()
    images = torch.randn(4, 8, 8, 8)
    quantized = repq_fx.quantize(model, images, backend="reference", progress=False)
    assert sum(isinstance(m, ReferenceConv2d) for m in quantized.modules()) == 2


def _output_norm(model: nn.Module, images: Tensor) -> float:
    return float(model(images).norm())
