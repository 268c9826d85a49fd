"""Which operators of torch's dispatcher a file may call."""

import re

import pytest
import torch

from repq_fx import FileFormatError
from repq_fx.export.targets import check_operands, function_from_name, function_name

aten = torch.ops.aten


def all_operators():
    for qualified in torch._C._dispatch_get_all_op_names():
        namespace, name = qualified.split("::")
        packet, _, overload = name.partition(".")
        found = getattr(getattr(torch.ops, namespace), packet, None)
        found = getattr(found, overload or "default", None)
        if found is not None:
            yield found


def is_allowed(operator):
    try:
        function_name(operator)
    except FileFormatError:
        return False
    return True


def test_every_allowed_operator_is_one_of_values():
    allowed = [each for each in all_operators() if is_allowed(each)]
    assert len(allowed) > 1000
    for operator in allowed:
        assert function_from_name(function_name(operator)) is operator
        assert operator.namespace in ("aten", "prims", "quantized_decomposed", "repq_fx")
        schema = str(operator._schema)
        arguments = schema.partition("(")[2].partition(" -> ")[0]
        kinds = set(re.findall(r"(?:^|, )(?:\*, )?([A-Za-z]+)", re.sub(r"=\S+", "", arguments)))
        assert kinds <= {
            "Tensor", "int", "SymInt", "Scalar", "float", "bool", "SymBool", "str", "Device",
            "ScalarType", "Layout", "MemoryFormat",
        }, schema  # fmt: skip
        # In place, and then the first argument; never the second or one called `out`.
        assert not re.search(r", .*\([a-z]!", arguments), schema
        if "!" in arguments:
            assert operator._schema.name.endswith("_"), schema
        assert not re.search("file|hook|callback", arguments), schema
        if operator.namespace in ("aten", "prims"):
            assert not re.search("file|storage|strided|resize|backward", operator.name())


@pytest.mark.parametrize(
    "operator",
    [aten.slice.Tensor, aten.add.Tensor, aten.scaled_dot_product_attention.default,
     aten._softmax.default, aten.silu_.default, aten.upsample_bicubic2d.vec,
     aten.einsum.default, aten.linalg_inv.default, aten.__and__.Tensor, aten.sym_size.int,
     aten.lift_fresh_copy.default, aten.fill.Tensor, aten.zero.default,
     torch.ops.quantized_decomposed.quantize_per_tensor.default,
     torch.ops.repq_fx.require_size.default, torch.ops.prims.convert_element_type.default],
    ids=str,
)  # fmt: skip
def test_operators_of_an_exported_graph_have_a_name(operator):
    assert function_from_name(function_name(operator)) is operator


@pytest.mark.parametrize(
    "name",
    ["aten.save.default", "aten.from_file.default", "aten.set_.source_Tensor",
     "aten.resize_.default", "aten.as_strided.default", "aten.as_strided_scatter.default",
     "aten.add.out", "aten.bernoulli.default_", "aten.normal_.default", "aten.conv2d",
     "aten.convolution_backward.default", "aten._fft_r2c.default", "aten._print.default",
     "aten._cudnn_rnn.default", "aten.pin_memory.default", "aten.record_stream.default",
     "aten.requires_grad_.default", "prims._make_token.default", "aten.sub.__class__",
     "aten.__init__.__globals__", "quantized.conv2d_prepack.default", "profiler._record_function.x",
     "repq_fx.update_histogram.default"],
)  # fmt: skip
def test_operators_that_do_more_or_trust_their_arguments_are_refused(name):
    with pytest.raises(ValueError, match="which is not allowed in a model file"):
        function_from_name(name)


@pytest.mark.parametrize(
    ("operator", "kwargs"),
    [(aten._to_copy.default, {"dtype": 100}), (aten.to.dtype_layout, {"layout": 77}),
     (aten.empty.memory_format, {"memory_format": True}), (aten.sum.default, {"dtype": 1.5})],
    ids=str,
)  # fmt: skip
def test_a_number_is_no_constant_of_torch(operator, kwargs):
    with pytest.raises(ValueError, match=f"is given .* as its '{next(iter(kwargs))}'"):
        check_operands(operator, (torch.ones(1),), kwargs)


def test_a_number_at_the_place_of_a_constant_is_refused():
    with pytest.raises(ValueError, match="is given 5 as its 'dtype'"):
        check_operands(aten.view.dtype, (torch.ones(1), 5), {})
    check_operands(aten.view.dtype, (torch.ones(1), torch.int32), {})
