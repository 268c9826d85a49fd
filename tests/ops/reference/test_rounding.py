import torch

from repq_fx.ops.reference.rounding import _philox, uniform_like


def test_philox_gives_the_words_its_authors_published():
    # Of the known answers of Random123 the one that has nothing but zeros as counter and key.
    words = _philox(0, torch.tensor([0])).tolist()
    assert words == [[0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]]


def test_positions_are_those_in_memory():
    contiguous = torch.zeros(2, 3, 4, 5)
    last = contiguous.to(memory_format=torch.channels_last)
    drawn = uniform_like(contiguous, seed=7).flatten()
    assert torch.equal(uniform_like(last, seed=7).permute(0, 2, 3, 1).flatten(), drawn)
    assert drawn.unique().numel() == drawn.numel()
    assert 0 <= drawn.min() < drawn.max() < 1
