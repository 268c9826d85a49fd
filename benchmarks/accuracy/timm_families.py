"""One small model of each family of timm, with random weights, through the whole road to a file.

    python -m benchmarks.accuracy.timm_families [NAME ...]

Each is merged, quantized on a few images of noise, saved, loaded, and run at another batch and,
where the model takes any, another size. What is compared is our integer programs with the reference
backend, both against the float model: they must be within a decibel. Weights are random, so the
figures say nothing about accuracy. Run it from the repository root.
"""

import argparse
import copy
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

import repq_fx
from benchmarks.publish import protocol_report, publish
from repq_fx import MSE, PerChannel, Scheme
from repq_fx.analysis import sqnr_db
from repq_fx.analysis.report import Column, Columns, Remark, Row, decimals
from repq_fx.lowering.int8.instructions import Int8Program
from tests.real_models import randomize, tensors

IMAGES = 4
# A random net amplifies single levels, by chance one way or the other.
_JUDGES = 8
# Without what improves accuracy only: this is about what runs.
_SCHEME = Scheme.plain(8, 8, PerChannel(), MSE())


@dataclass(frozen=True)
class Family:
    """A model of timm, the side of its calibration images, and another size if it takes any."""

    name: str
    side: int = 64
    other: tuple[int, int] | None = (96, 64)


FAMILIES = tuple(
    entry if isinstance(entry, Family) else Family(entry)
    for entry in (
        Family("beit_base_patch16_224", 224, None),
        Family("botnet26t_256", 256, None),
        "repvgg_a0",
        "mobileone_s0",
        Family("cait_xxs24_224", 224, None),
        Family("coat_tiny", 224, None),
        "convmixer_768_32",
        "convnext_atto",
        "convnextv2_atto",
        "cspresnet50",
        "cspdarknet53",
        Family("davit_tiny", 224, None),
        Family("deit_tiny_patch16_224", 224, None),
        "densenet121",
        "dla46_c",
        "dpn48b",
        "edgenext_xx_small",
        Family("efficientformer_l1", 224, None),
        Family("efficientformerv2_s0", 224, None),
        "efficientnet_lite0",
        "tf_efficientnetv2_b0",
        "efficientvit_b0",
        Family("efficientvit_m0", 224, None),
        "fasternet_t0",
        "fastvit_t8",
        Family("focalnet_tiny_srf", 224, None),
        Family("gcvit_xxtiny", 224, None),
        "ghostnet_050",
        "ghostnetv2_100",
        "hardcorenas_a",
        "hgnetv2_b0",
        "hrnet_w18_small",
        "inception_next_atto",
        Family("inception_v3", 128, (160, 128)),
        "lcnet_050",
        "lcnetv2_small",
        Family("levit_128s", 224, None),
        "mambaout_femto",
        Family("coatnet_nano_rw_224", 224, None),
        "poolformer_s12",
        "caformer_s18",
        Family("mixer_s32_224", 224, None),
        "mobilenetv3_small_050",
        "mobilenetv4_conv_small",
        # Maps that patches do not divide are resized, by an `if` that the example decides.
        Family("mobilevit_xxs", other=(128, 64)),
        Family("mobilevitv2_050", other=(128, 64)),
        "nfnet_l0",
        "nextvit_small",
        Family("pit_ti_224", 224, None),
        "pvt_v2_b0",
        "regnetx_002",
        "regnety_002",
        "repghostnet_050",
        "repvit_m0_9",
        "res2net50_14w_8s",
        "resnest14d",
        "resnet10t",
        "resnetv2_18",
        "rexnet_100",
        "selecsls42",
        "seresnet18",
        "shvit_s1",
        "skresnet18",
        "starnet_s1",
        "swiftformer_xs",
        Family("swin_tiny_patch4_window7_224", 224, None),
        "tresnet_m",
        Family("tiny_vit_5m_224", 224, None),
        Family("twins_svt_small", 224, None),
        "vgg11_bn",
        Family("visformer_tiny", 224, None),
        Family("vit_tiny_patch16_224", 224, None),
        "ese_vovnet19b_dw",
        "xception41",
        Family("xcit_nano_12_p16_224", 224, None),
    )
)


def _in_float(operations: str) -> str:
    return f"in float {operations}" if operations else ""


COLUMNS: Columns = (
    Column("name", "name"),
    Column("reference", "reference dB", decimals(1)),
    Column("int8", "integer dB", decimals(1)),
    Column("other_size", "other size", decimals(1)),
    Column("programs", "programs"),
    Remark("floats", _in_float),
    Column("seconds", "seconds", decimals(0)),
    Remark("failure"),  # The sentence that ended it.
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [
        family for family in FAMILIES if not arguments.names or family.name in arguments.names
    ]
    outcomes = []
    for family in chosen:
        outcomes.append(measure(family))
        print(outcomes[-1], flush=True)
    name = None if arguments.names else "timm_families"
    publish(name, protocol_report("timm, random weights", COLUMNS, outcomes))


def measure(family: Family) -> Row:
    """Quantize one model; a failure ends up in the row, with the place that raised it."""
    start = time.perf_counter()
    try:
        return _measure(family, start)
    except Exception as error:
        seconds = time.perf_counter() - start
        failure = f"{type(error).__name__}: {error}"
        return Row(family.name, floats="", seconds=seconds, failure=failure)


def _measure(family: Family, start: float) -> Row:
    torch.manual_seed(0)
    shape = (IMAGES, 3, family.side, family.side)
    model = randomize(timm.create_model(family.name).eval(), shape)
    images = torch.randn(shape)
    prepared = repq_fx.api.prepare(repq_fx.reparameterize(model, images), images, _SCHEME)
    repq_fx.calibrate(prepared, images, progress=False)
    reference, lowered = (repq_fx.convert(prepared, backend) for backend in ("reference", "int8"))
    with tempfile.TemporaryDirectory() as folder:
        repq_fx.save(lowered, Path(folder, "model.repq"))
        loaded = repq_fx.load(Path(folder, "model.repq"))
    batch = torch.randn(_JUDGES, *shape[1:])
    other = None if family.other is None else torch.randn(1, 3, *family.other)
    with torch.no_grad():
        return Row(
            family.name,
            reference=_ratio(model, reference, batch),
            int8=_ratio(model, loaded, batch),
            other_size=None if other is None else _ratio(model, loaded, other),
            programs=sum(isinstance(module, Int8Program) for module in lowered.modules()),
            floats=_float_operations(loaded),
            seconds=time.perf_counter() - start,
        )


def _ratio(model: nn.Module, quantized: nn.Module, images: Tensor) -> float:
    known, found = tensors(copy.deepcopy(model)(images)), tensors(quantized(images))
    return min(sqnr_db(*pair) for pair in zip(known, found, strict=True))


def _float_operations(quantized: GraphModule) -> str:
    """What the graph calls beside programs, most frequent first."""
    names: Counter[str] = Counter()
    for node in quantized.graph.nodes:
        if node.op == "call_module":
            module = quantized.get_submodule(str(node.target))
            if not isinstance(module, Int8Program):
                names[type(module).__name__] += 1
        elif node.op in ("call_function", "call_method"):
            names[getattr(node.target, "__name__", str(node.target))] += 1
    return ", ".join(f"{count} {name}" for name, count in names.most_common())


if __name__ == "__main__":
    main()
