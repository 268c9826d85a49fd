"""Names that a model file may put where torch.fx turns them into Python code.

The same checks hold when a file is written, so that what was saved can be loaded.
"""

import re
from keyword import iskeyword
from typing import Any

_WORD = re.compile(r"[A-Za-z0-9_]+")
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
    for word in words:
        if not _WORD.fullmatch(word) or word.startswith("__"):
            raise ValueError(f"{what} {shortened(name)} is not a plain name.")
    return name


def shortened(value: Any) -> str:
    """`value` for a message, on one line."""
    text = " ".join(repr(value).split("\n"))
    return text if len(text) <= 80 else f"{text[:80]}..."
