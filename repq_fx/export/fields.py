"""Values out of JSON, of the type that they ought to have."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

from .names import shortened

Value = TypeVar("Value")


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
