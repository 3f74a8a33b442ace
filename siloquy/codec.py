"""Values to bytes and back: strict, typed msgpack for the wire, the same as JSON for people.

A value is a frozen dataclass of this project. Decoding checks every field against its annotation:
an unknown, missing or repeated field, another type, NaN or a too deep nesting is an IntegrityError,
and no code of a message ever runs. What a type's fields need is worked out once, at its first use.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgpack
import numpy as np

from siloquy.errors import IntegrityError

T = TypeVar("T")
Reader = Callable[[Any], Any]
"""Plain data to a value of one type; raises ``_Misfit``."""
Writer = Callable[[Any], Any]
"""A value of one type to plain data."""

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# An empty map is one byte on the wire and 72 in memory: a message is held to its items too.
MOST_ITEMS = 200_000
_MOST_IN_LIST = 100_000
_MOST_IN_MAP = 10_000
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def encode(value: object) -> bytes:
    """Bytes of a dataclass; equal values give equal bytes."""
    packed: bytes = msgpack.packb(_plain(value, json=False), use_bin_type=True)
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
    return _plain(value, json=True)


def from_json(kind: type[T], data: object) -> T:
    """The ``kind`` that ``to_json`` wrote; IntegrityError when it is not one."""
    return typing.cast(T, _read(kind, data, json=True))


def _read(kind: Any, plain: object, *, json: bool) -> Any:
    try:
        return _reader(kind, json)(plain)
    except _Misfit as misfit:
        path = "".join(reversed(misfit.path))
        raise IntegrityError(f"{kind.__name__}{path}: {misfit.what}", misfit.hint) from None
    except RecursionError:
        raise IntegrityError(f"{kind.__name__}: nested too deeply") from None


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {f.name: _bare(hints[f.name]) for f in dataclasses.fields(kind)}


def _bare(hint: Any) -> Any:
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    return hint


# -- writing --------------------------------------------------------------------------------------


def _plain(value: object, *, json: bool) -> Any:
    kind: Any = type(value)
    return _writer(kind, json)(value)


@functools.cache
def _writer(hint: Any, json: bool) -> Writer:
    """What makes plain data of a value that is annotated with ``hint``; maps come out by key."""
    hint = _bare(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _dataclass_writer(hint, json)
    origin = get_origin(hint)
    if origin is tuple:
        return _list_writer(_writer(get_args(hint)[0], json))
    if hint in (str, int, float, bool) or origin is Literal:
        return _as_it_is
    if hint is bytes:
        return _base64 if json else _as_it_is
    return functools.partial(_write_any, json=json)


def _as_it_is(value: Any) -> Any:
    return value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _dataclass_writer(kind: type, json: bool) -> Writer:
    fields = _fields(kind)
    names = tuple(sorted(fields))
    if len(names) < 2:
        return lambda value: {n: _writer(fields[n], json)(getattr(value, n)) for n in names}
    get = operator.attrgetter(*names)
    writers = [_writer(fields[name], json) for name in names]
    if all(writer is _as_it_is for writer in writers):
        return lambda value: dict(zip(names, get(value), strict=True))
    steps = tuple(zip(names, writers, strict=True))
    return lambda value: {
        name: write(item) for (name, write), item in zip(steps, get(value), strict=True)
    }


def _list_writer(write: Writer) -> Writer:
    return list if write is _as_it_is else lambda value: [write(item) for item in value]


def _write_any(value: Any, *, json: bool) -> Any:
    """Plain data by what the value is: where no annotation tells."""
    if isinstance(value, bytes):
        return _base64(value) if json else value
    if dataclasses.is_dataclass(value):
        return _plain(value, json=json)
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value, dtype="<f4").tobytes()
        return _base64(data) if json else data
    if isinstance(value, tuple | list):
        return [_write_any(item, json=json) for item in value]
    if isinstance(value, Mapping):
        return {key: _write_any(value[key], json=json) for key in sorted(value)}
    return value


# -- reading --------------------------------------------------------------------------------------


class _Misfit(Exception):
    """Plain data that is no value of its type: what is wrong and, inside out, where."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint
        self.path: list[str] = []

    def inside(self, step: str) -> _Misfit:
        """The same, seen from one level further out."""
        self.path.append(step)
        return self


def _wrong(wanted: str, got: object) -> _Misfit:
    return _Misfit(f"wanted {wanted}, got {type(got).__name__}")


@functools.cache
def _reader(hint: Any, json: bool) -> Reader:
    """What reads a value that is annotated with ``hint``; TypeError for one that nothing reads."""
    hint = _bare(hint)
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if hint in (bytes, object):
        return {bytes: _text_bytes if json else _bytes, object: _anything}[hint]
    if dataclasses.is_dataclass(hint):
        return _dataclass_reader(typing.cast(type, hint), json)
    origin = get_origin(hint)
    if origin is np.ndarray:
        return _vector_reader(_reader(bytes, json))
    make = _MAKERS.get(origin)
    if make is None:
        raise TypeError(f"codec does not know {hint}")
    return make(hint, json)


def _dataclass_reader(kind: type, json: bool) -> Reader:
    fields = _fields(kind)
    names, steps = fields.keys(), tuple((name, _reader(h, json)) for name, h in fields.items())

    def read(plain: Any) -> Any:
        if not isinstance(plain, dict):
            raise _wrong("a map", plain)
        if plain.keys() != names:
            raise _other_fields(plain.keys() - names, names - plain.keys())
        values = []
        try:
            for name, reader in steps:
                values.append(reader(plain[name]))
        except _Misfit as misfit:
            raise misfit.inside(f".{name}") from None
        return kind(*values)

    return read


def _other_fields(unknown: set[Any], missing: set[Any]) -> _Misfit:
    return _Misfit(
        f"{len(missing)} fields missing, {len(unknown)} unknown",
        "the peer may run another version of Siloquy",
    )


def _boolean(plain: Any) -> bool:
    if type(plain) is not bool:
        raise _wrong("bool", plain)
    return plain


def _text(plain: Any) -> str:
    if type(plain) is not str or (not plain.isascii() and _SURROGATE.search(plain)):
        raise _wrong("text", plain)
    return plain


def _integer(plain: Any) -> int:
    if type(plain) is not int or not -(2**63) <= plain < 2**64:
        raise _wrong("an integer of 64 bits", plain)
    return plain


def _float(plain: Any) -> float:
    if type(plain) is int:
        return float(_integer(plain))
    if type(plain) is not float or not math.isfinite(plain):
        raise _wrong("a finite number", plain)
    return plain


def _bytes(plain: Any) -> bytes:
    if not isinstance(plain, bytes):
        raise _wrong("bytes", plain)
    return plain


def _text_bytes(plain: Any) -> bytes:
    if not isinstance(plain, str):
        return _bytes(plain)
    try:
        return base64.b64decode(plain, validate=True)
    except ValueError:
        raise _wrong("base64", plain) from None


def _vector_reader(read_bytes: Reader) -> Reader:
    def read(plain: Any) -> Any:
        data = read_bytes(plain)
        if len(data) % 4:
            raise _Misfit(f"{len(data)} bytes are no float32 vector")
        vector = np.frombuffer(data, dtype="<f4")
        if not np.isfinite(vector).all():
            raise _Misfit("a vector with NaN or infinity")
        return vector

    return read


def _tuple_reader(hint: Any, json: bool) -> Reader:
    inner = _reader(get_args(hint)[0], json)

    def read(plain: Any) -> tuple[Any, ...]:
        if not isinstance(plain, list):
            raise _wrong("a list", plain)
        try:
            return tuple([inner(item) for item in plain])
        except _Misfit as misfit:
            raise misfit.inside("[]") from None

    return read


def _mapping_reader(hint: Any, json: bool) -> Reader:
    key_reader, inner = (_reader(part, json) for part in get_args(hint))

    def read(plain: Any) -> dict[Any, Any]:
        if not isinstance(plain, dict):
            raise _wrong("a map", plain)
        try:
            return {key_reader(key): inner(item) for key, item in plain.items()}
        except _Misfit as misfit:
            raise misfit.inside("{}") from None

    return read


def _literal_reader(hint: Any, json: bool) -> Reader:
    words = get_args(hint)

    def read(plain: Any) -> Any:
        if not isinstance(plain, str) or plain not in words:
            raise _Misfit(f"not one of {', '.join(map(str, words))}")
        return plain

    return read


def _optional_reader(hint: Any, json: bool) -> Reader:
    (inner,) = [_reader(arg, json) for arg in get_args(hint) if arg is not type(None)]
    return lambda plain: None if plain is None else inner(plain)


def _anything(plain: Any) -> Any:
    if plain is None:
        return None
    if isinstance(plain, list):
        return [_anything(item) for item in plain]
    if isinstance(plain, dict):
        return {_text(key): _anything(item) for key, item in plain.items()}
    if type(plain) not in _SIMPLE:
        raise _wrong("plain data", plain)
    return _SIMPLE[type(plain)](plain)


_SIMPLE: dict[Any, Reader] = {str: _text, int: _integer, bool: _boolean, float: _float}
_MAKERS: dict[Any, Callable[[Any, bool], Reader]] = {
    tuple: _tuple_reader,
    dict: _mapping_reader,
    Literal: _literal_reader,
    Union: _optional_reader,
    types.UnionType: _optional_reader,
}
