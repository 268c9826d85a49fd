"""Which range rule suits which data: `python -m benchmarks.accuracy.mse_or_mae`.

MobileOne-S0 with float weights, so that activations alone are quantized, and no other helper:
ranges from the float network's tensors, and from those that arrive when all before is quantized.
"""

from dataclasses import replace

import torch
from tqdm import tqdm

from benchmarks.accuracy.mobileone import load_task
from benchmarks.accuracy.protocol import data_argument
from benchmarks.publish import protocol_report, publish
from repq_fx import MAE, MSE, PerChannel, Scheme, analysis, api, reparameterize
from repq_fx.analysis.report import Column, Columns, Row, decimals

# Weights keep 16 bits: their error is 40 dB below that of the activations.
_WEIGHT_BITS = 16


COLUMNS: Columns = (
    Column("name", "ranges"),
    Column("bits", "bits"),
    Column("top1", "top-1 %"),
    Column("sqnr_db", "SQNR dB", decimals(1)),
    # How much of the float logits is left in the quantized ones.
    Column("gain", "gain", decimals(3)),
)


def main() -> None:
    arguments = data_argument(__doc__)
    task = load_task(arguments.data)
    merged = reparameterize(task.model, task.images[:2])
    expected = analysis.predict(merged, task.images.split(50), progress=False)
    rows = []
    cases = [(b, s, r) for b in (8, 6) for s in (False, True) for r in (MSE(), MAE())]
    for bits, sequential, rule in tqdm(cases, unit="scheme"):
        scheme = Scheme.plain(_WEIGHT_BITS, bits, PerChannel(), rule)
        quantized = api.quantize(
            merged, task.calibration, backend="reference", progress=False,
            scheme=replace(scheme, sequential_ranges=sequential),
        )  # fmt: skip
        actual = analysis.predict(quantized, task.images.split(50), progress=False)
        rows.append(
            Row(
                f"{type(rule).__name__}, {'what arrives' if sequential else 'float network'}",
                bits=bits,
                top1=100 * float((actual.argmax(1) == task.labels).float().mean()),
                sqnr_db=analysis.sqnr_db(expected, actual),
                gain=float(torch.sum(expected * actual) / torch.sum(expected.square())),
            )
        )
    title = f"{task.name}, activations only: {task.protocol}"
    publish("mse_or_mae", protocol_report(title, COLUMNS, rows))


if __name__ == "__main__":
    main()
