"""Which functions and methods a file may call."""

import pytest
import torch

from repq_fx import FileFormatError
from repq_fx.export.targets import check_method, function_from_name, function_name


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
     "operator.methodcaller", "operator.attrgetter", "operator.setitem", "math.dist",
     "repq_fx.__class__.__name__", "repq_fx.name.upper", "builtins.getattr", "getattr", ""],
)  # fmt: skip
def test_functions_that_are_not_of_tensors_are_refused(name):
    with pytest.raises(ValueError, match="which is not allowed in a model file"):
        function_from_name(name)


@pytest.mark.parametrize(
    "function", [torch.relu, torch.conv2d, torch.nn.functional.hardswish, torch.arange]
)
def test_functions_of_tensors_have_a_name(function):
    assert function_from_name(function_name(function)) is function


def test_a_function_of_something_else_is_refused():
    with pytest.raises(FileFormatError, match=r"function .*load.* cannot be stored"):
        function_name(torch.load)
