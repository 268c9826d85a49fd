"""Every re-parameterizable family of timm, against the training form.

timm's own converter only says how few convolutions there can be.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from tests.real_models import (
    TOLERANCE,
    conv_count,
    merge,
    norms_behind_convs,
    randomize,
    unused_tensors,
)

timm = pytest.importorskip("timm", reason="timm is not installed")


@dataclass(frozen=True)
class Case:
    """A timm model and the sizes of the images it is tested on.

    Attributes:
        side: Of the example.
        other: Height and width of another image, for models that take any size.
    """

    name: str
    side: int = 64
    other: tuple[int, int] | None = (65, 47)
    slow: bool = False

    @property
    def param(self):
        return pytest.param(self, id=self.name, marks=[pytest.mark.slow] if self.slow else [])


CASES = [
    Case("repvgg_a0"),
    Case("repvgg_b1g4", slow=True),
    # With squeeze and excitation; so deep that only the example's size is well conditioned.
    Case("repvgg_d2se", other=None, slow=True),
    Case("test_byobnet"),
    Case("mobileone_s0", slow=True),
    Case("mobileone_s1"),
    Case("mobileone_s2", slow=True),
    Case("mobileone_s3", slow=True),
    # With squeeze and excitation.
    Case("mobileone_s4", slow=True),
    Case("fastvit_t8", other=(96, 64)),
    # With attention and conditional position encodings.
    Case("fastvit_sa12", other=(96, 64), slow=True),
    # The image towers of MobileCLIP and MobileCLIP2.
    Case("fastvit_mci0", other=(96, 64), slow=True),
    Case("fastvit_mci3", other=(96, 64), slow=True),
    Case("vit_base_mci_224", side=224, other=None, slow=True),
    Case("repvit_m0_9"),
    Case("repvit_m1", slow=True),
    Case("repghostnet_050"),
    Case("ghostnetv3_050", slow=True),
    Case("lcnetv2_small"),
    Case("nextvit_small", other=(96, 64), slow=True),
    # Batch norms on and behind linear layers.
    Case("levit_128s", side=224, other=None),
    Case("levit_conv_128s", side=224, other=None, slow=True),
    Case("tiny_vit_5m_224", side=224, other=None, slow=True),
    Case("efficientvit_m0", side=224, other=None, slow=True),
    Case("efficientvim_m1", side=224, other=None, slow=True),
    Case("shvit_s1", other=(128, 64)),
    Case("iformer_t", side=224, other=None, slow=True),
    Case("iformer_m_distilled", side=224, other=None, slow=True),
]


@pytest.mark.parametrize("case", [case.param for case in CASES])
def test_family(case):
    shape = (3, case.side, case.side)
    model = randomize(timm.create_model(case.name).eval(), (8, *shape))
    by_timm = timm.utils.reparameterize_model(model)
    more = [] if case.other is None else [torch.randn(1, 3, *case.other)]
    merged = merge(model, torch.randn(2, *shape), *more)
    assert merged.error <= TOLERANCE
    assert conv_count(merged.result) <= conv_count(by_timm)
    assert norms_behind_convs(merged.result) == []
    assert unused_tensors(merged.result) == []


def test_every_family_is_here():
    """A family that a newer timm adds has a file with a converter, and no case above."""
    converter = re.compile(r"def (fuse|reparameterize|switch_to_deploy)\(self")
    files = Path(timm.models.__file__).parent.glob("*.py")
    families = {file.stem for file in files if converter.search(file.read_text(encoding="utf-8"))}
    covered = {
        family
        for family in families
        if any(timm.models.is_model_in_modules(case.name, [family]) for case in CASES)
    }
    assert covered == families
