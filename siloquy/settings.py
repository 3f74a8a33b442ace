"""Settings of each service: one frozen class, one TOML file, unknown keys refused by name.

``SILOQUY_<SECTION>_<KEY>`` in the environment overrides a key. Secrets are file references.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from siloquy.errors import SettingsError

T = TypeVar("T")
FILE_NAME = "siloquy.toml"
DEFAULT_PURPOSES = ("treatment",)


@dataclass(frozen=True, slots=True)
class HubLink:
    """Where a silo or gateway finds its hub.

    url          wss://host:port
    certificate  PEM file that the hub's certificate must chain to; empty for the system's store
    proxy        false for a direct connection even when the environment names a proxy
    """

    url: str = ""
    certificate: str = ""
    proxy: bool = True


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """The text encoder: a path or name, empty for the packaged all-MiniLM-L6-v2.

    cache   SQLite file of embeddings by model and text hash; empty for one in the node's folder
    threads CPU threads of the encoder, 0 for all cores
    """

    model: str = ""
    cache: str = ""
    threads: int = 0


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """What a silo lets out; the default lets nothing out.

    gateways             names that may see the profile and ask; none by default
    purposes             purposes of use that are accepted
    passages_per_day     passages one gateway may get in a UTC day
    most_per_question    passages one question may get from this silo
    """

    gateways: tuple[str, ...] = ()
    purposes: tuple[str, ...] = DEFAULT_PURPOSES
    passages_per_day: int = 500
    most_per_question: int = 10


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Dense index: ``auto`` is exact up to 100,000 passages and HNSW above."""

    kind: Literal["auto", "flat", "hnsw", "hnswlib"] = "auto"
    chunk_tokens: int = 254


@dataclass(frozen=True, slots=True)
class SiloSettings:
    """Settings of ``siloquy silo``."""

    hub: HubLink = field(default_factory=HubLink)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    policy: ReleasePolicy = field(default_factory=ReleasePolicy)
    index: IndexSettings = field(default_factory=IndexSettings)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a service listens."""

    host: str = "127.0.0.1"
    port: int = 8443


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Settings of ``siloquy hub``.

    url          how nodes reach the hub, as written into invitations
    certificate, key   PEM files of the TLS certificate; made at ``hub init`` unless given
    """

    listen: Listen = field(default_factory=Listen)
    url: str = "wss://127.0.0.1:8443"
    certificate: str = "tls.pem"
    key: str = "tls.key"
    most_in_flight: int = 64


@dataclass(frozen=True, slots=True)
class AskSettings:
    """How a gateway asks and answers.

    k               passages wanted of all silos together
    route           auto (router) or all
    coverage        share of the expected top-k that the router aims for
    depth           candidates wanted from each ranking of each silo
    deadline_s      for one phase over the channel
    answer_floor    least cosine similarity of evidence that may be answered from
    """

    k: int = 10
    route: Literal["auto", "all"] = "auto"
    coverage: float = 0.95
    depth: int = 50
    deadline_s: float = 10.0
    answer_floor: float = 0.42


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Settings of ``siloquy gateway``."""

    hub: HubLink = field(default_factory=HubLink)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    listen: Listen = field(default_factory=lambda: Listen(port=8080))
    ask: AskSettings = field(default_factory=AskSettings)


def read(kind: type[T], folder: Path, environment: Mapping[str, str] = os.environ) -> T:
    """Settings of a node in ``folder``; SettingsError names the wrong key and suggests one."""
    path = folder / FILE_NAME
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise SettingsError(f"{path} is missing", "make the node with `init` first") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from None
    return _build(kind, _overlaid(kind, data, environment), str(path), "")


def write(settings: object, folder: Path, notes: Mapping[str, str] = {}) -> Path:
    """Write the settings as a commented TOML file; ``notes`` are comments by section."""
    lines: list[str] = []
    plain = [f for f in dataclasses.fields(settings) if not _is_section(settings, f.name)]  # type: ignore[arg-type]
    lines += [f"{f.name} = {_toml(getattr(settings, f.name))}" for f in plain]
    for f in dataclasses.fields(settings):  # type: ignore[arg-type]
        section = getattr(settings, f.name)
        if not dataclasses.is_dataclass(section):
            continue
        note = notes.get(f.name, (section.__doc__ or "").strip().splitlines()[0])
        lines += ["", f"# {note}", f"[{f.name}]"]
        lines += [
            f"{key.name} = {_toml(getattr(section, key.name))}"
            for key in dataclasses.fields(section)
        ]
    path = folder / FILE_NAME
    path.write_text("\n".join(lines).lstrip("\n") + "\n")
    return path


def _is_section(settings: object, name: str) -> bool:
    return dataclasses.is_dataclass(getattr(settings, name))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


def _overlaid(kind: type, data: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """``data`` with the environment's overrides, read as TOML values or as plain text."""
    merged = {key: dict(item) if isinstance(item, dict) else item for key, item in data.items()}
    hints = typing.get_type_hints(kind)
    for section, hint in hints.items():
        if not dataclasses.is_dataclass(hint):
            name = f"SILOQUY_{section.upper()}"
            if name in environment:
                merged[section] = _from_text(environment[name])
            continue
        for key in dataclasses.fields(hint):
            name = f"SILOQUY_{section.upper()}_{key.name.upper()}"
            if name in environment:
                merged.setdefault(section, {})[key.name] = _from_text(environment[name])
    return merged


def _from_text(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(kind: type[T], data: object, path: str, prefix: str) -> T:
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: {prefix.rstrip('.')} must be a section")
    hints = typing.get_type_hints(kind)
    for key in data:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            known = ", ".join(hints)
            raise SettingsError(
                f"{path}: unknown key {prefix}{key}",
                f"did you mean {prefix}{near[0]}?" if near else f"known keys: {known}",
            )
    return kind(
        **{key: _read_value(hints[key], item, path, prefix + key) for key, item in data.items()}
    )


def _read_value(hint: Any, value: object, path: str, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, path, name + ".")
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise SettingsError(f"{path}: {name} is {value!r}", f"one of {', '.join(choices)}")
        return value
    if hint == tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise SettingsError(f"{path}: {name} must be a list of texts, got {value!r}")
        return tuple(value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise SettingsError(f"{path}: {name} must be {hint.__name__}, got {value!r}")
    return value
