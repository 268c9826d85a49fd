"""Edits of the lowered seed model that were once found to do harm, or would by the same means."""

from collections.abc import Callable
from typing import Any

from .model_file import ModelFile
from .mutations import PAYLOADS

Attack = Callable[[ModelFile], None]

_CODE = PAYLOADS[:6]
_HUGE = (2**31, 2**32, 2**62, 2**63 - 1, -1)


def _program(file: ModelFile) -> Any:
    return file.graph["layers"]["program"]["program"]


def _whole(file: ModelFile) -> Any:
    return file.graph


def _layer(file: ModelFile, name: str) -> Any:
    return _program(file)["layers"][name]["attributes"]


def _pair(layer: str, setting: str, rows: object, columns: object) -> Attack:
    def attack(file: ModelFile) -> None:
        _layer(file, layer)[setting] = {"tuple": [rows, columns]}

    return attack


def _geometry(layer: str, setting: str, value: object) -> Attack:
    def attack(file: ModelFile) -> None:
        _layer(file, layer)["geometry"]["record"][1]["dict"][setting] = value

    return attack


def _plain(layer: str, setting: str, value: object) -> Attack:
    def attack(file: ModelFile) -> None:
        _layer(file, layer)[setting] = value

    return attack


def _grid(setting: str, value: object) -> Attack:
    def attack(file: ModelFile) -> None:
        grid = _layer(file, "mean")["output_grid"]["record"][1]["dict"]
        grid[setting] = value

    return attack


def _name_in_graph(graph_of: Callable[[ModelFile], Any], operation: str, code: str) -> Attack:
    """A target, and the names that refer to it, become code."""

    def attack(file: ModelFile) -> None:
        graph = graph_of(file)
        node = next(each for each in graph["nodes"] if each["op"] == operation)
        old = node["target"]
        node["target"] = code
        if operation == "call_module":
            graph["layers"][code] = graph["layers"].pop(old)

    return attack


def _keyword(code: str) -> Attack:
    def attack(file: ModelFile) -> None:
        file.graph["nodes"][1]["kwargs"]["dict"][code] = 0

    return attack


def _doublings(times: int) -> Attack:
    """A value is joined to itself again and again, which doubles its channels each time."""

    def attack(file: ModelFile) -> None:
        graph = _program(file)
        place = next(i for i, each in enumerate(graph["nodes"]) if each["name"] == "pool")
        last = "pool"
        for index in range(times):
            name = f"double_{index}"
            graph["layers"][name] = {**graph["layers"]["cat"]}
            args = {"tuple": [{"node": last}, {"node": last}]}
            graph["nodes"].insert(
                place + 1 + index,
                {"op": "call_module", "name": name, "target": name, "args": args,
                 "kwargs": {"dict": {}}},
            )  # fmt: skip
            last = name
        flatten = next(each for each in graph["nodes"] if each["name"] == "flatten")
        flatten["args"] = {"tuple": [{"node": last}]}

    return attack


def _attacks() -> dict[str, Attack]:
    attacks: dict[str, Attack] = {f"doubled {n} times": _doublings(n) for n in (40, 62, 64)}
    for code_number, code in enumerate(_CODE):
        for graph, graph_of in (("graph", _whole), ("program", _program)):
            for operation in ("placeholder", "call_module"):
                name = f"{operation} of the {graph} is code {code_number}"
                attacks[name] = _name_in_graph(graph_of, operation, code)
        attacks[f"keyword is code {code_number}"] = _keyword(code)
    for value in _HUGE:
        for layer, setting in (("pool", "kernel"), ("pool", "stride"), ("pool", "padding"),
                               ("pool", "dilation"), ("mean", "kernel"), ("mean", "padding"),
                               ("mean", "stride"), ("up", "factor")):  # fmt: skip
            attacks[f"{layer} {setting} {value}"] = _pair(layer, setting, value, value)
        for layer in ("stem", "depthwise"):
            for setting in ("stride", "padding", "dilation"):
                pair = {"tuple": [value, value]}
                attacks[f"{layer} {setting} {value}"] = _geometry(layer, setting, pair)
            attacks[f"{layer} groups {value}"] = _geometry(layer, "groups", value)
        attacks[f"shuffle factor {value}"] = _plain("shuffle", "factor", value)
        attacks[f"chunk index {value}"] = _plain("getitem", "index", value)
        attacks[f"zero point {value}"] = _grid("zero_point", value)
        attacks[f"highest level {value}"] = _grid("highest", value)
    for scale in (float("nan"), float("inf"), 0.0, -1.0, 1e-300):
        attacks[f"scale {scale}"] = _grid("scale", scale)
    attacks["chunks 0"] = _plain("getitem", "chunks", 0)
    attacks["chunks 2^63 - 1"] = _plain("getitem", "chunks", 2**63 - 1)
    attacks["levels in the wrong order"] = _grid("lowest", 300)
    attacks["pool padding as large as its kernel"] = _pair("pool", "padding", 3, 3)
    return attacks


ATTACKS = _attacks()
"""By name; each must be refused, or raise a usual exception in use."""
