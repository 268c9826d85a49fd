import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import repq_fx
from repq_fx.export.names import check_path, plain_paths

WORDS = st.text("aB1_/-. ü", min_size=1, max_size=4).filter(lambda word: "." not in word)
PATHS = st.lists(st.lists(WORDS, min_size=1, max_size=3).map(".".join), max_size=8)


@given(paths=PATHS)
def test_paths_of_a_file_are_plain_and_as_many(paths):
    plain = plain_paths(paths)
    found = [check_path(plain[path], "the layer") for path in set(paths)]
    assert len(set(found)) == len(found)
    for path in paths:
        owner = path.rpartition(".")[0]
        assert not owner or plain[path].startswith(f"{plain[owner]}.")


@given(paths=st.lists(st.text("ab_", min_size=1, max_size=3), max_size=4))
def test_plain_paths_stay(paths):
    known = [path for path in paths if not path.startswith("__")]
    plain = plain_paths([*known, "a/b", "a b"])
    assert [plain[path] for path in known] == known


@pytest.mark.parametrize("backend", ["reference", "x86"])
def test_layers_with_names_of_converters_are_saved(tmp_path, backend):
    model = nn.Sequential()
    model.add_module("/features/0/Conv", nn.Conv2d(3, 4, 3))
    model.add_module("_features_0_Conv", nn.Softmax(1))
    model.add_module("Ausgabe (groß)", nn.Conv2d(4, 2, 1))
    images = torch.randn(4, 3, 8, 8)
    quantized = repq_fx.quantize(model.eval(), images, backend=backend, progress=False)
    repq_fx.save(quantized, tmp_path / "model.repq")
    assert torch.equal(repq_fx.load(tmp_path / "model.repq")(images), quantized(images))
