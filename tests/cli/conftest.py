import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from repq_fx.cli import main
from repq_fx.models import fashion_repvgg

MODEL = "repq_fx.models:fashion_repvgg"


@pytest.fixture
def repq(monkeypatch, capsys):
    """Run the command as a user does; returns exit code, standard output and error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["repq", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.manual_seed(0)
    save_file(fashion_repvgg().state_dict(), path)
    return path


@pytest.fixture
def image_pack(tmp_path):
    """24 grey images with labels, as `jpeg`, `offset` and `label`."""
    generator = np.random.default_rng(0)
    encoded = []
    for _ in range(24):
        buffer = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (28, 28), np.uint8)).save(buffer, "PNG")
        encoded.append(np.frombuffer(buffer.getvalue(), np.uint8))
    path = tmp_path / "pack.npz"
    np.savez(
        path,
        jpeg=np.concatenate(encoded),
        offset=np.cumsum([0, *map(len, encoded)]),
        label=generator.integers(0, 10, 24),
    )
    return path
