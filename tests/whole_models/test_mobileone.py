"""A real network on real images, where `../shared/data` has them."""

import pytest
import torch

from benchmarks.accuracy.mobileone_s0 import MobileOneS0
from repq_fx import Scheme, analysis, quantize
from repq_fx.cli.image_data import Preprocessing, open_images
from repq_fx.cli.model_source import load_weights
from tests.real_models import data_file


@pytest.mark.slow
def test_mobileone_keeps_its_accuracy():
    """The collapse that the library exists to undo: 8 bits, 32 images, no gradient step."""
    model = MobileOneS0().eval()
    load_weights(model, data_file("weights/mobileone_s0_imagenet_deploy.pt"))
    data = open_images(data_file("imagenet_sample/images.npz"), Preprocessing())
    images = torch.cat(list(data.batches()))
    correct = {}
    for name, scheme in {"vanilla": Scheme.vanilla(), "ours": Scheme()}.items():
        quantized = quantize(model, images[:32], scheme=scheme, progress=False)
        scores = analysis.predict(quantized, images.split(50), progress=False)
        correct[name] = 100 * float((scores.argmax(1) == data.labels).float().mean())
    assert correct["vanilla"] < 20
    assert correct["ours"] > 82
