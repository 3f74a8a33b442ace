"""Values to bytes and back: strict, typed msgpack for the wire, the same as JSON for people.

A value is a frozen dataclass of this project. Decoding checks every field against its annotation:
an unknown, missing or repeated field, another type, NaN or a too deep nesting is an IntegrityError,
and no code of a message ever runs.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack
import numpy as np

from siloquy.errors import IntegrityError

T = TypeVar("T")

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# An empty map is one byte on the wire and 72 in memory: a message is held to its items too.
MOST_ITEMS = 200_000
_MOST_IN_LIST = 100_000
_MOST_IN_MAP = 10_000
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def encode(value: object) -> bytes:
    """Bytes of a dataclass; equal values give equal bytes."""
    packed: bytes = msgpack.packb(_sorted(_plain(value)), use_bin_type=True)
    return packed


def decode(kind: type[T], data: bytes) -> T:
    """The ``kind`` in ``data``; IntegrityError when it is not exactly one."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise IntegrityError(f"message of {len(data)} bytes, at most {MAX_MESSAGE_BYTES}")
    return typing.cast(T, _read(kind, unpack(data, f"{kind.__name__} message"), json=False))


def unpack(data: bytes, name: str) -> Any:
    """Plain data of one whole msgpack value; IntegrityError, calling it ``name``, for others."""
    left = MOST_ITEMS

    def counted(items: list[Any]) -> list[Any]:
        nonlocal left
        left -= 1 + len(items)
        if left < 0:
            raise ValueError(f"more than {MOST_ITEMS} items")
        return items

    def unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        fields = dict(counted(pairs))
        if len(fields) < len(pairs):
            raise ValueError("a key stands twice")
        return fields

    try:
        return msgpack.unpackb(
            data,
            list_hook=counted,
            object_pairs_hook=unique,
            max_array_len=_MOST_IN_LIST,
            max_map_len=_MOST_IN_MAP,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise IntegrityError(f"not a {name}: {type(error).__name__}") from None


def to_json(value: object) -> Any:
    """Plain JSON data of a value: bytes become base64 text, vectors lists."""
    return _jsonable(_plain(value))


def from_json(kind: type[T], data: object) -> T:
    """The ``kind`` that ``to_json`` wrote; IntegrityError when it is not one."""
    return typing.cast(T, _read(kind, data, json=True))


def _read(kind: type[Any], plain: object, *, json: bool) -> Any:
    try:
        return _value(kind, plain, kind.__name__, json)
    except RecursionError:
        raise IntegrityError(f"{kind.__name__}: nested too deeply") from None


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value, dtype="<f4").tobytes()
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _sorted(plain: Any) -> Any:
    """Maps by key: equal values give equal bytes, whatever order they were filled in."""
    if isinstance(plain, dict):
        return {key: _sorted(plain[key]) for key in sorted(plain)}
    if isinstance(plain, list):
        return [_sorted(item) for item in plain]
    return plain


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    return value


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: _bare(hints[f.name]) for f in dataclasses.fields(kind)}


def _bare(hint: Any) -> Any:
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    return hint


def _value(hint: Any, plain: Any, path: str, json: bool) -> Any:
    hint = _bare(hint)
    if dataclasses.is_dataclass(hint):
        return _dataclass(typing.cast(type, hint), plain, path, json)
    origin = get_origin(hint)
    reader = _READERS.get(origin if origin is not None else hint)
    if reader is None:
        raise TypeError(f"codec does not know {hint}")
    return reader(hint, plain, path, json)


def _dataclass(kind: type, plain: Any, path: str, json: bool) -> Any:
    if not isinstance(plain, dict):
        raise _wrong(path, "a map", plain)
    fields = _fields(kind)
    unknown = plain.keys() - fields.keys()
    missing = fields.keys() - plain.keys()
    if unknown or missing:
        raise IntegrityError(
            f"{path}: {len(missing)} fields missing, {len(unknown)} unknown",
            "the peer may run another version of Siloquy",
        )
    return kind(
        **{name: _value(h, plain[name], f"{path}.{name}", json) for name, h in fields.items()}
    )


def _wrong(path: str, wanted: str, got: object) -> IntegrityError:
    return IntegrityError(f"{path}: wanted {wanted}, got {type(got).__name__}")


def _scalar(hint: Any, plain: Any, path: str, json: bool) -> Any:
    if type(plain) is not hint:
        raise _wrong(path, hint.__name__, plain)
    return plain


def _text(hint: Any, plain: Any, path: str, json: bool) -> str:
    if type(plain) is not str or _SURROGATE.search(plain):
        raise _wrong(path, "text", plain)
    return plain


def _integer(hint: Any, plain: Any, path: str, json: bool) -> int:
    if type(plain) is not int or not -(2**63) <= plain < 2**64:
        raise _wrong(path, "an integer of 64 bits", plain)
    return plain


def _float(hint: Any, plain: Any, path: str, json: bool) -> float:
    if type(plain) is int:
        return float(_integer(int, plain, path, json))
    if type(plain) is not float or not math.isfinite(plain):
        raise _wrong(path, "a finite number", plain)
    return plain


def _bytes(hint: Any, plain: Any, path: str, json: bool) -> bytes:
    if json and isinstance(plain, str):
        try:
            return base64.b64decode(plain, validate=True)
        except ValueError:
            raise _wrong(path, "base64", plain) from None
    if not isinstance(plain, bytes):
        raise _wrong(path, "bytes", plain)
    return plain


def _vector(hint: Any, plain: Any, path: str, json: bool) -> Any:
    data = _bytes(hint, plain, path, json)
    if len(data) % 4:
        raise IntegrityError(f"{path}: {len(data)} bytes are no float32 vector")
    vector = np.frombuffer(data, dtype="<f4")
    if not np.isfinite(vector).all():
        raise IntegrityError(f"{path}: a vector with NaN or infinity")
    return vector


def _tuple(hint: Any, plain: Any, path: str, json: bool) -> tuple[Any, ...]:
    if not isinstance(plain, list):
        raise _wrong(path, "a list", plain)
    inner = get_args(hint)[0]
    return tuple(_value(inner, item, f"{path}[]", json) for item in plain)


def _mapping(hint: Any, plain: Any, path: str, json: bool) -> dict[str, Any]:
    if not isinstance(plain, dict):
        raise _wrong(path, "a map", plain)
    key_hint, inner = get_args(hint)
    return {
        _value(key_hint, key, f"{path} key", json): _value(inner, item, f"{path}{{}}", json)
        for key, item in plain.items()
    }


def _literal(hint: Any, plain: Any, path: str, json: bool) -> Any:
    if not isinstance(plain, str) or plain not in get_args(hint):
        raise IntegrityError(f"{path}: not one of {', '.join(map(str, get_args(hint)))}")
    return plain


def _optional(hint: Any, plain: Any, path: str, json: bool) -> Any:
    if plain is None:
        return None
    (inner,) = [arg for arg in get_args(hint) if arg is not type(None)]
    return _value(inner, plain, path, json)


def _anything(hint: Any, plain: Any, path: str, json: bool) -> Any:
    if plain is None:
        return None
    if isinstance(plain, list):
        return [_anything(hint, item, f"{path}[]", json) for item in plain]
    if type(plain) not in _FREE:
        raise _wrong(path, "plain data", plain)
    return _value(_FREE[type(plain)], plain, path, json)


_FREE: dict[type, Any] = {
    str: str,
    int: int,
    bool: bool,
    float: float,
    dict: dict[str, object],
}
_READERS: dict[Any, Any] = {
    str: _text,
    int: _integer,
    bool: _scalar,
    float: _float,
    bytes: _bytes,
    object: _anything,
    np.ndarray: _vector,
    tuple: _tuple,
    dict: _mapping,
    Literal: _literal,
    Union: _optional,
    types.UnionType: _optional,
}
