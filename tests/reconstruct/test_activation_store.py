"""Half precision with a power of two for each image, in memory and on disk."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repq_fx.reconstruct.activation_store import ActivationStore

CPU = torch.device("cpu")
ALL = 2**30


@pytest.fixture
def mapped(monkeypatch):
    """Bytes of each file that is mapped."""
    sizes = []
    original = torch.from_file

    def spy(*args, size, **options):
        sizes.append(2 * size)
        return original(*args, size=size, **options)

    monkeypatch.setattr(torch, "from_file", spy)
    return sizes


def read_back(values, limit=ALL):
    with ActivationStore(len(values), limit) as store:
        store.write("x", 0, values)
        return store["x"].read(torch.arange(len(values)), CPU).clone()


def assert_close(found, values):
    largest = values.reshape(len(values), -1).abs().amax(1).reshape(-1, *[1] * (values.dim() - 1))
    bound = torch.maximum(values.abs() * 2.0**-11, largest * 2.0**-38)
    assert ((found - values).abs() <= bound).all()


@given(
    exponents=st.lists(st.integers(-99, 126), min_size=1, max_size=5),
    spread=st.floats(0, 30),
    seed=st.integers(0, 2**31),
)
def test_what_is_read_is_within_the_bound(exponents, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(len(exponents), 3, 4, generator=generator) * 2 - 1
    values *= torch.exp2(-spread * torch.rand(values.shape, generator=generator))
    values *= torch.exp2(torch.tensor(exponents, dtype=torch.float32)).reshape(-1, 1, 1)
    assert_close(read_back(values), values)


@pytest.mark.parametrize("limit", [0, ALL], ids=["disk", "memory"])
def test_images_of_any_magnitude_stand_side_by_side(limit):
    values = torch.randn(6, 2, 3)
    values[0] *= 1e30
    values[1] *= 1e-30
    values[2] = 0
    values[3] = 3.4e38
    values[4, 0, 0] = 1e30
    found = read_back(values, limit)
    assert_close(found, values)
    assert not found[2].any()
    assert (found[1] != 0).all()


def test_powers_of_two_and_small_integers_are_exact():
    values = torch.arange(-60.0, 60.0).reshape(4, 30)
    assert torch.equal(read_back(values), values)


def test_any_images_are_read_in_any_order():
    values = torch.randn(7, 3)
    with ActivationStore(7, ALL) as store:
        for start in (4, 0, 2, 6):  # Batches need not come in order.
            store.write("x", start, values[start : start + 2])
        chosen = torch.tensor([6, 0, 3, 3])
        assert_close(store["x"].read(chosen, CPU), values[chosen])


def test_what_is_over_the_limit_goes_to_files(tmp_path, mapped):
    first, second, third = torch.randn(3, 4, 10)
    with ActivationStore(4, 100, str(tmp_path)) as store:
        store.write("first", 0, first)
        assert mapped == []
        store.write("second", 0, second)
        assert mapped == [80]
        store.write("small", 0, first[:, :2])  # 16 bytes still fit.
        assert mapped == [80]
        store.keep_only(["second"])
        store.write("third", 0, third)
        assert mapped == [80]
        for name, value in (("second", second), ("third", third)):
            assert torch.equal(store[name].read(torch.arange(4), CPU), read_back(value))
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def interrupted(folder):
    with ActivationStore(4, 0, folder) as store:
        store.write("x", 0, torch.randn(4, 10))
        raise KeyboardInterrupt


def test_files_are_gone_after_an_error_too(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_large_file(tmp_path):
    with ActivationStore(4, 0, str(tmp_path)) as store:
        store.write("x", 0, torch.randn(4, 1000))
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in files) == 0


def test_a_name_can_stand_for_the_same_tensor():
    values = torch.randn(4, 3)
    with ActivationStore(4, ALL) as store:
        store.write("exact", 0, values)
        store.share("quantized", "exact")
        assert store["quantized"] is store["exact"]
        store.keep_only(["quantized"])
        assert "exact" not in store
        assert_close(store["quantized"].read(torch.arange(4), CPU), values)


def test_only_what_is_named_is_kept():
    with ActivationStore(2, ALL) as store:
        for name in "abc":
            store.write(name, 0, torch.randn(2, 3))
        store.keep_only(["b", "unknown"])
        assert [name in store for name in "abc"] == [False, True, False]


@pytest.mark.parametrize(("divisor", "factor"), [(4.0, 0.25), (0.0, 1.0), (1e-30, 1e30)])
def test_dividing_loses_nothing(divisor, factor):
    values = torch.randn(4, 3)
    with ActivationStore(4, ALL) as store:
        store.write("x", 0, values)
        before = store["x"].read(torch.arange(4), CPU)
        store["x"].divide(divisor)
        after = store["x"].read(torch.arange(4), CPU)
    torch.testing.assert_close(after, before * factor, rtol=1e-6, atol=0)


def test_scalars_of_each_image_fit_too():
    values = torch.tensor([1.0, -3.0, 0.0])
    assert torch.equal(read_back(values), values)
