"""Settings of each service: one frozen class, one TOML file, unknown keys refused by name.

``SILOQUY_<SECTION>_<KEY>`` in the environment overrides a key. Secrets are file references.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import json
import math
import operator
import os
import re
import tomllib
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

from siloquy.errors import SettingsError
from siloquy.types import Intent, PrivacyUnit, SiteRole

T = TypeVar("T")
FILE_NAME = "siloquy.toml"
AUDIT_PURPOSE = "audit"
"""Searches by which a gateway checks a silo's profile; nothing is ever released for it."""
DEFAULT_PURPOSES = ("treatment", AUDIT_PURPOSE)
_LIMITS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "above": ("above", operator.gt),
    "least": ("at least", operator.ge),
    "most": ("at most", operator.le),
    "below": ("below", operator.lt),
}


def _ranged(default: T, **limits: float) -> T:
    """A number's field: its default and the limits, words of ``_LIMITS``, that ``read`` checks."""
    return field(default=default, metadata=limits)


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
    threads: int = _ranged(0, least=0)


@dataclass(frozen=True, slots=True)
class ReleasePolicy:
    """What a silo lets out; the default lets nothing out.

    gateways             names that may see the profile and ask; none by default
    purposes             purposes of use that are accepted
    passages_per_day     passages one gateway may get in a UTC day
    most_per_question    passages one question may get from this silo
    sealed               collections that answer sealed questions alone; ["*"] for all
    sealed_per_day       sealed questions that one gateway may ask in a UTC day
    """

    gateways: tuple[str, ...] = ()
    purposes: tuple[str, ...] = DEFAULT_PURPOSES
    passages_per_day: int = _ranged(500, least=0)
    most_per_question: int = _ranged(10, least=0)
    sealed: tuple[str, ...] = ()
    sealed_per_day: int = _ranged(500, least=0)


@dataclass(frozen=True, slots=True)
class ProfileSettings:
    """What a silo tells approved gateways of its content, so that they know when to ask it.

    epsilon         privacy loss of one profile: less is noisier; inf for none of the noise
    delta           how likely that loss may be exceeded
    unit            what one document of many hides: document, or patient (metadata key `patient`)
    yearly          privacy loss of all profiles of a calendar year together, at least ``epsilon``
    refresh_days    least time between two noised profiles, unless the size changed by half
    least_passages  below it the size alone is told

    Together profiles of epsilon 8 and delta 1e-5 come to 8.0, 12.3, 15.9, 19.1, 22.2, 25.1: a year
    has room for five. One every 92 days is four at most, and leaves one for a size that jumps.
    """

    epsilon: float = _ranged(8.0, above=0)
    delta: float = _ranged(1e-5, above=0, most=1e-3)
    unit: PrivacyUnit = "document"
    yearly: float = _ranged(24.0, above=0)
    refresh_days: float = _ranged(92.0, least=0)
    least_passages: int = _ranged(10, least=1)

    def __post_init__(self) -> None:
        """SettingsError when not even one profile fits the year."""
        if self.yearly < self.epsilon < math.inf:
            raise SettingsError(
                f"profile.yearly is {self.yearly}, must be at least profile.epsilon, {self.epsilon}"
            )


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Dense index: ``auto`` is exact up to 100,000 passages and HNSW above."""

    kind: Literal["auto", "flat", "hnsw", "hnswlib"] = "auto"
    chunk_tokens: int = _ranged(254, least=32, most=2048)


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """Health, readiness and metrics for the machine's own monitoring, without any text.

    port     of /healthz, /readyz and /metrics on 127.0.0.1; 0 for none
    traces   OTLP over HTTP address that traces are sent to; empty for none
    """

    port: int = _ranged(0, least=0, most=65535)
    traces: str = ""


@dataclass(frozen=True, slots=True)
class SiloSettings:
    """Settings of ``siloquy silo``."""

    hub: HubLink = field(default_factory=HubLink)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    policy: ReleasePolicy = field(default_factory=ReleasePolicy)
    index: IndexSettings = field(default_factory=IndexSettings)
    profile: ProfileSettings = field(default_factory=ProfileSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a service listens."""

    host: str = "127.0.0.1"
    port: int = _ranged(8443, least=1, most=65535)


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
    most_in_flight: int = _ranged(64, least=1)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)


@dataclass(frozen=True, slots=True)
class AskSettings:
    """How a gateway asks and answers.

    k               passages wanted of all silos together
    route           auto (router) or all
    mode            auto (sealed when a chosen silo wants it), open or sealed
    over_fetch      passages that a sealed question takes for each that is wanted, within
                    most_released: matching words are weighed here, after the release
    fan_out         silos that every sealed question is asked of, decoys among them; 0: as chosen
    intent          what silos are chosen for unless a question says otherwise
    coverage        share of the best passages that a precise choice keeps, on average
    fast_coverage   the same of a fast choice
    audit           share of questions that all silos are asked, to keep the promise calibrated
    most_silos      silos that one question may be asked of; 0 for any number
    patience_ms     a fast choice leaves out silos that usually take longer
    costs           what asking a silo costs in comparison, such as ["st-anna=2.5"]; else 1
    never           silos that are not asked
    unprofiled      whether a silo that shows no profile is asked all the same
    depth           candidates wanted from each ranking of each silo
    deadline_s      for both phases of all rounds together
    answer_floor    least cosine similarity of evidence that may be answered from
    most_rounds     retrievals for one question: its parts, and silos not asked before
    most_released   passages that may be asked for one question in all rounds together
    """

    k: int = _ranged(10, least=1, most=100)
    route: Literal["auto", "all"] = "auto"
    mode: Literal["auto", "open", "sealed"] = "auto"
    over_fetch: float = _ranged(2.0, least=1, most=2)
    fan_out: int = _ranged(0, least=0)
    intent: Intent = "precise"
    coverage: float = _ranged(0.95, above=0, below=1)
    fast_coverage: float = _ranged(0.80, above=0, below=1)
    audit: float = _ranged(0.03, least=0, most=1)
    most_silos: int = _ranged(0, least=0)
    patience_ms: float = _ranged(500.0, above=0)
    costs: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    unprofiled: bool = True
    depth: int = _ranged(50, least=1, most=200)
    deadline_s: float = _ranged(10.0, above=0, most=600)
    answer_floor: float = _ranged(0.35, least=-1, most=1)
    most_rounds: int = _ranged(3, least=1, most=6)
    most_released: int = _ranged(15, least=1, most=300)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What writes the answer: extractive quotes and needs no model.

    kind        extractive, endpoint (OpenAI-compatible, at url) or transformers (in this process)
    name        the endpoint's name of the model, or a transformers folder or name
    url         base URL of the endpoint, such as http://127.0.0.1:11434/v1
    key_file    file that holds the endpoint's key; empty for none
    adapter     folder of a LoRA adapter for a transformers model; empty for none
    device      auto, cpu, cuda or cuda:N, of a transformers model
    timeout_s   for a whole answer of the model
    most_tokens longest answer of the model
    retries     how often an answer that did not come is asked for again, within timeout_s
    at_once     questions that the model works on at a time
    fallback    extractive: quote when the model fails, and say so; none: the question fails
    """

    kind: Literal["extractive", "endpoint", "transformers"] = "extractive"
    name: str = ""
    url: str = ""
    key_file: str = ""
    adapter: str = ""
    device: str = "auto"
    timeout_s: float = _ranged(60.0, above=0, most=600)
    most_tokens: int = _ranged(800, least=16, most=8192)
    retries: int = _ranged(2, least=0, most=10)
    at_once: int = _ranged(4, least=1, most=256)
    fallback: Literal["extractive", "none"] = "extractive"


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Who may use the gateway's API, and how much at once.

    require_key   every call needs a key of `siloquy gateway key`; the page then has no access
    at_once       questions worked on at a time
    waiting       questions that may wait for their turn; more are told to come back later
    keep_s        how long an event stream can be resumed, and lives on without a reader
    keep_days     how long a conversation is kept after its last question; 0: until it is deleted
    feedback_for_tuning   whether what is judged may be used to tune models
    """

    require_key: bool = False
    at_once: int = _ranged(8, least=1, most=256)
    waiting: int = _ranged(256, least=0, most=10_000)
    keep_s: float = _ranged(60.0, above=0, most=3600)
    keep_days: int = _ranged(0, least=0, most=36_500)
    feedback_for_tuning: bool = False


@dataclass(frozen=True, slots=True)
class SignInSettings:
    """Who may use the gateway's page, and how they sign in.

    kind           none (who reaches this machine's port is `local` and may do everything), local
                   (accounts of this gateway) or oidc (an OpenID provider)
    url            how people reach the page, such as https://rag.hospital.example/siloquy: its host
                   is an allowed Host, its path the cookie's
    issuer         the provider's issuer; with its discovery document below
    client_id      as the provider knows this gateway
    client_secret_file   file that holds the client's secret; empty for a public client
    roles_claim    claim of the ID token that lists roles; a path such as realm_access.roles
    role_names     the provider's names of roles, such as ["ward-doctor=clinician"]; empty: the same
    name_claim     claim with the name that the silos' ledgers show; without it the subject
    provider       the provider's name on the button
    idle_minutes   a session ends so long after the last thing that its person did
    most_hours     a session ends after so long in any case
    """

    kind: Literal["none", "local", "oidc"] = "none"
    url: str = ""
    issuer: str = ""
    client_id: str = ""
    client_secret_file: str = ""
    roles_claim: str = "roles"
    role_names: tuple[str, ...] = ()
    name_claim: str = "preferred_username"
    provider: str = ""
    idle_minutes: int = _ranged(15, least=1, most=720)
    most_hours: int = _ranged(12, least=1, most=720)

    def __post_init__(self) -> None:
        """SettingsError when an address is none or plain http, or the provider's is missing."""
        if self.url:
            _check_address("sign_in.url", self.url)
        if self.issuer:
            _check_address("sign_in.issuer", self.issuer)
        if self.kind == "oidc":
            _check_provider(self)

    @property
    def roles(self) -> dict[str, str]:
        """Our role by the provider's name of it; empty when the names are equal."""
        return dict(_role_pair(item) for item in self.role_names)


def _check_address(key: str, url: str) -> None:
    """SettingsError unless ``url`` is a bare https address, or http to this machine alone."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not _PLACE.fullmatch(url):
        raise SettingsError(
            f"{key} is {url!r}, no bare address",
            "https://HOST/PATH, without name, password, query and fragment",
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise SettingsError(
            f"{key} is plain http to {host}: who listens could sign in as others",
            "use https, or http to this machine alone (127.0.0.1, ::1, localhost)",
        )


_PLACE = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~-]+)*/?")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_provider(settings: SignInSettings) -> None:
    for key in ("url", "issuer", "client_id", "roles_claim"):
        if not getattr(settings, key):
            raise SettingsError(f'sign_in.{key} is empty, and sign_in.kind is "oidc"', "fill it in")
    for item in settings.role_names:
        _role_pair(item)


def _role_pair(item: str) -> tuple[str, str]:
    theirs, _, ours = item.rpartition("=")
    if not theirs or ours not in typing.get_args(SiteRole):
        raise SettingsError(
            f"sign_in.role_names holds {item!r}",
            f'"THEIRS=OURS", and ours is one of {", ".join(typing.get_args(SiteRole))}',
        )
    return theirs, ours


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Settings of ``siloquy gateway``."""

    hub: HubLink = field(default_factory=HubLink)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    listen: Listen = field(default_factory=lambda: Listen(port=8080))
    ask: AskSettings = field(default_factory=AskSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    sign_in: SignInSettings = field(default_factory=SignInSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)

    def __post_init__(self) -> None:
        """SettingsError when people could sign in and then do nothing."""
        if self.api.require_key and self.sign_in.kind != "none":
            raise SettingsError(
                f'api.require_key is true and sign_in.kind is "{self.sign_in.kind}"',
                "with sign-in nobody comes without a key or a session: set api.require_key = false",
            )

    @property
    def home(self) -> str:
        """How people reach the page."""
        host = f"[{self.listen.host}]" if ":" in self.listen.host else self.listen.host
        return self.sign_in.url or f"http://{host}:{self.listen.port}"


def read(kind: type[T], folder: Path, environment: Mapping[str, str] = os.environ) -> T:
    """Settings of a node in ``folder``; SettingsError names the wrong key and suggests one."""
    path = folder / FILE_NAME
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path} is missing", "make the node with `init` first") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    built = _build(kind(), _overlaid(kind, data, environment), str(path), "")
    return typing.cast(T, built)


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
    path.write_text("\n".join(lines).lstrip("\n") + "\n", encoding="utf-8")
    return path


def _is_section(settings: object, name: str) -> bool:
    return dataclasses.is_dataclass(getattr(settings, name))


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        # TOML escapes as JSON does, and DEL too.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)


def _overlaid(kind: type, data: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """``data`` with the environment's overrides, read as TOML values or as plain text."""
    merged = {key: dict(item) if isinstance(item, dict) else item for key, item in data.items()}
    hints = typing.get_type_hints(kind)
    for section, hint in hints.items():
        if not dataclasses.is_dataclass(hint):
            name = f"SILOQUY_{section.upper()}"
            if name in environment:
                merged[section] = _from_text(environment[name], hint)
            continue
        for key, key_hint in typing.get_type_hints(hint).items():
            name = f"SILOQUY_{section.upper()}_{key.upper()}"
            if name not in environment:
                continue
            table = merged.setdefault(section, {})
            if isinstance(table, dict):
                table[key] = _from_text(environment[name], key_hint)
    return merged


def _from_text(text: str, hint: Any) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return text if hint is str and not isinstance(value, str) else value


def _build(default: Any, data: object, path: str, prefix: str) -> Any:
    """``default`` with the keys in ``data``: a section may have other defaults than its class."""
    if not isinstance(data, dict):
        raise SettingsError(f"{path}: {prefix.rstrip('.')} must be a section")
    hints = typing.get_type_hints(type(default))
    limits = {f.name: f.metadata for f in dataclasses.fields(default)}
    values: dict[str, Any] = {}
    for key, item in data.items():
        _check_key(key, hints, path, prefix)
        name, own = prefix + key, getattr(default, key)
        if dataclasses.is_dataclass(own):
            values[key] = _build(own, item, path, name + ".")
        else:
            values[key] = _read_value(hints[key], item, path, name)
            _check_range(limits[key], values[key], path, name)
    return dataclasses.replace(default, **values)


def _check_key(key: str, known: Mapping[str, object], path: str, prefix: str) -> None:
    if key in known:
        return
    near = difflib.get_close_matches(key, known, n=1)
    raise SettingsError(
        f"{path}: unknown key {prefix}{key}",
        f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(known)}",
    )


def _check_range(limits: Mapping[str, float], value: Any, path: str, name: str) -> None:
    for word, limit in limits.items():
        phrase, holds = _LIMITS[word]
        if not holds(value, limit):
            raise SettingsError(f"{path}: {name} is {value}, must be {phrase} {limit}")


def _read_value(hint: Any, value: object, path: str, name: str) -> Any:
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
