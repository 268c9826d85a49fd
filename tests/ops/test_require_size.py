import pytest
import torch

from repq_fx.errors import SizeError

require_size = torch.ops.repq_fx.require_size.default


@pytest.mark.parametrize(("found", "expected"), [(8, 8), (3, True), (0, False), (2.5, 2.5)])
def test_passes_what_the_graph_was_traced_with(found, expected):
    require_size(torch.ones(1, 8), found, expected, "x.shape[1]", [1, 8])


@pytest.mark.parametrize(("found", "expected"), [(9, 8), (3, False), (0, True), (2.5, 2)])
def test_refuses_anything_else(found, expected):
    with pytest.raises(SizeError, match=r"input of \[1, 8\], on which x is .* of \[1, 9\] makes"):
        require_size(torch.ones(1, 9), found, expected, "x", [1, 8])


def test_is_an_operator_of_torch():
    arguments = (torch.ones(1, 8), 8, 8, "x.shape[1]", [1, 8])
    torch.library.opcheck(require_size, arguments)
