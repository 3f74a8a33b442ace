"""OpenTelemetry traces, off unless configured: one trace a question, over all its nodes.

Nothing more goes over the wire for it. The trace's id is the query's id, which every node of a
question knows, and a span's id follows from query, name and silo, so each node knows the ids of
its own spans and of the span above them. Names and attributes are a closed list; no text is in it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import threading
from collections.abc import Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
from time import time_ns
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import urlsplit

from siloquy.errors import SettingsError
from siloquy.types import Answer, NodeId, QueryId, Role

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span
    from requests import Session

Name = Literal[
    "ask",
    "embed",
    "route",
    "search",
    "release",
    "rescore",
    "generate",
    "gather",
    "ask silo",
    "collect",
    "silo search",
    "silo open",
    "silo score",
    "silo release",
]
Value = int | float | bool | str

# The parent of each span: at the gateway, at the hub, at the silos.
PARENTS: Mapping[Name, Name | None] = {
    "ask": None,
    "embed": "ask",
    "route": "ask",
    "search": "ask",
    "release": "ask",
    "rescore": "ask",
    "generate": "ask",
    "gather": "search",
    "ask silo": "gather",
    "collect": "release",
    "silo search": "ask silo",
    "silo open": "silo search",
    "silo score": "silo search",
    "silo release": "collect",
}
# A question has one of these for each silo.
PER_SILO: Set[Name] = {
    "ask silo",
    "collect",
    "silo search",
    "silo open",
    "silo score",
    "silo release",
}
NUMBERS = {
    "candidates",
    "k",
    "missing",
    "ms",
    "passages",
    "request_bytes",
    "reply_bytes",
    "sentences",
    "silos",
    "terms",
    "winners",
    "withheld",
}
WORDS = {"code", "gateway", "mode", "outcome", "silo"}
OTHER = "other"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TIMEOUT_S = 2.0
_EVERY_MS = 1000
_MOST_WAITING = 4096


class SpanNote:
    """A running span, to be told what came of it."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def add(self, **attributes: Value) -> None:
        """Counts, milliseconds, node names, codes: ValueError for an attribute of another name."""
        if self._span is not None:
            self._span.set_attributes({key: _allowed(key, attributes[key]) for key in attributes})


_SILENT = nullcontext(SpanNote())
_tracer: _Tracer | None = None


def span(
    name: Name, query: QueryId, silo: NodeId | None = None, **attributes: Value
) -> AbstractContextManager[SpanNote]:
    """What happens inside, as a span of the question; nothing while tracing is off.

    silo   the silo that it is about, of a span that a question has once for each
    """
    if _tracer is None:
        return _SILENT
    return _tracer.span(name, query, silo, attributes)


def record(name: Name, query: QueryId, start_ns: int, end_ns: int, **attributes: Value) -> None:
    """A span that is over, between two Unix times in nanoseconds."""
    if _tracer is not None:
        _tracer.record(name, query, start_ns, end_ns, attributes)


def routed(query: QueryId, began_ns: int, timings_ms: Mapping[str, float]) -> None:
    """The stages of a round before it had a query id: embed, then route."""
    if _tracer is None:
        return
    embedded_ns = began_ns + _ns(timings_ms.get("embed", 0.0))
    record("embed", query, began_ns, embedded_ns)
    record("route", query, embedded_ns, embedded_ns + _ns(timings_ms.get("route", 0.0)))


def answered(answer: Answer, began_ns: int) -> None:
    """A question that was answered just now, in the trace of each of its rounds."""
    if _tracer is None or not answer.rounds:
        return
    ended_ns = time_ns()
    for item in answer.rounds:
        query = QueryId(bytes.fromhex(item.query_id))
        record("ask", query, began_ns, ended_ns, silos=len(item.asked))
    query = QueryId(bytes.fromhex(answer.rounds[0].query_id))
    drafted_ns = ended_ns - _ns(answer.timings_ms.get("generate", 0.0))
    rescored_ns = drafted_ns - _ns(answer.timings_ms.get("rescore", 0.0))
    record("rescore", query, rescored_ns, drafted_ns, passages=sum(answer.released.values()))
    record("generate", query, drafted_ns, ended_ns, sentences=len(answer.sentences))


def _ns(ms: float) -> int:
    return int(1e6 * ms)


def configure(node: NodeId, role: Role, address: str) -> None:
    """Send spans to the OTLP/HTTP ``address`` from now on; SettingsError when it cannot be."""
    global _tracer
    check_address(address)
    try:
        _tracer = _Tracer(node, role, address)
    except ImportError:
        raise SettingsError(
            "monitor.traces is set, but OpenTelemetry is not installed",
            "pip install 'siloquy[traces]', or leave monitor.traces empty",
        ) from None


def stop() -> None:
    """Send what is left and trace no more."""
    global _tracer
    if _tracer is not None:
        tracer, _tracer = _tracer, None
        tracer.close()


def check_address(address: str) -> None:
    """SettingsError unless it is https, or http on this machine: plaintext leaves it nowhere."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        return
    raise SettingsError(
        f"monitor.traces is {address!r}",
        "use https://HOST:PORT/v1/traces; http only for a collector on 127.0.0.1",
    )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def span_id(name: Name, query: QueryId, silo: NodeId | None = None) -> int:
    """The 64-bit id of a span: every node of the question comes to the same."""
    about = silo if name in PER_SILO else None
    data = b"\0".join((query, name.encode(), (about or "").encode()))
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") or 1


def _allowed(key: str, value: Value) -> Value:
    if key in NUMBERS and isinstance(value, int | float):
        return value
    if key in WORDS and isinstance(value, str):
        # A peer chose some of these, and may have chosen to write a sentence.
        return value if _WORD.fullmatch(value) else OTHER
    raise ValueError(f"{key[:40]!r} is no attribute of a span, or has another type")


class _Ids:
    """Hands the SDK the ids that it is told, one span at a time in each thread."""

    def __init__(self) -> None:
        self._next = threading.local()

    def tell(self, trace_id: int, span_id: int) -> None:
        self._next.ids = trace_id, span_id

    def generate_trace_id(self) -> int:
        return int(self._next.ids[0])

    def generate_span_id(self) -> int:
        return int(self._next.ids[1])

    def is_trace_id_random(self) -> bool:
        return True


class _Tracer:
    """The OpenTelemetry SDK, held to the rules above."""

    def __init__(self, node: NodeId, role: Role, address: str) -> None:
        self._ids = _Ids()
        self._provider = _provider(node, role, address, self._ids)
        self._tracer = self._provider.get_tracer("siloquy")

    @contextmanager
    def span(
        self, name: Name, query: QueryId, silo: NodeId | None, attributes: Mapping[str, Value]
    ) -> Iterator[SpanNote]:
        started = self._start(name, query, silo, time_ns(), attributes)
        try:
            yield SpanNote(started)
        except BaseException as error:
            # The type alone: a message may quote what it was given.
            started.set_attribute("code", getattr(error, "code", type(error).__name__))
            raise
        finally:
            started.end()

    def record(
        self,
        name: Name,
        query: QueryId,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, Value],
    ) -> None:
        self._start(name, query, None, start_ns, attributes).end(end_ns)

    def _start(
        self,
        name: Name,
        query: QueryId,
        silo: NodeId | None,
        start_ns: int,
        attributes: Mapping[str, Value],
    ) -> Span:
        told = {key: _allowed(key, value) for key, value in attributes.items()}
        if silo is not None:
            told["silo"] = _allowed("silo", silo)
        above = _above(name, query, silo)
        self._ids.tell(_trace_id(query), span_id(name, query, silo))
        return self._tracer.start_span(name, above, attributes=told, start_time=start_ns)

    def close(self) -> None:
        self._provider.shutdown()


def _provider(node: NodeId, role: Role, address: str, ids: _Ids) -> TracerProvider:
    """An SDK that sends to ``address`` and tells of this machine no more than the node's name."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    resource = Resource({"service.name": f"siloquy-{role}", "service.instance.id": node})
    provider = TracerProvider(
        ALWAYS_ON,
        resource,
        shutdown_on_exit=False,
        id_generator=cast(IdGenerator, ids),
    )
    exporter = OTLPSpanExporter(address, timeout=_TIMEOUT_S, session=_session(address))
    provider.add_span_processor(
        BatchSpanProcessor(exporter, schedule_delay_millis=_EVERY_MS, max_queue_size=_MOST_WAITING)
    )
    return provider


def _session(address: str) -> Session:
    """An HTTP session that takes plaintext past every proxy, straight to this machine."""
    from requests import Session

    session = Session()
    session.trust_env = urlsplit(address).scheme == "https"
    return session


def _above(name: Name, query: QueryId, silo: NodeId | None) -> Context:
    """Where the span above lies, on whatever node; nowhere for the first."""
    from opentelemetry.context import Context
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    parent = PARENTS[name]
    if parent is None:
        return Context()
    flags = TraceFlags(TraceFlags.SAMPLED)
    place = SpanContext(_trace_id(query), span_id(parent, query, silo), True, flags)
    return set_span_in_context(NonRecordingSpan(place), Context())


def _trace_id(query: QueryId) -> int:
    # No trace has the id 0, and no query but a hostile gateway's.
    return int.from_bytes(query[:16], "big") or 1
