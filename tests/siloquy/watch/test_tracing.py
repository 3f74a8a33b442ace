"""Traces: one a question over all nodes, no word in them, and nothing at all while they are off."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import pytest

from siloquy.errors import PolicyDenied, SettingsError
from siloquy.types import NodeId, QueryId
from siloquy.watch import tracing
from siloquy.watch.tracing import (
    NUMBERS,
    OTHER,
    PARENTS,
    PER_SILO,
    WORDS,
    Name,
    check_address,
    span,
    span_id,
)
from tests.siloquy.otlp_collector import Collector, collecting

QUERY = QueryId(bytes(range(1, 17)))
NORTH, SOUTH = NodeId("north"), NodeId("south")
CANARY = "zanthoxyl dose after trepanning"
HOME = Path(__file__).resolve().parents[3]


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector, with this process tracing to it."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with collecting() as made:
        tracing.configure(NORTH, "silo", made.address)
        yield made
        tracing.stop()


def sent(collector: Collector) -> dict[str, Any]:
    """The spans by name, once all are out."""
    tracing.stop()
    return {item.name: item for _, item in collector.spans()}


def attributes(item: Any) -> dict[str, object]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in item.attributes
    }


# -- off ------------------------------------------------------------------------------------------


def test_off_is_the_same_empty_context_each_time() -> None:
    one, other = span("search", QUERY, silos=3), span("gather", QUERY)
    assert one is other
    assert isinstance(one, nullcontext)
    with one as note:
        note.add(winners=3)
    tracing.record("embed", QUERY, 1, 2)
    tracing.stop()


def test_off_costs_next_to_nothing() -> None:
    start = perf_counter()
    for _ in range(1000):
        with span("search", QUERY, silos=3) as note:
            note.add(winners=1)
    # Some 0.3 microseconds; several hundred times that on a busy machine.
    assert (perf_counter() - start) / 1000 < 1e-4


def test_a_process_that_does_not_trace_imports_no_opentelemetry_and_no_torch() -> None:
    code = (
        "import sys, siloquy.cli, siloquy.serve.silo, siloquy.serve.hub;"
        "import siloquy.watch.observe;"
        "print([m for m in ('opentelemetry', 'requests', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", code], cwd=HOME, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# -- ids ------------------------------------------------------------------------------------------


def test_every_span_has_a_place_below_the_first() -> None:
    assert set(PARENTS) == set(get_args(Name))
    for name in PARENTS:
        seen: list[Name] = []
        at: Name | None = name
        while at is not None:
            assert at not in seen
            seen.append(at)
            at = PARENTS[at]
        assert seen[-1] == "ask"


def test_ids_of_one_question_differ_and_other_questions_have_others() -> None:
    other = QueryId(bytes(16))
    silos: dict[bool, tuple[NodeId | None, ...]] = {True: (NORTH, SOUTH), False: (None,)}
    ids = [
        span_id(name, query, silo)
        for query in (QUERY, other)
        for name in PARENTS
        for silo in silos[name in PER_SILO]
    ]
    assert len(set(ids)) == len(ids)
    assert all(0 < item < 2**64 for item in ids)


def test_a_span_of_the_whole_question_is_the_same_whoever_looks_up_its_id() -> None:
    assert span_id("gather", QUERY, NORTH) == span_id("gather", QUERY, None)
    assert span_id("ask silo", QUERY, NORTH) != span_id("ask silo", QUERY, SOUTH)


# -- on -------------------------------------------------------------------------------------------


def test_spans_of_a_question_make_one_tree_under_the_query_s_id(collector: Collector) -> None:
    now = time.time_ns()
    names: tuple[Name, ...] = ("gather", "ask silo", "silo search", "silo score")
    for name in reversed(names):
        with span(name, QUERY, NORTH if name in PER_SILO else None):
            pass
    with span("search", QUERY, silos=1, k=10):
        pass
    tracing.record("ask", QUERY, now, now + 5_000_000, silos=1)
    spans = sent(collector)
    assert {item.trace_id for item in spans.values()} == {bytes(QUERY)}
    by_id = {item.span_id: item.name for item in spans.values()}
    above = {name: by_id.get(item.parent_span_id) for name, item in spans.items()}
    assert above == {name: PARENTS[name] for name in above}  # type: ignore[index]
    assert above["ask"] is None
    assert spans["ask"].end_time_unix_nano - spans["ask"].start_time_unix_nano == 5_000_000


def test_counts_and_names_are_shown(collector: Collector) -> None:
    with span("ask silo", QUERY, NORTH, request_bytes=9) as note:
        note.add(reply_bytes=12, code="timeout", ms=1.5)
    told = attributes(sent(collector)["ask silo"])
    assert told == {
        "silo": "north",
        "request_bytes": 9,
        "reply_bytes": 12,
        "code": "timeout",
        "ms": 1.5,
    }


@pytest.mark.parametrize("name", ["question", "text", "k ", "exception.message", "passage"])
def test_an_attribute_that_is_not_on_the_list_is_refused(collector: Collector, name: str) -> None:
    with pytest.raises(ValueError, match="no attribute"), span("search", QUERY, None, **{name: 1}):
        pass
    with span("search", QUERY) as note, pytest.raises(ValueError, match="no attribute"):
        note.add(**{name: CANARY})
    assert CANARY.encode() not in b"".join(collector.bodies)


def test_text_where_a_number_or_a_name_belongs_does_not_get_out(collector: Collector) -> None:
    with pytest.raises(ValueError, match="type") as refused, span("search", QUERY, k=CANARY):
        pass
    assert CANARY not in str(refused.value)
    with span("ask silo", QUERY, NodeId(CANARY)) as note:
        note.add(code=CANARY)
    told = attributes(sent(collector)["ask silo"])
    assert (told["silo"], told["code"]) == (OTHER, OTHER)
    assert b"zanthoxyl" not in b"".join(collector.bodies)


def test_an_error_is_told_by_its_code_alone(collector: Collector) -> None:
    for error in (PolicyDenied(CANARY, CANARY), ValueError(CANARY)):
        with pytest.raises(type(error)), span("silo release", QUERY, NORTH):
            raise error
    tracing.stop()
    codes = [attributes(item)["code"] for _, item in collector.spans()]
    assert codes == ["denied", "ValueError"]
    assert all(not item.events and not item.status.message for _, item in collector.spans())
    assert b"zanthoxyl" not in b"".join(collector.bodies)


def test_the_machine_is_not_described_beyond_the_node_s_name(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=ward-7")
    tracing.stop()
    tracing.configure(NORTH, "silo", collector.address)
    with span("gather", QUERY):
        pass
    tracing.stop()
    (body,) = collector.bodies
    assert b"siloquy-silo" in body
    assert b"ward-7" not in body
    assert b"telemetry.sdk" not in body


def test_no_list_of_attributes_has_room_for_text() -> None:
    assert not NUMBERS & WORDS
    assert not WORDS - {"code", "gateway", "mode", "outcome", "silo"}


def test_a_collector_that_is_gone_holds_up_neither_work_nor_the_end() -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with collecting() as gone:
        pass
    tracing.configure(NORTH, "silo", gone.address)
    start = perf_counter()
    for _ in range(10):
        with span("gather", QUERY):
            pass
    worked_s = perf_counter() - start
    tracing.stop()
    assert worked_s < 1
    assert perf_counter() - start < 10


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "https://traces.example.org/v1/traces",
        "http://127.0.0.1:4318/v1/traces",
        "http://localhost:4318/v1/traces",
        "http://[::1]:4318/v1/traces",
    ],
)
def test_https_and_plaintext_to_this_machine_are_taken(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "http://traces.example.org/v1/traces",
        "http://10.0.0.5:4318/v1/traces",
        "http://localhost.example.org/v1/traces",
        "http://127.0.0.1@example.org/v1/traces",
        "ftp://127.0.0.1/",
        "127.0.0.1:4318",
        "https://",
        "http://[::1",
        "http://127.0.0.1:port/",
    ],
)
def test_plaintext_elsewhere_and_what_is_no_address_are_refused(address: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_address(address)
    assert "monitor.traces" in refused.value.message


def test_a_missing_opentelemetry_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError) as refused:
        tracing.configure(NORTH, "silo", "http://127.0.0.1:4318/v1/traces")
    assert "siloquy[traces]" in refused.value.hint
    assert span("search", QUERY) is span("gather", QUERY)
