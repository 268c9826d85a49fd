"""Which functions and methods a file may call."""

import inspect
import math
import operator
import re
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import get_testing_overrides

from repq_fx import FileFormatError
from repq_fx.export.targets import (
    ATTRIBUTES,
    all_functions,
    check_method,
    function_from_name,
    function_name,
)


@pytest.mark.parametrize(
    "name",
    ["numpy", "apply_", "map_", "map2_", "register_hook", "share_memory_", "storage",
     "untyped_storage", "data_ptr", "backward", "retain_grad", "record_stream", "set_", "resize_",
     "requires_grad_", "new", "as_strided", "module_load", "register_post_accumulate_grad_hook",
     "__reduce__", "_make_subclass", "shape", "nothing", "as_subclass", "is_shared"],
)  # fmt: skip
def test_methods_that_compute_nothing_are_refused(name):
    with pytest.raises(ValueError, match=f"method '{name}', which is not allowed"):
        check_method(name)


@pytest.mark.parametrize("name", ["add_", "float", "to", "view", "size", "softmax", "type_as"])
def test_methods_that_compute_are_allowed(name):
    check_method(name)


@pytest.mark.parametrize(
    "name",
    ["torch.load", "torch.save", "torch.from_file", "torch.compile", "torch.hub.load",
     "torch.nn.init.uniform_", "torch.nn.functional.handle_torch_function",
     "torch.nn.functional.boolean_dispatch", "torch.as_strided_copy",
     "torch.fbgemm_linear_fp16_weight",
     "torch.nn.functional.triplet_margin_with_distance_loss", "torch.as_strided_scatter",
     "operator.methodcaller", "operator.attrgetter", "operator.setitem", "math.factorial",
     "math.__loader__", "builtins.eval", "builtins.open", "builtins.print", "builtins.map",
     "repq_fx.__class__.__name__", "repq_fx.name.upper", "builtins.getattr", "getattr", ""],
)  # fmt: skip
def test_functions_that_are_not_of_tensors_are_refused(name):
    with pytest.raises(ValueError, match="which is not allowed in a model file"):
        function_from_name(name)


@pytest.mark.parametrize(
    "function",
    [torch.relu, torch.conv2d, torch.nn.functional.hardswish, torch.arange, torch.zeros,
     torch.Size, torch.linalg.inv, torch.sym_max, operator.mod, math.ceil, math.dist, len, int,
     float, bool, min, max, abs, round, sum, slice, OrderedDict, operator.abs, torch.relu_,
     torch.nn.functional.relu_, torch.ops.aten.fill.Tensor, torch.ops.aten.fill.Scalar],
)  # fmt: skip
def test_functions_of_tensors_have_a_name(function):
    assert function_from_name(function_name(function)) is function


def test_a_function_of_something_else_is_refused():
    with pytest.raises(FileFormatError, match=r"function .*load.* cannot be stored"):
        function_name(torch.load)


# Names of parameters of what writes, loads, registers or is called back; `key` is a tensor's.
SUSPICIOUS = re.compile(
    "file|path|^(f|fn|ctx|hook|pickle|storage)$|func|hook|callable|callback|ptr|storage_offset"
)


def parameters(function):
    """Those of a function, which torch's own account of it has where Python cannot tell."""
    try:
        return inspect.signature(
            get_testing_overrides().get(function, function)
        ).parameters.values()
    except ValueError:  # Of a builtin without a signature.
        return ()


def test_no_function_takes_a_file_or_another_function():
    for name, function in all_functions().items():
        for parameter in parameters(function):
            assert not SUSPICIOUS.search(parameter.name), f"{name}({parameter})"
            assert "Callable" not in str(parameter.annotation), f"{name}({parameter})"


def test_every_function_comes_back_under_its_name():
    assert len(all_functions()) > 700
    for function in all_functions().values():
        assert function_from_name(function_name(function)) is function


def test_no_function_is_of_another_module_than_those_of_numbers_and_tensors():
    modules = {name.rpartition(".")[0] for name in all_functions()}
    of_torch = {
        f"torch{each}"
        for each in ("", ".nn.functional", ".functional", ".linalg", ".fft", ".special")
    }
    assert modules == {"builtins", "math", "operator", "collections"} | of_torch


@pytest.mark.parametrize("name", ["values", "indices", "mT", "ndim", "shape"])
def test_results_of_several_are_read_by_name(name):
    assert name in ATTRIBUTES


@pytest.mark.parametrize(
    "name", ["data", "grad", "grad_fn", "_base", "numpy", "__class__", "count"]
)
def test_other_attributes_are_not_read(name):
    assert name not in ATTRIBUTES


@pytest.mark.parametrize(
    "function", [torch.relu_, F.hardtanh_, F.leaky_relu_], ids=lambda function: function.__name__
)
def test_what_works_in_place_is_known_where_its_twin_is(function):
    assert function_from_name(function_name(function)) is function
