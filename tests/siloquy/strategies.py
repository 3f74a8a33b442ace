"""Hypothesis strategies for any frozen dataclass of the project, read off its annotations."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from siloquy.settings import GatewaySettings, ProfileSettings, SignInSettings
from siloquy.types import PrivacyUnit, SiteRole

T = TypeVar("T")

TEXT = st.text(max_size=20)
INTEGERS = st.integers(-(2**63), 2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VECTORS = arrays.arrays(
    np.float32,
    st.integers(0, 8),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)
JSON = st.recursive(
    st.none() | st.booleans() | INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)


def messages(kind: type[T], text: st.SearchStrategy[str] = TEXT) -> st.SearchStrategy[T]:
    """Values of ``kind``, every field by its annotation and range; texts come from ``text``."""
    if kind is ProfileSettings:
        return typing.cast(st.SearchStrategy[T], _profile_settings())
    if kind is SignInSettings:
        return typing.cast(st.SearchStrategy[T], _sign_in_settings(text))
    if kind is GatewaySettings:
        return typing.cast(st.SearchStrategy[T], _gateway_settings(text))
    return st.builds(kind, **_fields(kind, text))


def _fields(kind: type[Any], text: st.SearchStrategy[str]) -> dict[str, st.SearchStrategy[Any]]:
    hints = get_type_hints(kind)
    return {f.name: _field(hints[f.name], f.metadata, text) for f in dataclasses.fields(kind)}


def _profile_settings() -> st.SearchStrategy[ProfileSettings]:
    """Numbers that bound each other."""
    epsilons = st.tuples(*2 * [st.floats(0, exclude_min=True)]).map(sorted)
    return st.builds(
        lambda pair, delta, unit: ProfileSettings(pair[0], delta, unit, pair[1]),
        epsilons,
        st.floats(0, 1e-3, exclude_min=True),
        st.sampled_from(get_args(PrivacyUnit)),
    )


def _sign_in_settings(text: st.SearchStrategy[str]) -> st.SearchStrategy[SignInSettings]:
    """Addresses that are some, and roles that there are."""
    address = st.sampled_from(["https://rag.example", "https://x.example/a", "http://[::1]:80"])
    roles = st.sampled_from(get_args(SiteRole))
    own = {
        "url": address,
        "issuer": address,
        "client_id": text.filter(bool),
        "roles_claim": text.filter(bool),
        "role_names": st.lists(st.builds("x{}={}".format, text, roles), max_size=3).map(tuple),
    }
    return st.builds(SignInSettings, **_fields(SignInSettings, text) | own)


def _gateway_settings(text: st.SearchStrategy[str]) -> st.SearchStrategy[GatewaySettings]:
    """Either a key is always needed or people sign in."""

    def made(values: dict[str, Any]) -> GatewaySettings:
        open_to_all = values["sign_in"].kind == "none"
        needed = values["api"].require_key and open_to_all
        api = dataclasses.replace(values["api"], require_key=needed)
        return GatewaySettings(**values | {"api": api})

    return st.fixed_dictionaries(_fields(GatewaySettings, text)).map(made)


def _field(
    hint: Any, limits: Mapping[str, Any], text: st.SearchStrategy[str]
) -> st.SearchStrategy[Any]:
    if not limits:
        return _of(hint, text)
    least = limits.get("least", limits.get("above"))
    most = limits.get("most", limits.get("below", 2**31))
    if hint is int:
        return st.integers(least, most)
    return st.floats(least, most, exclude_min="above" in limits, exclude_max="below" in limits)


def _of(hint: Any, text: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    while isinstance(hint, typing.NewType):
        hint = hint.__supertype__
    if dataclasses.is_dataclass(hint):
        return messages(typing.cast(type[Any], hint), text)
    if hint is str:
        return text
    origin = get_origin(hint)
    args = [arg for arg in get_args(hint) if arg is not ...]
    inner = [_of(arg, text) for arg in args] if origin in _CONTAINERS else []
    if origin is Literal:
        return st.sampled_from(get_args(hint))
    return _CONTAINERS[origin](inner) if inner else _PLAIN[origin or hint]


def _tuples(inner: list[st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return st.lists(inner[0], max_size=3).map(tuple)


def _maps(inner: list[st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return st.dictionaries(inner[0], inner[1], max_size=3)


_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    int: INTEGERS,
    float: FLOATS,
    bool: st.booleans(),
    bytes: st.binary(max_size=40),
    object: JSON,
    np.ndarray: VECTORS,
    types.NoneType: st.none(),
}
_CONTAINERS: dict[Any, Any] = {
    tuple: _tuples,
    dict: _maps,
    Union: st.one_of,
    types.UnionType: st.one_of,
}


def same(left: object, right: object) -> bool:
    """Whether two values are equal in every bit: vectors too, and 0.0 is not -0.0."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.astype("<f4").tobytes() == right.astype("<f4").tobytes()
    if type(left) is not type(right):
        return False
    if dataclasses.is_dataclass(left):
        names = [f.name for f in dataclasses.fields(left)]
        return all(same(getattr(left, name), getattr(right, name)) for name in names)
    if isinstance(left, tuple | list) and isinstance(right, tuple | list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, float) and isinstance(right, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    return left == right
