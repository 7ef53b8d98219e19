"""The fields of a protocol buffer message, without the protobuf library. Knows no message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


@dataclass(frozen=True)
class ProtoField:
    """A field of a message.

    Attributes:
        number: of the field, in its message's definition.
        value: the bytes of a string or a message; None for a number.
        integer: a whole number; None for other values.
        encoded: the whole field as it is in the message, tag and length included.
    """

    number: int
    value: memoryview | None
    encoded: memoryview
    integer: int | None = None


def read_fields(message: memoryview) -> Iterator[ProtoField]:
    """The fields of a message, in its order.

    Raises:
        ValueError, IndexError: it is no message.
    """
    at, end = 0, len(message)
    while at < end:
        start, value, integer = at, None, None
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == _VARINT:
            integer, at = _read_varint(message, at)
        elif kind == _BYTES:
            length, at = _read_varint(message, at)
            if at + length > end:
                raise ValueError("a field ends beyond its message")
            value = message[at : at + length]
            at += length
        elif kind in (_FIXED_64, _FIXED_32):
            at += 8 if kind == _FIXED_64 else 4
        else:
            raise ValueError("an unknown kind of field")
        yield ProtoField(tag >> 3, value, message[start:at], integer)


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of too many bytes")
