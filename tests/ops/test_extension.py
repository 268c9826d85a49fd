import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from repq_fx.ops import compiled_devices, has_extension
from repq_fx.ops._extension import load_kernels

from . import refusals


def test_has_extension_tells_whether_it_was_built():
    assert has_extension() == (find_spec("repq_fx._C") is not None)


def test_absent_extension_is_no_error():
    assert not load_kernels("repq_fx._absent")


def test_broken_extension_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken_kernels.abi3.so").write_bytes(b"built for another torch")
    monkeypatch.syspath_prepend(tmp_path)
    words = f"do not load with torch {re.escape(torch.__version__)}; rebuild them"
    with pytest.raises(ImportError, match=words) as raised:
        load_kernels("broken_kernels")
    assert isinstance(raised.value.__cause__, ImportError)


@pytest.mark.skipif(not has_extension(), reason="needs the compiled kernels")
@pytest.mark.parametrize("op", refusals.ARGUMENTS)
def test_compiled_kernel_overrides_the_reference(op: str):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"repq_fx::{op}", "CPU")


def test_devices_of_the_compiled_kernels():
    devices = compiled_devices()
    assert ("cpu" in devices) == has_extension()
    assert set(devices) <= {"cpu", "cuda"}
