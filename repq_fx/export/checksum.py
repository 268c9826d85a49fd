"""The SHA-256 of a model file, inside the file."""

import hashlib

KEY = "sha256"
"""Where it is in the header; the first key, so that nothing before it can be taken for it."""
BLANK = "0" * 64
"""What stands there while the sum is taken."""


def sealed(content: bytes) -> bytearray:
    """The file with its sum in place of the blank."""
    result = bytearray(content)
    place = _place(result, BLANK)
    result[place : place + len(BLANK)] = hashlib.sha256(content).hexdigest().encode()
    return result


def is_intact(content: bytes, found: str) -> bool:
    """Whether `found`, which the file says is its sum, is that."""
    if len(found) != len(BLANK) or not found.isascii():
        return False
    view = memoryview(content)
    place = _place(content, found)
    digest = hashlib.sha256(view[:place])
    digest.update(BLANK.encode())
    digest.update(view[place + len(BLANK) :])
    return digest.hexdigest() == found


def _place(content: bytes | bytearray, value: str) -> int:
    return content.index(value.encode())
