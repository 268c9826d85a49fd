"""Which configurations of which tool are compared, and at which widths."""

from dataclasses import dataclass, field

Width = tuple[int, int]  # weight bits, activation bits

W8A8, W6A6, W4A8 = WIDTHS = ((8, 8), (6, 6), (4, 8))
W4A4 = (4, 4)
RECONSTRUCTION_WIDTHS: tuple[Width, ...] = (W6A6, W4A8, W4A4)


@dataclass(frozen=True)
class Tool:
    """A tool, named as its environment and its adapter are.

    Attributes:
        name: The stem of the adapter.
        configurations: Keys of the adapter's table for each width.
        not_offered: Why there is nothing to compare at a width.
    """

    name: str
    configurations: dict[Width, tuple[str, ...]]
    not_offered: dict[Width, str] = field(default_factory=dict)


_ONNX_RUNTIME = ("min-max", "entropy, 1024 bins", "percentile 99.99")
_AIMET = ("percentile 99.99", "TF enhanced", "CLE, TF enhanced")
_BREVITAS = ("CLE, bias correction", "GPTQ, bias correction", "CLE, GPTQ, bias correction")

TOOLS = (
    Tool("torch_fx", {W8A8: ("onednn", "x86"), W6A6: ("fake",), W4A8: ("fake",)}),
    Tool(
        "onnxruntime", {W8A8: _ONNX_RUNTIME, W4A8: _ONNX_RUNTIME},
        {W6A6: "not offered: tensor types have 4, 8 or 16 bits"},
    ),
    Tool(
        "nncf",
        {W8A8: ("default", "min-max", "accurate, min-max", "accurate, histogram"),
         W4A8: ("default", "accurate, min-max")},
        {W6A6: "not offered: no target device has 6 bits"},
    ),
    Tool(
        "mct",
        {W8A8: ("IMX500", "uniform, all corrections"), W6A6: ("uniform, all corrections",),
         W4A8: ("uniform, all corrections",)},
    ),
    Tool(  # AIMET skips its sequential MSE above 4 bits.
        "aimet",
        {W8A8: ("min-max", "CLE, min-max", *_AIMET), W6A6: _AIMET,
         W4A8: (*_AIMET, "sequential MSE", "CLE, sequential MSE")},
    ),
    Tool(
        "brevitas",
        {W8A8: ("default", "CLE, bias correction, MSE", *_BREVITAS), W6A6: _BREVITAS,
         W4A8: _BREVITAS},
    ),
)  # fmt: skip


def _at_every_width(tool: str, *configurations: str) -> Tool:
    return Tool(tool, dict.fromkeys(RECONSTRUCTION_WIDTHS, configurations))


# Those that learn how to round, and GPTQ, which does the same without gradients.
RECONSTRUCTION_TOOLS = (
    _at_every_width("aimet", "AdaRound", "CLE, AdaRound"),
    _at_every_width(
        "brevitas", "GPTQ, bias correction", "learned round",
        "asymmetric MSE, GPTQ, bias correction", "asymmetric MSE, learned round",
    ),
    _at_every_width(  # Its own settings have 8 bits in the first and the last layer.
        "mqbench", "AdaRound", "BRECQ", "QDrop", "AdaRound, every layer", "BRECQ, every layer",
        "QDrop, every layer",
    ),
)  # fmt: skip
