"""Operators come from their references, and from compiled kernels if these were built."""

import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from repq_fx import ops
from repq_fx.ops import compiled_devices, has_extension
from repq_fx.ops.registration import has_values, load_kernels, register_operator
from tests.ops import refusals


def add_up_reference(
    total: Tensor, input: Tensor, axis: int | None, sizes: list[int], times: float = 2.0
) -> tuple[Tensor, Tensor]:
    """An operator of these tests, with every kind of argument."""
    output = torch.empty_like(input)
    if has_values(input):
        total += input.sum()
        output.copy_(input * times)
    return output, input.new_zeros(sizes)


add_up = register_operator(add_up_reference, mutates=("total",))


def kernels(name: str) -> dict[str, object]:
    """The operator, whose kernel is compiled if one was built, and its reference."""
    reference = getattr(ops, f"{name}_reference")
    return {"kernel": getattr(torch.ops.repq_fx, name), "reference": reference}


def on_meta(argument: object) -> object:
    if not isinstance(argument, Tensor):
        return argument
    # `to` would close gaps between the values.
    return torch.empty_strided(
        argument.shape, argument.stride(), dtype=argument.dtype, device="meta"
    )


def assert_refuses(function, name: str, refusal: refusals.Refusal) -> None:
    arguments, error, words = refusal
    # A gradient's operator names the one that the user has called.
    name = name.removesuffix("_backward")
    with pytest.raises(error, match=f"^{name}: expected .*{words}$"):
        function(*arguments)


def cases(table):
    """One parameter for each case of each operator."""
    return pytest.mark.parametrize(
        ("name", "refusal"),
        [
            pytest.param(name, refusal, id=f"{name}-{case}")
            for name, of_operator in table.items()
            for case, refusal in of_operator.items()
        ],
    )


@pytest.mark.parametrize("route", ["kernel", "reference", "fake"])
@cases(refusals.ARGUMENTS)
def test_every_kernel_refuses_in_the_same_words(name: str, refusal, route: str):
    if route == "fake":
        arguments, *rest = refusal
        route, refusal = "kernel", (tuple(map(on_meta, arguments)), *rest)
    assert_refuses(kernels(name)[route], name, refusal)


@pytest.mark.parametrize("route", ["kernel", "reference"])
@cases(refusals.VALUES)
def test_kernels_refuse_values_in_the_same_words(name: str, refusal, route: str):
    assert_refuses(kernels(name)[route], name, refusal)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("route", ["kernel", "reference"])
@cases(refusals.DEVICES)
def test_kernels_refuse_tensors_on_other_devices(name: str, refusal, route: str):
    count, (arguments, *rest) = refusal
    moved = (*(tensor.cuda() for tensor in arguments[:count]), *arguments[count:])
    assert_refuses(kernels(name)[route], name, (moved, *rest))


def test_every_operator_has_refusals():
    # The one operator that is a refusal itself has a test of its own.
    names = {name.removesuffix("_reference") for name in dir(ops) if name.endswith("_reference")}
    assert names == refusals.ARGUMENTS.keys() | {"require_size"}


def test_the_annotations_of_the_reference_are_the_schema():
    schema = re.sub(r"a\d!", "a!", str(torch.ops.repq_fx.add_up.default._schema))
    assert schema == (
        "repq_fx::add_up(Tensor(a!) total, Tensor input, int? axis, SymInt[] sizes,"
        " float times=2.) -> (Tensor, Tensor)"
    )


def test_the_reference_is_the_fake_kernel_too():
    arguments = torch.zeros(()), torch.ones(2, 3), None, [4]
    torch.library.opcheck(torch.ops.repq_fx.add_up.default, arguments)
    shapes = [result.shape for result in add_up(*map(on_meta, arguments))]
    assert shapes == [(2, 3), (4,)]


def test_the_function_calls_the_operator_by_the_signature_of_the_reference():
    total, values = torch.zeros(()), torch.ones(2, 3)
    output, _ = add_up(total, input=values, axis=None, sizes=[], times=3.0)
    assert total == 6
    assert output.eq(3).all()
    assert inspect.signature(add_up) == inspect.signature(add_up_reference)
    assert (add_up.__name__, add_up.__doc__) == ("add_up", add_up_reference.__doc__)
    graph = torch.fx.symbolic_trace(lambda x: ops.quantize(x, 0.5, 0, 0, 255)).graph
    assert graph.find_nodes(op="call_function", target=torch.ops.repq_fx.quantize)


def test_has_values():
    assert has_values(torch.ones(2))
    assert not has_values(torch.ones(2, device="meta"))
    with torch._subclasses.FakeTensorMode() as mode:
        assert not has_values(torch.ones(2))
    assert not has_values(mode.from_tensor(torch.ones(2)))


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
