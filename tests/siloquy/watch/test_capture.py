"""The capture port: what it writes is read back whole, and it opens on one machine alone."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from siloquy.codec import encode
from siloquy.errors import PolicyDenied, SettingsError
from siloquy.types import (
    MergeReply,
    NodeId,
    QueryId,
    SearchReply,
    SearchRequest,
    SignedMessage,
    Term,
)
from siloquy.watch import capture
from siloquy.watch.capture import ENVIRONMENT, Record, Recorder, decode_frame, edge, read, read_all
from siloquy.wire import channel as channels
from siloquy.wire import envelope
from siloquy.wire.calls import Collect, Enrolment, Gather, Profiles
from siloquy.wire.channel import Step
from siloquy.wire.envelope import Envelope
from tests.siloquy.federation import NOW, Federation

NORTH = NodeId("north")
QUERY = QueryId(bytes(range(16)))
WORD = "zanthoxyl"
REQUEST, REPLY, ERROR, CANCEL = range(4)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    """The recorder of ``north``, connected to nothing."""
    made = Recorder(NORTH, "silo", tmp_path)
    yield made
    made.close()


@pytest.fixture
def tapped(tmp_path: Path) -> Iterator[Recorder]:
    """The recorder of ``north``, connected as ``serve`` connects it."""
    made = capture.start(NORTH, "silo", "127.0.0.1", {ENVIRONMENT: str(tmp_path)})
    assert made is not None
    yield made
    capture.stop(made)


def taps() -> tuple[object, object]:
    """Who is told of frames and of opened envelopes."""
    return channels.tap, envelope.tap


def written(folder: Path) -> list[Record]:
    return list(read(folder / "capture" / "north.msgpack"))


def frame(kind: int, number: int, name: str, body: bytes) -> bytes:
    data: bytes = msgpack.packb((kind, number, name, 1000, body))
    return data


def search_request() -> SearchRequest:
    vector = np.zeros(8, dtype=np.float32)
    vector[0] = 1
    return SearchRequest(vector, (Term(WORD, 1.0),), 5, "passage", 20, "treatment", "dr 7")


# -- writing and reading --------------------------------------------------------------------------


def test_records_are_read_back_as_they_were_written(recorder: Recorder, tmp_path: Path) -> None:
    recorder.frame("received", "hub", frame(REQUEST, 3, "search", b"\x00\xff"))
    recorder.opened("sent", "ward", "passages", QUERY, b"plain")
    recorder.http("received", "127.0.0.1", "POST /v1/ask", 9, b"{}")
    one, two, three = written(tmp_path)
    assert (one.node, one.role, one.layer, one.kind) == ("north", "silo", "frame", "request search")
    assert (one.direction, one.peer, one.number) == ("received", "hub", 3)
    assert one.body == frame(REQUEST, 3, "search", b"\x00\xff")
    assert (two.layer, two.kind, two.query, two.body) == ("opened", "passages", QUERY, b"plain")
    assert (three.layer, three.number, three.body) == ("http", 9, b"{}")
    assert one.at_ns <= two.at_ns <= three.at_ns


def test_a_record_cut_short_by_a_kill_is_left_out(recorder: Recorder, tmp_path: Path) -> None:
    path = tmp_path / "capture" / "north.msgpack"
    recorder.opened("sent", "ward", "passages", QUERY, b"first")
    whole = path.stat().st_size
    recorder.opened("sent", "ward", "passages", QUERY, b"second")
    data = path.read_bytes()
    for end in range(whole, len(data)):
        path.write_bytes(data[:end])
        assert [item.body for item in read(path)] == [b"first"]


def test_a_process_started_again_goes_on_in_its_file(recorder: Recorder, tmp_path: Path) -> None:
    recorder.opened("sent", "ward", "passages", QUERY, b"before")
    again = Recorder(NORTH, "silo", tmp_path)
    again.opened("sent", "ward", "passages", QUERY, b"after")
    again.close()
    assert [item.body for item in written(tmp_path)] == [b"before", b"after"]


def test_all_processes_are_read_in_order_of_time(recorder: Recorder, tmp_path: Path) -> None:
    other = Recorder(NodeId("hub"), "hub", tmp_path)
    for n in range(6):
        (recorder, other)[n % 2].opened("sent", "", "search", QUERY, bytes([n]))
    other.close()
    assert [item.body[0] for item in read_all(tmp_path)] == list(range(6))


def test_the_file_is_its_owner_s_alone(recorder: Recorder, tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    assert stat.S_IMODE((folder / "north.msgpack").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# -- naming and decoding --------------------------------------------------------------------------


def test_a_reply_bears_the_method_of_its_request(recorder: Recorder, tmp_path: Path) -> None:
    recorder.frame("sent", "hub", frame(REQUEST, 1, "publish", b""))
    recorder.frame("received", "hub", frame(REQUEST, 1, "search", b""))
    recorder.frame("received", "hub", frame(REPLY, 1, "", b""))
    recorder.frame("sent", "hub", frame(REPLY, 1, "", b""))
    recorder.frame("received", "hub", frame(REQUEST, 2, "release", b""))
    recorder.frame("received", "hub", frame(CANCEL, 2, "", b""))
    recorder.frame("sent", "hub", frame(ERROR, 2, "denied", b"no\n"))
    recorder.frame("received", "hub", b"\xc1")
    assert [item.kind for item in written(tmp_path)] == [
        "request publish",
        "request search",
        "reply publish",
        "reply search",
        "request release",
        "cancel release",
        "error release",
        "malformed",
    ]


SEARCHED = SearchReply(QUERY, NORTH, ())
SEALED = Envelope(b"h", (b"w",), b"b", b"s")
MERGED = MergeReply(QUERY, (), (), (), ())
VALUES: dict[str, tuple[bytes, object]] = {
    "gather": (encode(Gather(b"sealed")), Gather(b"sealed")),
    "collect": (encode(Collect(NORTH, b"sealed")), Collect(NORTH, b"sealed")),
    "enrol": (encode(Enrolment(b"secret")), Enrolment(b"secret")),
    "search": (encode(SEALED), SEALED),
    "publish": (encode(SEALED), SEALED),
    "nothing known": (b"\x01", None),
    "profiles": (b"", None),
}
REPLIES: dict[str, tuple[bytes, object]] = {
    "gather": (encode(MERGED), MERGED),
    "collect": (encode(SEALED), SEALED),
    "search": (encode(SignedMessage(NORTH, encode(SEARCHED), b"s")), SEARCHED),
    "profiles": (encode(Profiles((b"sealed",))), Profiles((b"sealed",))),
    "publish": (b"", None),
}


@pytest.mark.parametrize("method", VALUES)
def test_a_request_is_decoded_as_far_as_its_party_can(
    recorder: Recorder, tmp_path: Path, method: str
) -> None:
    body, wanted = VALUES[method]
    recorder.frame("received", "ward", frame(REQUEST, 1, method, body))
    assert [decode_frame(item) for item in written(tmp_path)] == [wanted]


@pytest.mark.parametrize("method", REPLIES)
def test_a_reply_is_decoded_as_far_as_its_party_can(
    recorder: Recorder, tmp_path: Path, method: str
) -> None:
    body, wanted = REPLIES[method]
    recorder.frame("sent", "hub", frame(REQUEST, 1, method, b""))
    recorder.frame("received", "hub", frame(REPLY, 1, "", body))
    assert decode_frame(written(tmp_path)[1]) == wanted


def test_rosters_errors_and_steps_are_decoded(
    recorder: Recorder, tmp_path: Path, federation: Federation
) -> None:
    from siloquy.trust import roster as rosters

    step = Step("", "", "", b"hello")
    recorder.frame(
        "received", "hub", frame(REQUEST, 1, "roster", rosters.to_bytes(federation.roster))
    )
    recorder.frame("sent", "hub", frame(ERROR, 1, "denied", b"not\nyou\nask IT"))
    recorder.frame("sent", "", encode(step))
    roster, error, hello = (decode_frame(item) for item in written(tmp_path))
    assert roster == federation.roster
    assert isinstance(error, PolicyDenied)
    assert (error.message, error.hint) == ("not\nyou", "ask IT")
    assert hello == step


# -- hooks ----------------------------------------------------------------------------------------


def test_both_ends_of_an_envelope_are_recorded_in_clear(
    tapped: Recorder, tmp_path: Path, federation: Federation
) -> None:
    north = federation.roster.member(NORTH, "silo")
    sealed = envelope.seal(
        federation.ward,
        [north],
        "search",
        QUERY,
        search_request(),
        roster=federation.roster,
        now=NOW,
        lifetime_ms=1000,
        k=5,
    )
    received = envelope.receive(sealed, federation.roster, role="gateway", kind="search", now=NOW)
    envelope.open_body(received, federation.north, SearchRequest)
    sent, heard = written(tmp_path)
    assert (sent.direction, sent.peer, heard.direction, heard.peer) == (
        "sent",
        "north",
        "received",
        "ward",
    )
    assert sent.body == heard.body
    assert {sent.query, heard.query} == {QUERY}
    opened = decode_frame(heard)
    assert isinstance(opened, SearchRequest)
    assert opened.terms == (Term(WORD, 1.0),)
    assert WORD.encode() not in sealed


async def test_bodies_pass_the_edge_unchanged_and_headers_are_not_kept(
    recorder: Recorder, tmp_path: Path
) -> None:
    heard: list[bytes] = []

    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        heard.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"event: plan", b"", b"event: final"):
            await send({"type": "http.response.body", "body": part, "more_body": True})

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b'{"question": "?"}'}

    told: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/ask",
        "client": ("127.0.0.1", 5),
        "headers": [(b"authorization", b"Bearer the-key")],
    }
    await edge(app, recorder)(scope, receive, send)
    assert heard == [b'{"question": "?"}']
    assert len(told) == 4
    records = written(tmp_path)
    assert [(item.direction, item.kind, item.number) for item in records] == [
        ("received", "POST /v1/ask", 1),
        ("sent", "POST /v1/ask", 1),
        ("sent", "POST /v1/ask", 1),
    ]
    assert decode_frame(records[0]) == {"question": "?"}
    assert decode_frame(records[1]) == "event: plan"
    assert b"the-key" not in (tmp_path / "capture" / "north.msgpack").read_bytes()


@pytest.mark.parametrize("path", ["/v1/session", "/v1/accounts/join", "/v1/session/password"])
async def test_nothing_of_sign_in_is_recorded(tmp_path: Path, path: str) -> None:
    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.body", "body": (await receive())["body"]})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"a password"}

    async def send(message: Any) -> None:
        assert message["body"] == b"a password"

    recorder = Recorder(NORTH, "gateway", tmp_path)
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": path,
        "client": None,
        "headers": [],
    }
    await edge(app, recorder)(scope, receive, send)
    recorder.close()
    assert written(tmp_path) == []


def test_without_a_recorder_the_application_is_itself() -> None:
    async def app(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        raise AssertionError

    assert edge(app, None) is app


# -- who may open it ------------------------------------------------------------------------------


def test_nothing_is_recorded_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert ENVIRONMENT not in os.environ
    assert capture.start(NORTH, "silo", "127.0.0.1") is None
    assert capture.start(NORTH, "silo", "hub.example.org", {ENVIRONMENT: ""}) is None
    assert channels.tap is None
    assert envelope.tap is None


@pytest.mark.parametrize(
    "host",
    ["hub.example.org", "0.0.0.0", "10.0.0.5", "::", "", "localhost.x"],  # noqa: S104
)
def test_a_node_that_talks_to_others_refuses_to_record(host: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        capture.start(NORTH, "silo", host, {ENVIRONMENT: str(tmp_path / "new")})
    assert ENVIRONMENT in refused.value.message
    assert "private data" in refused.value.hint
    assert channels.tap is None
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_an_error_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError) as refused:
        capture.start(NORTH, "silo", "127.0.0.1", {ENVIRONMENT: str(tmp_path / "file")})
    assert "cannot be written" in refused.value.message
    assert taps() == (None, None)


def test_the_log_warns_loudly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        recorder = capture.start(NORTH, "silo", "127.0.0.1", {ENVIRONMENT: str(tmp_path)})
    assert recorder is not None
    assert taps() == (recorder.frame, recorder.opened)
    capture.stop(recorder)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "CAPTURE IS ON" in warning.message
    assert taps() == (None, None)
