"""Tampered, oversized and malformed messages against a live hub, silo and gateway.

Whatever comes is refused by name or counted; nothing else on the line or beside it is disturbed.
An answer with the code ``error`` would mean that a node tripped over what it was sent.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from siloquy import envelope as envelopes
from siloquy import identity as identities
from siloquy.channel import Challenge, Channel, Hello, Proof, Step, _client_tls
from siloquy.codec import MAX_MESSAGE_BYTES, decode, encode
from siloquy.envelope import Envelope, Header
from siloquy.errors import Busy, Incompatible, SiloquyError, Unreachable, from_code
from siloquy.types import (
    MergeReply,
    Missing,
    NodeId,
    Profile,
    QueryId,
    ReleaseReply,
    ReleaseRequest,
    SearchReply,
    SearchRequest,
    Signed,
    Ticket,
    Vector,
)
from tests.end_to_end.malicious_hub import (
    ANNEX,
    DIMENSION,
    HUB,
    NORTH,
    SILOS,
    WARD,
    Honest,
    K,
    Town,
    WordEmbedder,
    eventually,
)
from tests.siloquy.strategies import JSON, messages

live = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
few = settings(live, max_examples=20)

REASONS = {"integrity", "refused", "incompatible"}
NAMED = {"usage", "denied", "budget", "incompatible", "integrity", "busy", "unreachable"}
REQUEST, REPLY, ERROR, CANCEL = range(4)


async def code_of(call: Awaitable[object]) -> str:
    """The code under which a call was refused; empty when it was not."""
    try:
        await call
    except SiloquyError as error:
        return error.code
    return ""


async def refused_or_raised(call: Awaitable[bytes]) -> None:
    """Raise what a silo's signed refusal says."""
    found = decode(SearchReply, decode(Signed, await call).body)
    assert found.refusal is not None, "candidates for garbage"
    code = "denied" if found.refusal.reason == "refused" else found.refusal.reason
    raise from_code(code, found.refusal.detail)


@asynccontextmanager
async def honest_question_meanwhile(town: Town) -> AsyncIterator[None]:
    """An honest question goes on during the attack and is answered by every silo."""
    asking = asyncio.create_task(town.ask())
    yield
    answer = await asking
    assert answer.missing == ()
    assert {source.silo for source in answer.sources} == set(SILOS)


@dataclass(frozen=True, slots=True)
class Line:
    """One raw, proven connection: what is sent on it, and the far end that counts."""

    send: Callable[[bytes | str], Awaitable[None]]
    far: Channel
    call: Callable[[str, bytes, float], Awaitable[bytes]]

    async def stands(self) -> None:
        """A good call on the same line still works."""
        with pytest.raises(Incompatible, match="unknown method"):
            await self.call("no such thing", b"", 5.0)


@asynccontextmanager
async def line_to_hub(town: Town) -> AsyncIterator[Line]:
    """A rostered gateway that sends the hub what it likes."""
    async with town.dialled(ANNEX) as near:
        await eventually(lambda: ANNEX in town.hub.lines)
        yield Line(near._socket.send, town.hub.lines[ANNEX], near.call)


@asynccontextmanager
async def line_to_silo(town: Town) -> AsyncIterator[Line]:
    """The hub, which sends a silo what it likes."""
    near, far = town.hub.lines[NORTH], town.sites[NORTH].line._channel
    assert far is not None
    yield Line(near._socket.send, far, near.call)


lines = pytest.mark.parametrize("opened", [line_to_hub, line_to_silo], ids=["hub", "silo"])


# -- frames ---------------------------------------------------------------------------------------


def is_frame(data: bytes) -> bool:
    """Whether ``data`` happens to be a frame."""
    try:
        kind, number, name, amount, body = msgpack.unpackb(data, use_list=False)
    except Exception:  # noqa: BLE001 - whatever it is, it is no frame
        return False
    kinds = [type(part) for part in (kind, number, name, amount, body)]
    return kinds == [int, int, str, int, bytes] and kind in range(4) and 0 <= amount <= 3_600_000


BROKEN = st.one_of(
    st.binary(max_size=300),
    st.builds(msgpack.packb, JSON),
    st.builds(
        lambda parts: msgpack.packb(parts),
        st.lists(st.one_of(st.integers(-5, 2**63), st.text(max_size=9), st.binary(max_size=9))),
    ),
    st.sampled_from(
        [b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x01", b"\x91" * 9000]
    ),
).filter(lambda data: not is_frame(data))


@lines
@live
@given(data=BROKEN)
async def test_a_malformed_frame_is_refused_and_counted_and_the_line_stands(
    town: Town, opened: Callable[[Town], Any], data: bytes
) -> None:
    async with opened(town) as line:
        before = line.far.refused_frames
        async with honest_question_meanwhile(town):
            await line.send(data)
            await eventually(lambda: line.far.refused_frames == before + 1)
            await line.stands()


async def test_the_hub_adds_up_what_it_refused_on_lines_that_ended(town: Town) -> None:
    async with line_to_hub(town) as line:
        for data in (b"\xc1", b"", "text"):
            await line.send(data)
        await eventually(lambda: line.far.refused_frames == 3)
    await eventually(lambda: town.registry.counters().get("frames refused") == 3)


@lines
async def test_a_text_frame_is_refused_and_counted(
    town: Town, opened: Callable[[Town], Any]
) -> None:
    async with opened(town) as line:
        before = line.far.refused_frames
        await line.send("a text frame")
        await eventually(lambda: line.far.refused_frames == before + 1)
        await line.stands()


@lines
@few
@given(kind=st.sampled_from([REPLY, ERROR, CANCEL]), number=st.integers(0, 2**62), body=st.binary())
async def test_replies_and_cancels_of_calls_that_nobody_made_change_nothing(
    town: Town, opened: Callable[[Town], Any], kind: int, number: int, body: bytes
) -> None:
    async with opened(town) as line, honest_question_meanwhile(town):
        await line.send(msgpack.packb((kind, 10**6 + number, "integrity", 0, body)))
        await line.stands()


@lines
async def test_a_call_under_a_number_that_is_at_work_is_refused_and_counted(
    town: Town, opened: Callable[[Town], Any]
) -> None:
    async with opened(town) as line:
        release, far = asyncio.Event(), line.far

        async def slow(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
            await release.wait()
            return b""

        far._handlers = {**far._handlers, "slow": slow}
        before = far.refused_frames
        for _ in range(3):
            await line.send(msgpack.packb((REQUEST, 10**7, "slow", 5000, b"")))
        await eventually(lambda: far.refused_frames == before + 2)
        release.set()
        await line.stands()


@lines
async def test_too_many_calls_at_once_are_told_that_it_is_busy(
    town: Town, opened: Callable[[Town], Any]
) -> None:
    async with opened(town) as line:
        release = asyncio.Event()

        async def slow(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
            await release.wait()
            return b""

        line.far._handlers = {**line.far._handlers, "slow": slow}
        most = line.far._most_in_flight
        calls = [asyncio.create_task(line.call("slow", b"", 5.0)) for _ in range(most + 3)]
        await eventually(lambda: sum(call.done() for call in calls) == 3)
        assert sum(isinstance(call.exception(), Busy) for call in calls if call.done()) == 3
        release.set()
        await asyncio.gather(*calls, return_exceptions=True)
        await line.stands()


async def test_an_oversized_frame_ends_its_own_line_and_no_other(town: Town) -> None:
    async with town.dialled(ANNEX) as line:
        await eventually(lambda: ANNEX in town.hub.lines)
        async with honest_question_meanwhile(town):
            await line._socket.send(bytes(MAX_MESSAGE_BYTES + 1))
            with pytest.raises(Unreachable):
                await line.call("profiles", b"", 5.0)
        assert line._socket.close_code == 1009
    await eventually(lambda: ANNEX not in town.hub.lines)


async def test_an_oversized_frame_from_the_hub_costs_a_silo_its_line_for_a_moment(
    town: Town,
) -> None:
    old = town.hub.lines[NORTH]
    await old._socket.send(bytes(MAX_MESSAGE_BYTES + 1))
    await eventually(lambda: town.hub.lines.get(NORTH) not in (None, old))
    await town.ask_as_usual()


async def test_an_oversized_message_is_refused_before_it_is_sent(town: Town) -> None:
    async with town.dialled(ANNEX) as line:
        with pytest.raises(Incompatible, match="at most 16777216"):
            await line.call("gather", bytes(MAX_MESSAGE_BYTES), 5.0)
        await line.call("profiles", b"", 5.0)


# -- bodies ---------------------------------------------------------------------------------------


BODIES = st.one_of(
    st.binary(max_size=200),
    st.builds(msgpack.packb, JSON),
    st.builds(lambda data: msgpack.packb({"envelope": data}), st.binary(max_size=200)),
    st.builds(lambda value: encode(value), messages(Envelope)),
    st.builds(
        lambda outer, header: msgpack.packb({"envelope": encode(replace(outer, header=header))}),
        messages(Envelope),
        st.builds(encode, messages(Header)),
    ),
    st.builds(encode, messages(Signed)),
)


@live
@given(method=st.sampled_from(["gather", "collect"]), body=BODIES)
async def test_the_hub_refuses_a_malformed_body_by_name(
    town: Town, method: str, body: bytes
) -> None:
    async with line_to_hub(town) as line:
        async with honest_question_meanwhile(town):
            assert await code_of(line.call(method, body, 5.0)) in NAMED
        assert await line.call("profiles", body, 5.0)


@live
@given(method=st.sampled_from(["search", "release", "roster"]), body=BODIES)
async def test_a_silo_refuses_a_malformed_body_by_name(
    town: Town, method: str, body: bytes
) -> None:
    before = town.sites[NORTH].disclosed()
    async with line_to_silo(town) as line:
        assert await code_of(refused_or_raised(line.call(method, body, 5.0))) in NAMED
        await line.stands()
    assert town.sites[NORTH].disclosed() == before


@st.composite
def tampering(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Flip, cut, repeat or insert somewhere."""
    place, amount = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(1, 60))
    how, filling = (
        draw(st.sampled_from("flip cut repeat insert".split())),
        draw(st.binary(max_size=40)),
    )

    def tamper(data: bytes) -> bytes:
        at = int(place * len(data))
        if how == "flip":
            return data[:at] + bytes([data[at] ^ amount]) + data[at + 1 :]
        if how == "cut":
            return data[:at] + data[at + amount :]
        middle = data[at : at + amount] if how == "repeat" else filling or b"\0"
        return data[:at] + middle + data[at:]

    return tamper


@live
@given(tamper=tampering())
async def test_a_tampered_question_is_refused_by_every_silo_and_named(
    town: Town, tamper: Callable[[bytes], bytes]
) -> None:
    before = town.disclosed()

    async def spoil(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        return await honest(tamper(body) if method == "search" else body)

    town.hub.carry = spoil
    answer = await town.ask()
    assert {item.silo for item in answer.missing} == set(SILOS)
    assert {item.reason for item in answer.missing} <= {"integrity", "refused"}
    assert answer.abstained
    assert town.disclosed() == before
    town.hub.behave()
    await town.ask_as_usual()


@live
@given(tamper=tampering(), of=st.sampled_from(["search", "release"]))
async def test_a_tampered_reply_of_a_silo_is_named_and_the_others_still_answer(
    town: Town, tamper: Callable[[bytes], bytes], of: str
) -> None:
    async def spoil(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        reply = await honest(body)
        return tamper(reply) if (silo, method) == (NORTH, of) else reply

    town.hub.carry = spoil
    answer = await town.ask()
    assert [item.silo for item in answer.missing] == [NORTH]
    assert {item.reason for item in answer.missing} <= {"integrity", "refused"}
    assert {source.silo for source in answer.sources} == set(SILOS) - {NORTH}


# -- rightly sealed and signed, but odd -----------------------------------------------------------


ODD_WORDS = st.from_regex(r"\w{1,64}", fullmatch=True)
WILD = arrays.arrays(
    np.float32, DIMENSION, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)
)


@live
@given(
    value=messages(SearchRequest, ODD_WORDS),
    vector=WILD,
    depth=st.integers(K, 200),
    fit=st.sampled_from(["in nothing", "in size", "in length too"]),
)
async def test_an_odd_question_of_a_rostered_gateway_gets_a_reply_or_a_named_refusal(
    town: Town, value: SearchRequest, vector: Vector, depth: int, fit: str
) -> None:
    """The gateway is the attacker: its signature holds, what is inside is wild."""
    if fit != "in nothing":
        terms = tuple(replace(term, weight=abs(term.weight)) for term in value.terms)
        value = replace(value, vector=vector, depth=depth, k=K, unit="passage", terms=terms)
        value = replace(value, purpose="treatment")
    if fit == "in length too":
        long = vector.astype(np.float64) + 1e-9
        value = replace(value, vector=(long / np.linalg.norm(long)).astype(np.float32))
    envelope = town.seal(town.identities[ANNEX], "search", os.urandom(16), value, *SILOS)
    reply = decode(Signed, await town.hub.tell(NORTH, "search", envelope))
    found = decode(SearchReply, reply.body)
    assert (found.refusal is None) == (fit == "in length too")
    assert found.refusal is None or found.refusal.reason in REASONS


@live
@given(header=messages(Header))
@example(header=Header(1, "search", b"", NORTH, (), "open", b"", 0, "passage", 0, b"", 0, 2**63))
async def test_an_odd_header_of_a_rostered_gateway_is_refused_by_name(
    town: Town, header: Header
) -> None:
    sealed = town.seal(
        town.identities[ANNEX], "search", header.id, Missing(NORTH, "refused"), NORTH
    )
    true = decode(Header, decode(Envelope, sealed).header)
    dated = replace(true, expires=max(header.expires, true.expires))
    for wild in (header, dated, replace(dated, k=header.k, key_hash=header.key_hash)):
        odd = replace(wild, sender=ANNEX)
        call = town.hub.tell(NORTH, "search", resigned(town, odd, sealed))
        assert await code_of(refused_or_raised(call)) in NAMED


def resigned(town: Town, header: Header, sealed: bytes) -> bytes:
    """An envelope under another header, signed again by its sender; its body no longer opens."""
    old, data = decode(Envelope, sealed), encode(header)
    digest = envelopes._digest(data, old.wraps, old.body)
    key = town.identities[header.sender].signing
    return encode(replace(old, header=data, signature=identities.sign(key, "envelope", digest)))


@live
@given(value=messages(ReleaseRequest), ticket=messages(Ticket))
async def test_an_odd_release_request_of_a_rostered_gateway_is_refused_by_name(
    town: Town, value: ReleaseRequest, ticket: Ticket
) -> None:
    before = town.disclosed()
    for paper in (value.ticket, town.identities[HUB].sign("ticket", ticket)):
        request = replace(value, ticket=paper)
        envelope = town.seal(town.identities[ANNEX], "release", ticket.query_id, request, NORTH)
        assert await code_of(town.hub.tell(NORTH, "release", envelope)) in NAMED
    assert town.disclosed() == before


@live
@given(value=messages(SearchReply))
async def test_an_odd_reply_of_a_silo_is_named_by_the_hub_and_the_others_still_answer(
    town: Town, value: SearchReply
) -> None:
    """The silo is the attacker: rightly signed, about this question, but odd."""

    async def odd(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if (silo, method) != (NORTH, "search"):
            return await honest(body)
        query_id = QueryId(envelopes.read_header(body).id)
        reply = replace(value, silo=NORTH, query_id=query_id)
        return encode(town.identities[NORTH].sign("search reply", reply))

    town.hub.carry = odd
    answer = await town.ask()
    assert {item.silo for item in answer.missing} <= {NORTH}
    assert {source.silo for source in answer.sources} == set(SILOS) - {NORTH}


@live
@given(value=messages(ReleaseReply))
async def test_odd_passages_of_a_silo_are_named_and_the_others_still_answer(
    town: Town, value: ReleaseReply
) -> None:
    async def odd(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if (silo, method) != (NORTH, "release"):
            return await honest(body)
        query_id = QueryId(envelopes.read_header(body).id)
        reply = replace(value, silo=NORTH, query_id=query_id)
        return town.seal(town.identities[NORTH], "passages", query_id, reply, WARD)

    town.hub.carry = odd
    answer = await town.ask()
    assert [(item.silo, item.reason) for item in answer.missing] in (
        [(NORTH, "integrity")],
        [(NORTH, "refused")],
    )
    assert {source.silo for source in answer.sources} == set(SILOS) - {NORTH}


@live
@given(value=messages(MergeReply))
async def test_an_odd_merge_of_the_hub_is_refused_by_name_or_leaves_all_silos_missing(
    town: Town, value: MergeReply
) -> None:
    before = town.disclosed()
    town.hub.bend = lambda merged: replace(value, query_id=merged.query_id)
    assert await code_of(asked_in_vain(town)) in {*NAMED, ""}
    assert town.disclosed() == before


async def asked_in_vain(town: Town) -> None:
    """A question that no silo can answer, each named."""
    answer = await town.ask()
    assert {item.silo for item in answer.missing} == set(SILOS)
    assert answer.abstained


@live
@given(value=messages(Profile))
async def test_an_odd_profile_of_a_silo_is_named_and_the_others_stay(
    town: Town, value: Profile
) -> None:
    own = replace(value, silo=NORTH, encoder=WordEmbedder.spec, expires=town.clock() + 9999)
    sealed = town.seal(town.identities[NORTH], "profile", bytes(16), own, WARD)
    town.hub.profiles_as(
        lambda honest: sealed if envelopes.read_header(honest).sender == NORTH else honest
    )
    await town.gateway.refresh()
    status = town.gateway.status()
    refused = [item.silo for item in status.refused_profiles]
    assert set(status.profiled) == set(SILOS) - set(refused)
    assert refused in ([], [NORTH])
    await town.ask()


# -- handshakes -----------------------------------------------------------------------------------


@asynccontextmanager
async def stranger(town: Town) -> AsyncIterator[ClientConnection]:
    """Somebody who is only connected."""
    tls = _client_tls(town.link, pinned=False)
    async with connect(town.link.url, ssl=tls, proxy=None, compression=None) as socket:
        yield socket


HELLOS = st.one_of(
    st.binary(max_size=200),
    st.builds(msgpack.packb, JSON),
    st.builds(lambda step: encode(replace(step, error="")), messages(Step)),
    st.builds(lambda hello: encode(Step("", "", "", encode(hello))), messages(Hello)),
)


@live
@given(data=HELLOS)
async def test_a_malformed_hello_is_turned_away_by_name(town: Town, data: bytes) -> None:
    before = town.registry.counters().get("handshakes refused", 0)
    async with honest_question_meanwhile(town), stranger(town) as socket:
        await socket.send(data)
        step = decode(Step, await socket.recv(decode=False))
        assert step.error in {"integrity", "incompatible", "denied", "settings"}
        with pytest.raises(ConnectionClosed):
            await socket.recv()
    await eventually(lambda: town.registry.counters()["handshakes refused"] == before + 1)


@few
@given(
    data=st.one_of(
        HELLOS, st.builds(lambda p: encode(Step("", "", "", encode(p))), messages(Proof))
    )
)
async def test_a_malformed_proof_is_turned_away_by_name(town: Town, data: bytes) -> None:
    """A card is public: whoever shows it still has to sign."""
    hello = Hello(1, town.identities[ANNEX].card, os.urandom(32), enrolling=False)
    async with stranger(town) as socket:
        await socket.send(encode(Step("", "", "", encode(hello))))
        decode(Challenge, decode(Step, await socket.recv(decode=False)).body)
        await socket.send(data)
        step = decode(Step, await socket.recv(decode=False))
        assert step.error == "integrity"
    assert ANNEX not in town.hub.lines


async def test_a_proof_for_another_connection_is_turned_away(town: Town) -> None:
    """A captured handshake played back: the hub's nonce is fresh."""
    before = len(town.tap.messages)
    async with town.dialled(ANNEX):
        await eventually(lambda: ANNEX in town.hub.lines)
    hello, _, proof = town.tap.messages[before : before + 3]
    await eventually(lambda: ANNEX not in town.hub.lines)
    async with stranger(town) as socket:
        await socket.send(hello)
        await socket.recv()
        await socket.send(proof)
        step = decode(Step, await socket.recv(decode=False))
        assert step.message == "signature of node handshake does not hold"
    await town.ask_as_usual()


async def test_plain_tcp_old_tls_and_silence_disturb_nobody(town: Town) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", town.port)
    _, plain = await asyncio.open_connection("127.0.0.1", town.port)
    plain.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(town.link.certificate)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, OSError)):
        await asyncio.open_connection("127.0.0.1", town.port, ssl=old, server_hostname="localhost")
    async with stranger(town):
        await town.ask_as_usual()
    writer.close()
    plain.close()
    assert reader is not None
