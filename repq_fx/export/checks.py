"""What a model file may name and hold.

Names, because torch.fx turns them into Python code; values out of JSON, because they ought to have
a type. The same checks of names hold when a file is written, so that what was saved can be loaded.
"""

import dataclasses
import re
import types
import typing
from keyword import iskeyword
from typing import Any, TypeVar

_WORD = re.compile(r"[A-Za-z0-9_]+")
_DEEPEST = 100  # Layers inside layers; Python's compiler follows each dot by recursion.
# What generated code refers to; a parameter of that name would stand in its place.
_GLOBALS_OF_CODE = frozenset(
    ("self", "torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree", "getattr", "slice",
     "complex")
)  # fmt: skip
Value = TypeVar("Value")


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


def field(entry: Any, key: str, kind: type[Value]) -> Value:
    """``entry[key]``, which is a `kind`.

    Raises:
        ValueError: `entry` is no object, or has no such value.
    """
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{key!r} is missing.")
    return checked(entry[key], kind, repr(key))


def checked(value: Any, kind: type[Value], what: str) -> Value:
    """`value`, which is a `kind`; a boolean is no number.

    Raises:
        ValueError: It is not.
    """
    if type(value) is not kind:
        raise ValueError(f"{what} is {shortened(value)}, not a {kind.__name__}.")
    return value


def check_record(record: Any) -> None:
    """Compare the values of a dataclass with the types that it declares.

    Raises:
        ValueError: One is of another type.
    """
    hints = typing.get_type_hints(type(record))
    for each in dataclasses.fields(record):
        value = getattr(record, each.name)
        if not _fits(value, hints[each.name]):
            owner = type(record).__name__
            raise ValueError(f"{each.name!r} of a {owner} cannot be {shortened(value)}.")


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        if len(parts) == 2 and parts[1] is Ellipsis:
            return isinstance(value, tuple) and all(_fits(each, parts[0]) for each in value)
        return (
            isinstance(value, tuple) and len(value) == len(parts) and all(map(_fits, value, parts))
        )
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint or (hint is None and value is None)
