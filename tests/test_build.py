"""What is built where; importing has no side effects, and works without the compiled kernels."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).parents[1]

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


@pytest.fixture
def build(monkeypatch, tmp_path):
    """Run setup.py on a made-up machine up to the build; returns what it says and the sources."""

    def run_setup(*, request, gpu, torch_cuda, toolkit):
        home = None
        if toolkit is not None:
            home = tmp_path / "cuda"
            (home / "bin").mkdir(parents=True)
            if toolkit != "empty":
                (home / "include").mkdir()
                (home / "include" / "cuda_runtime.h").touch()
                nvcc = home / "bin" / "nvcc"
                nvcc.write_text(f"#!/bin/sh\necho 'Cuda tools, release {toolkit}, V{toolkit}.1'\n")
                nvcc.chmod(0o755)
        if request is None:
            monkeypatch.delenv("REPQ_FX_CUDA", raising=False)
        else:
            monkeypatch.setenv("REPQ_FX_CUDA", request)
        monkeypatch.delenv("REPQ_FX_NO_EXT", raising=False)
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.version, "cuda", torch_cuda)
        monkeypatch.setattr(cpp_extension, "CUDA_HOME", home and str(home))
        monkeypatch.setattr(
            cpp_extension, "CUDAExtension", lambda *a, **_: setuptools.Extension(*a)
        )
        monkeypatch.setattr(cpp_extension.BuildExtension, "run", lambda _: None)
        found = {}
        monkeypatch.setattr(setuptools, "setup", lambda **options: found.update(options))
        monkeypatch.chdir(ROOT)
        runpy.run_path("setup.py")
        found["cmdclass"]["build_ext"](setuptools.Distribution()).run()
        return [Path(source).suffix for source in found["ext_modules"][0].sources]

    return run_setup


GPU = {"request": None, "gpu": True, "torch_cuda": "13.0", "toolkit": "13.1"}


@pytest.mark.parametrize(
    ("machine", "with_cuda", "line"),
    [
        ({}, True, "CPU and CUDA kernels, by the toolkit in"),
        ({"toolkit": None}, False, "CPU kernels only: no CUDA toolkit is found (set CUDA_HOME)."),
        ({"toolkit": "empty"}, False, "CPU kernels only: no CUDA toolkit is in"),
        ({"toolkit": "12.4"}, False, "is of CUDA 12, torch of CUDA 13.0."),
        ({"torch_cuda": None}, False, "is built without CUDA."),
        ({"gpu": False}, False, "CPU kernels only: no GPU is found (REPQ_FX_CUDA=1 adds"),
        ({"gpu": False, "request": "1"}, True, "CPU and CUDA kernels, by the toolkit in"),
        ({"request": "0"}, False, "CPU kernels only, as REPQ_FX_CUDA=0 asks."),
    ],
    ids=["gpu-and-toolkit", "no-toolkit", "empty-toolkit", "other-toolkit", "cpu-torch", "no-gpu",
         "asked-for", "refused"],
)  # fmt: skip
def test_cuda_kernels_are_built_where_they_can_be(machine, with_cuda, line, build, capsys):
    assert (".cu" in build(**GPU | machine)) == with_cuda
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith("repq_fx: CPU ")
    assert line in said


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"toolkit": None}, "REPQ_FX_CUDA=1, but no CUDA toolkit is found"),
        ({"torch_cuda": None}, "REPQ_FX_CUDA=1, but torch"),
        ({"request": "yes"}, "REPQ_FX_CUDA must be 0 or 1, got 'yes'."),
    ],
    ids=["no-toolkit", "cpu-torch", "no-number"],
)
def test_what_was_asked_for_and_cannot_be_is_one_sentence(machine, message, build):
    with pytest.raises(SystemExit, match=message):
        build(**GPU | {"request": "1"} | machine)


def test_an_old_setuptools_is_one_sentence(build, monkeypatch):
    monkeypatch.setattr(setuptools, "__version__", "65.5.0")
    with pytest.raises(SystemExit, match=r"setuptools 77 or newer to build, found 65\.5\.0"):
        build(**GPU)


def test_without_a_compiler_the_build_says_what_to_install(build, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(SystemExit, match=r"finds no C\+\+ compiler: install g\+\+"):
        build(**GPU)


def test_the_version_of_setuptools_is_that_of_pyproject():
    limit = re.search(r"SETUPTOOLS = (\d+)", (ROOT / "setup.py").read_text())[1]
    assert f'"setuptools>={limit}"' in (ROOT / "pyproject.toml").read_text()


def test_without_torch_the_build_says_what_to_install():
    code = "import importlib.util as i; i.find_spec = lambda name: None; import setup"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert result.returncode == 1
    (sentence,) = result.stderr.strip().splitlines()
    assert "install torch first" in sentence
