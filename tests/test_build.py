"""Importing the package has no side effects, and works without the compiled kernels."""

import json
import subprocess
import sys

PROBE = """
import json, logging, sys, warnings
filters, handlers = list(warnings.filters), list(logging.getLogger().handlers)
import torch
threads = torch.get_num_threads()
filters = list(warnings.filters)
import repq_fx
print(json.dumps({
    "modules": sorted(sys.modules),
    "filters": filters == list(warnings.filters),
    "handlers": handlers == logging.getLogger().handlers,
    "threads": threads == torch.get_num_threads(),
    "cuda": torch.cuda.is_initialized(),
}))
"""
WITHOUT_EXTENSION = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "repq_fx._C" else find_spec(name, *a)
import torch, repq_fx
assert not repq_fx.ops.has_extension()
images = torch.randn(8, 1, 28, 28)
model = repq_fx.models.fashion_repvgg().eval()
int8 = repq_fx.quantize(model, images, progress=False)
assert repq_fx.analysis.sqnr_db(model(images), int8(images)) > 20
"""
PLANTED = """
import sys, types
from importlib.machinery import ModuleSpec
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: (
    ModuleSpec(name, None) if name == "repq_fx._C" else find_spec(name, *a))
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "repq_fx._C":
            raise ImportError("undefined symbol: _ZN2at4_ops")
sys.meta_path.insert(0, Broken())
try:
    import repq_fx
except (ImportError, RuntimeError) as error:
    print(error)
"""


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_has_no_side_effects():
    seen = json.loads(run(PROBE))
    assert seen["filters"]
    assert seen["handlers"]
    assert seen["threads"]
    assert not seen["cuda"]
    heavy = {"torchvision", "ultralytics", "timm", "onnx", "onnxruntime", "matplotlib", "typer"}
    assert not heavy & set(seen["modules"])


def test_everything_runs_without_the_extension():
    run(WITHOUT_EXTENSION)


def test_a_broken_extension_is_named_in_one_sentence():
    message = run(PLANTED)
    assert "torch" in message
    assert "rebuild" in message.lower()
