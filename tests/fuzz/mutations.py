"""Damage to files: single edits of the graph, of the tensors' descriptions, and of bytes."""

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

from repq_fx.reconstruct.checkpoint import _first_line

from .model_file import ModelFile

CANARY = "PWNED"
"""The file that appears where a payload was executed."""
PAYLOADS = (
    f"x=__import__('os').system('touch {CANARY}')",
    f"a=__import__('os').system('touch {CANARY}'),b",
    f"__import__('os').system('touch {CANARY}')",
    f"x\nimport os; os.system('touch {CANARY}')\n",
    f"x): pass\nimport os; os.system('touch {CANARY}')\ndef f(y",
    f"x'+str(__import__('os').system('touch {CANARY}'))+'",
    "__class__", "__init__.__globals__", "forward", "_modules", "training", "self", "class", "",
    ".", "a..b", "x" * 5000, "\x00", "é",
    "eval", "os.system", "builtins.exec", "torch.load", "torch.hub.load", "torch.from_file",
    "torch.ops.aten.add.Tensor", "repq_fx.__init__.__globals__", "getattr", "operator.getitem",
    "torch.pixel_shuffle", "torch.nn.functional.max_pool2d", "tofile", "apply_", "numpy",
    "Conv2d", "Module", "Sequential", "LSTM", "int8.Concatenate", "int8.PixelShuffle",
    "int8.Instruction", "float64", "int8", "call_module", "call_function", "call_method",
    "placeholder", "output", "get_attr",
)  # fmt: skip
NUMBERS = (
    0, 1, -1, 2, 255, 256, 2**16, 2**16 + 1, 2**20, 2**31 - 1, 2**31, 2**32, 2**40, 2**62,
    2**63 - 1, -(2**63), 2**63, 10**40, 0.5, 1e-45, 3e38, 1e300, float("nan"), float("inf"),
    float("-inf"),
)  # fmt: skip
_OTHERS = (None, True, "x", [], {}, {"tuple": []}, {"node": "nowhere"}, {"slice": [0]}, [[0]])
_DTYPES = ("F32", "F64", "F16", "I8", "U8", "I16", "I64", "BOOL", "C64", "F8_E4M3", "nonsense")

# A place in a tree of JSON: a container, and a key or index of it.
Place = tuple[Any, Any]


def _places(tree: Any) -> Iterator[Place]:
    """Every place, outermost first."""
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(entries):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _set_number(random: random.Random, tree: Any) -> None:
    places = [p for p in _places(tree) if type(p[0][p[1]]) in (int, float)]
    container, key = random.choice(places)
    number = random.choice(NUMBERS)
    container[key] = number
    # Also rows and columns at once, whose product then is a square.
    if isinstance(container, list) and random.random() < 0.5:
        container[:] = [number if type(each) in (int, float) else each for each in container]


def _set_string(random: random.Random, tree: Any) -> None:
    places = [p for p in _places(tree) if isinstance(p[0][p[1]], str)]
    container, key = random.choice(places)
    other, other_key = random.choice(places)
    container[key] = random.choice((other[other_key], random.choice(PAYLOADS)))


def _rename_key(random: random.Random, tree: Any) -> None:
    container, key = random.choice([p for p in _places(tree) if isinstance(p[0], dict)])
    container[random.choice((*PAYLOADS, *container))] = container.pop(key)


def _set_other(random: random.Random, tree: Any) -> None:
    places = list(_places(tree))
    container, key = random.choice(places)
    source, source_key = random.choice(places)
    container[key] = copy.deepcopy(random.choice((source[source_key], random.choice(_OTHERS))))


def _edit_list(random: random.Random, tree: Any) -> None:
    lists = [p[0][p[1]] for p in _places(tree) if isinstance(p[0][p[1]], list) and p[0][p[1]]]
    chosen = random.choice(lists)
    index, other = random.randrange(len(chosen)), random.randrange(len(chosen))
    edits: tuple[Callable[[], object], ...] = (
        lambda: chosen.pop(index),
        lambda: chosen.insert(other, copy.deepcopy(chosen[index])),
        lambda: chosen.__setitem__(slice(None), chosen[::-1]),
        lambda: chosen.extend(copy.deepcopy(chosen[index]) for _ in range(62)),
        chosen.clear,
        lambda: chosen.insert(index, chosen.pop(other)),
    )
    random.choice(edits)()


def _drop_key(random: random.Random, tree: Any) -> None:
    container, key = random.choice([p for p in _places(tree) if isinstance(p[0], dict)])
    del container[key]


_TREE_EDITS = (_set_number, _set_number, _set_number, _set_string, _set_string, _rename_key,
               _set_other, _edit_list, _drop_key)  # fmt: skip


def _edit_tensors(random: random.Random, tensors: dict[str, Any]) -> None:
    name = random.choice(list(tensors))
    entry = tensors[name]
    edit = random.randrange(5)
    if edit == 0:
        entry["dtype"] = random.choice(_DTYPES)
    elif edit == 1:
        entry["shape"] = random.choice((entry["shape"][::-1], [], [0], [2**32, 2**32], [-1]))
    elif edit == 2:
        other = tensors[random.choice(list(tensors))]
        entry["dtype"], other["dtype"] = other["dtype"], entry["dtype"]
        entry["shape"], other["shape"] = other["shape"], entry["shape"]
    elif edit == 3:
        entry["data_offsets"] = [random.choice(NUMBERS[:16]), random.choice(NUMBERS[:16])]
    else:
        tensors[random.choice((*PAYLOADS, *tensors))] = tensors.pop(name)


def mutated_model(random: random.Random, content: bytes) -> bytes:
    """A model file with one to three edits of what is in it, sealed again."""
    file = ModelFile.parse(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        if random.random() < 0.1:
            _edit_tensors(random, file.tensors)
        elif random.random() < 0.1:
            data = bytearray(file.data)
            place = random.randrange(len(data) // 4) * 4
            data[place : place + 4] = random.choice((b"\x00\x00\xc0\x7f", b"\xff" * 4, b"\0" * 4))
            file.data = bytes(data)
        else:
            random.choice(_TREE_EDITS)(random, file.graph)
    return file.sealed()


def mutated_checkpoint(random: random.Random, content: bytes) -> bytes:
    """A checkpoint with damage behind its first line, which vouches for the rest."""
    rest = mutated_bytes(random, content.partition(b"\n")[2])
    return _first_line(rest) + rest


def mutated_bytes(random: random.Random, content: bytes) -> bytes:
    """The file with a bit flipped, a byte or a stretch replaced, or cut short."""
    data = bytearray(content)
    place = random.randrange(len(data))
    edit = random.randrange(5)
    if edit == 0:
        return content[:place]
    if edit == 1:
        data[place : place + random.randrange(1, 64)] = random.randbytes(random.randrange(64))
    elif edit == 2:
        data += random.randbytes(random.randrange(1, 64))
    elif edit == 3:
        data[random.randrange(16)] ^= 1 << random.randrange(8)
    else:
        data[place] ^= 1 << random.randrange(8)
    return bytes(data)
