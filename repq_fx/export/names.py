"""Names that a model file may put where torch.fx turns them into Python code.

The same checks hold when a file is written, so that what was saved can be loaded.
"""

import re
from collections.abc import Iterable
from keyword import iskeyword
from typing import Any

_WORD = re.compile(r"[A-Za-z0-9_]+")
_NOT_OF_WORDS = re.compile(r"[^A-Za-z0-9_]")
_DEEPEST = 100  # Layers inside layers; Python's compiler follows each dot by recursion.
# What generated code refers to; a parameter of that name would stand in its place.
_GLOBALS_OF_CODE = frozenset(
    ("self", "torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree", "getattr", "slice",
     "complex")
)  # fmt: skip


def check_word(name: Any, what: str) -> str:
    """Letters, digits and underscores, not two of them first, or an error about `what`.

    Raises:
        ValueError: `name` is something else.
    """
    if not isinstance(name, str) or not _WORD.fullmatch(name) or name.startswith("__"):
        raise ValueError(f"{what} {shortened(name)} is not a plain name.")
    return name


def check_identifier(name: Any, what: str) -> str:
    """A word that Python takes for a variable.

    Raises:
        ValueError: `name` is something else.
    """
    if not check_word(name, what).isidentifier() or iskeyword(name):
        raise ValueError(f"{what} {shortened(name)} is not a plain name.")
    return str(name)


def check_parameter(name: Any) -> str:
    """What the function of a graph may call an input.

    Raises:
        ValueError: `name` is something else.
    """
    if check_identifier(name, "the input") in _GLOBALS_OF_CODE:
        raise ValueError(f"the input {name!r} has a name that the code of a graph needs itself.")
    return str(name)


def check_path(name: Any, what: str) -> str:
    """Words between dots, as layers inside layers have them.

    Raises:
        ValueError: `name` is something else.
    """
    if not isinstance(name, str):
        raise ValueError(f"{what} {shortened(name)} is not a plain name.")
    words = name.split(".")
    if len(words) > _DEEPEST:
        raise ValueError(f"{what} {shortened(name)} lies too deep.")
    if not _is_plain(name):
        raise ValueError(f"{what} {shortened(name)} is not a plain name.")
    return name


def plain_paths(paths: Iterable[str]) -> dict[str, str]:
    """For each path another that `check_path` takes, itself where it does already.

    Converters name layers ``/features/0/Conv``, and a `torch.nn.ModuleDict` may have any keys.
    Paths with a common beginning keep one.
    """
    plain = {"": ""}
    taken: set[str] = set()
    for path in sorted(set(paths), key=lambda path: (not _is_plain(path), path)):
        for end in [*(dot.start() for dot in re.finditer(r"\.", path)), len(path)]:
            if path[:end] not in plain:
                owner, _, word = path[:end].rpartition(".")
                wish = _NOT_OF_WORDS.sub("_", word).lstrip("_") if not _is_plain(word) else word
                whole = f"{plain[owner]}.{wish or 'layer'}".lstrip(".")
                while whole in taken:
                    whole += "_"
                plain[path[:end]] = whole
                taken.add(whole)
    return plain


def _is_plain(path: str) -> bool:
    return all(_WORD.fullmatch(word) and not word.startswith("__") for word in path.split("."))


def shortened(value: Any) -> str:
    """`value` for a message, on one line."""
    text = " ".join(repr(value).split("\n"))
    return text if len(text) <= 80 else f"{text[:80]}..."
