"""Tampered, oversized and malformed frames and handshakes against a live hub and a live silo.

Whatever comes is refused by name or counted; nothing else on the line or beside it is disturbed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from siloquy.codec import MAX_MESSAGE_BYTES, decode, encode
from siloquy.errors import Busy, Incompatible, Unreachable
from siloquy.types import (
    NodeId,
)
from siloquy.wire.channel import Challenge, Hello, Proof, Step, _client_tls
from tests.end_to_end.lines import (
    CANCEL,
    ERROR,
    REPLY,
    REQUEST,
    few,
    honest_question_meanwhile,
    line_to_hub,
    line_to_silo,
    live,
)
from tests.end_to_end.town import ANNEX, NORTH, Town, eventually
from tests.siloquy.strategies import JSON, messages

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
