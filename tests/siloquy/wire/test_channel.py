"""The handshake, calls in both directions, and everything that may go wrong with either.

Real WebSockets over TLS on loopback throughout.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from siloquy.codec import MAX_MESSAGE_BYTES, decode, encode
from siloquy.errors import (
    BY_CODE,
    Busy,
    Incompatible,
    IntegrityError,
    PolicyDenied,
    SettingsError,
    SiloquyError,
    Unreachable,
)
from siloquy.settings import HubLink
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity
from siloquy.types import NodeId
from siloquy.wire import channel as channels
from siloquy.wire.channel import (
    Channel,
    Handler,
    Hello,
    HubConnection,
    Proof,
    Step,
    Uplink,
    Welcome,
    dial,
)
from tests.siloquy.federation import ENCODER, Federation
from tests.siloquy.hub_server import (
    Certificate,
    HubServer,
    link_to,
    listening,
    new_certificate,
    server_tls,
)

CANARY = "zebrafish"
SOON = 5.0


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return new_certificate(tmp_path_factory.mktemp("tls"), "hub")


@pytest.fixture(scope="session")
def other_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return new_certificate(tmp_path_factory.mktemp("tls"), "other")


@pytest.fixture
async def hub(certificate: Certificate, federation: Federation) -> AsyncIterator[HubServer]:
    async with listening(certificate, federation.hub, federation.roster) as server:
        yield server


async def join(hub: HubServer, node: Identity, federation: Federation) -> HubConnection:
    return await dial(hub.link, node, ENCODER, federation.roster)


@dataclass(frozen=True, slots=True)
class Line:
    """Both ends of one proven connection."""

    node: Channel
    hub: Channel


@contextlib.asynccontextmanager
async def line(
    certificate: Certificate,
    federation: Federation,
    at_hub: Mapping[str, Handler] | None = None,
    at_node: Mapping[str, Handler] | None = None,
    most_in_flight: int = channels.MOST_IN_FLIGHT,
) -> AsyncIterator[Line]:
    """A line from the ward to the hub, with the handlers of either end."""
    async with listening(
        certificate, federation.hub, federation.roster, at_hub, most_in_flight
    ) as server:
        joined = await join(server, federation.ward, federation)
        node = Channel(joined.socket, joined.hub.node, at_node or {})
        reader = asyncio.create_task(node.run())
        try:
            yield Line(node, await server.lines.get())
        finally:
            await node.close()
            await reader


async def echo(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
    return body


class Stuck:
    """A handler that never answers and tells whether it was started and stopped."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()

    async def __call__(self, peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise
        return b""


async def soon(event: asyncio.Event) -> None:
    """Return when ``event`` is set, fail when it is not in a while."""
    await asyncio.wait_for(event.wait(), SOON)


async def until(condition: Any) -> None:
    """Return when ``condition()`` holds, fail when it does not in a while."""
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - what is waited for signals nothing
            await asyncio.sleep(0.005)


# -- handshake ------------------------------------------------------------------------------------


async def test_the_node_learns_who_its_hub_is(hub: HubServer, federation: Federation) -> None:
    joined = await join(hub, federation.ward, federation)
    await joined.socket.close()
    assert joined.hub == federation.hub.card


async def test_the_hub_learns_who_joined(hub: HubServer, federation: Federation) -> None:
    joined = await join(hub, federation.north, federation)
    await joined.socket.close()
    (newcomer,) = hub.newcomers
    assert newcomer == channels.Newcomer(federation.north.card, ENCODER, enrolling=False)


async def test_the_node_is_told_the_current_roster(hub: HubServer, federation: Federation) -> None:
    joined = await join(hub, federation.ward, federation)
    await joined.socket.close()
    assert rosters.from_bytes(joined.welcome.roster) == federation.roster


async def test_the_node_sees_the_certificate(
    hub: HubServer, federation: Federation, certificate: Certificate
) -> None:
    joined = await join(hub, federation.ward, federation)
    await joined.socket.close()
    assert hashlib.sha256(joined.certificate).digest() == certificate.hash


async def test_a_newcomer_enrols_by_the_hubs_key(hub: HubServer, federation: Federation) -> None:
    stranger = identities.create("stranger", "silo", "Elsewhere")
    key = federation.hub.card.signing_key
    joined = await dial(hub.link, stranger, ENCODER, None, hub_key=key)
    await joined.socket.close()
    assert hub.newcomers[0].enrolling


async def test_a_newcomer_enrols_by_the_certificates_hash(
    hub: HubServer, federation: Federation, certificate: Certificate
) -> None:
    joined = await dial(
        replace(hub.link, certificate=""),
        federation.ward,
        ENCODER,
        federation.roster,
        certificate_hash=certificate.hash,
    )
    await joined.socket.close()
    assert joined.hub == federation.hub.card


async def test_another_hub_behind_the_same_certificate_is_refused(
    certificate: Certificate, federation: Federation
) -> None:
    impostor = identities.create("hub", "hub", "Vale")
    async with listening(certificate, impostor, federation.roster) as server:
        with pytest.raises(IntegrityError, match="this hub is not the federation's"):
            await join(server, federation.ward, federation)


async def test_a_hub_that_shows_the_right_card_without_its_key_is_refused(
    certificate: Certificate, federation: Federation
) -> None:
    impostor = replace(identities.create("hub", "hub", "Vale"), card=federation.hub.card)
    async with listening(certificate, impostor, federation.roster) as server:
        with pytest.raises(IntegrityError, match="signature of hub handshake"):
            await join(server, federation.ward, federation)


async def test_a_hub_with_another_card_than_the_roster_says_is_refused(
    certificate: Certificate, federation: Federation
) -> None:
    other = replace(federation.hub.card, sealing_key=bytes(32), node=NodeId("north"))
    async with listening(
        certificate, replace(federation.hub, card=other), federation.roster
    ) as server:
        with pytest.raises(IntegrityError):
            await (await join(server, federation.ward, federation)).socket.close()


@pytest.mark.parametrize("key", [None, bytes(32)], ids=["no key", "another key"])
async def test_nobody_enrols_without_the_hubs_key(
    hub: HubServer, federation: Federation, key: bytes | None
) -> None:
    with pytest.raises(IntegrityError, match="this hub is not the federation's"):
        await dial(hub.link, federation.ward, ENCODER, None, hub_key=key)


async def test_a_node_that_is_not_rostered_is_refused(
    hub: HubServer, federation: Federation
) -> None:
    stranger = identities.create("stranger", "silo", "Elsewhere")
    with pytest.raises(PolicyDenied, match="stranger is not in version 1"):
        await join(hub, stranger, federation)
    assert isinstance(await hub.refused.get(), PolicyDenied)


async def test_other_keys_under_a_rostered_name_are_refused(
    hub: HubServer, federation: Federation
) -> None:
    with pytest.raises(PolicyDenied, match="north is rostered with other keys"):
        await join(hub, identities.create("north", "silo", "Northmoor"), federation)


async def test_a_members_card_without_its_key_is_refused(
    hub: HubServer, federation: Federation
) -> None:
    thief = replace(identities.create("north", "silo", "Northmoor"), card=federation.north.card)
    with pytest.raises(IntegrityError, match="signature of node handshake"):
        await join(hub, thief, federation)


async def test_a_card_that_is_not_self_signed_is_refused(
    hub: HubServer, federation: Federation
) -> None:
    forged = replace(federation.north, card=replace(federation.north.card, role="hub"))
    with pytest.raises(IntegrityError, match="signature of card"):
        await join(hub, forged, federation)


@pytest.mark.parametrize("change", [{"sha256": "0" * 64}, {"dimension": 768}])
async def test_another_encoder_is_refused(
    hub: HubServer, federation: Federation, change: dict[str, Any]
) -> None:
    with pytest.raises(Incompatible, match="differs from the federation's"):
        await dial(hub.link, federation.ward, replace(ENCODER, **change), federation.roster)


async def test_an_encoder_under_another_name_is_welcome(
    hub: HubServer, federation: Federation
) -> None:
    renamed = replace(ENCODER, name="/models/minilm")
    joined = await dial(hub.link, federation.ward, renamed, federation.roster)
    await joined.socket.close()
    assert joined.hub == federation.hub.card


@contextlib.asynccontextmanager
async def by_hand(hub: HubServer, certificate: Certificate) -> AsyncIterator[ClientConnection]:
    """A bare WebSocket to the hub, to say what no node of ours would."""
    tls = channels._client_tls(HubLink(certificate=str(certificate.path)), pinned=False)
    async with connect(hub.link.url, ssl=tls, proxy=None) as socket:
        yield socket


async def refusal(socket: ClientConnection) -> str:
    """The code of the error that the hub answers."""
    async with asyncio.timeout(SOON):
        return decode(Step, await socket.recv(decode=False)).error


async def test_another_protocol_is_refused(
    hub: HubServer, federation: Federation, certificate: Certificate
) -> None:
    hello = Hello(channels.PROTOCOL_VERSION + 1, federation.ward.card, bytes(32), enrolling=False)
    async with by_hand(hub, certificate) as socket:
        await socket.send(encode(Step("", "", "", encode(hello))))
        assert await refusal(socket) == "incompatible"


@pytest.mark.parametrize("word", [b"", b"\xc1", b"\x80", bytes(range(100, 200))])
async def test_a_first_word_that_is_none_is_refused(
    hub: HubServer, certificate: Certificate, word: bytes
) -> None:
    async with by_hand(hub, certificate) as socket:
        await socket.send(word)
        assert await refusal(socket) == "integrity"


async def test_a_long_first_word_is_refused_before_it_is_read(
    hub: HubServer, federation: Federation, certificate: Certificate
) -> None:
    card = replace(federation.ward.card, organisation="x" * channels.MOST_STEP_BYTES)
    hello = Hello(channels.PROTOCOL_VERSION, card, bytes(32), enrolling=True)
    async with by_hand(hub, certificate) as socket:
        await socket.send(encode(Step("", "", "", encode(hello))))
        step = decode(Step, await socket.recv(decode=False))
    assert step.message.endswith(f"at most {channels.MOST_STEP_BYTES}")


async def test_a_roster_of_hundreds_of_members_is_welcome(
    certificate: Certificate, federation: Federation
) -> None:
    more = [identities.create(f"silo{n}", "silo", "x" * 60).card for n in range(300)]
    roster = replace(federation.roster.roster, members=(*federation.members, *more))
    large = rosters.SignedRoster(roster, {})
    async with listening(certificate, federation.hub, large) as server:
        joined = await join(server, federation.ward, federation)
    assert rosters.from_bytes(joined.welcome.roster) == large


async def test_a_proof_of_an_earlier_handshake_is_refused(
    hub: HubServer, federation: Federation, certificate: Certificate
) -> None:
    hello = Hello(channels.PROTOCOL_VERSION, federation.ward.card, bytes(32), enrolling=False)
    signatures = []
    for _ in range(2):
        async with by_hand(hub, certificate) as socket:
            await socket.send(encode(Step("", "", "", encode(hello))))
            step = decode(Step, await socket.recv(decode=False))
            challenge = decode(channels.Challenge, step.body)
            transcript = channels._transcript(encode(hello), challenge, certificate.hash)
            signatures.append(
                identities.sign(federation.ward.signing, "node handshake", transcript)
            )
            await socket.send(encode(Step("", "", "", encode(Proof(signatures[0], ENCODER, 1)))))
            answer = await refusal(socket)
    assert answer == "integrity"


async def test_a_hubs_signature_does_not_pass_as_a_nodes(
    hub: HubServer, federation: Federation, certificate: Certificate
) -> None:
    hello = Hello(channels.PROTOCOL_VERSION, federation.hub.card, bytes(32), enrolling=False)
    async with by_hand(hub, certificate) as socket:
        await socket.send(encode(Step("", "", "", encode(hello))))
        step = decode(Step, await socket.recv(decode=False))
        reflected = decode(channels.Challenge, step.body).signature
        await socket.send(encode(Step("", "", "", encode(Proof(reflected, ENCODER, 1)))))
        assert await refusal(socket) == "integrity"


@contextlib.asynccontextmanager
async def man_in_the_middle(
    hub: HubServer, certificate: Certificate, own: Certificate
) -> AsyncIterator[HubLink]:
    """Relays every message, word for word, under a TLS certificate of its own."""

    async def relay(source: Any, sink: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for data in source:
                await sink.send(data)
        await sink.close()

    async def between(victim: ServerConnection) -> None:
        async with by_hand(hub, certificate) as real, asyncio.TaskGroup() as tasks:
            tasks.create_task(relay(victim, real))
            tasks.create_task(relay(real, victim))

    async with serve(between, "127.0.0.1", 0, ssl=server_tls(own)) as server:
        yield link_to(server, own)


async def test_a_man_in_the_middle_with_a_trusted_certificate_is_noticed(
    hub: HubServer,
    federation: Federation,
    certificate: Certificate,
    other_certificate: Certificate,
) -> None:
    async with man_in_the_middle(hub, certificate, other_certificate) as link:
        with pytest.raises(IntegrityError, match="signature of hub handshake"):
            await dial(link, federation.ward, ENCODER, federation.roster)
    assert not hub.newcomers


async def test_the_hub_notices_a_man_in_the_middle_by_itself(
    hub: HubServer,
    federation: Federation,
    certificate: Certificate,
    other_certificate: Certificate,
) -> None:
    hello = Hello(channels.PROTOCOL_VERSION, federation.ward.card, bytes(32), enrolling=False)
    async with by_hand(hub, certificate) as socket:
        await socket.send(encode(Step("", "", "", encode(hello))))
        step = decode(Step, await socket.recv(decode=False))
        challenge = decode(channels.Challenge, step.body)
        seen = channels._transcript(encode(hello), challenge, other_certificate.hash)
        signature = identities.sign(federation.ward.signing, "node handshake", seen)
        await socket.send(encode(Step("", "", "", encode(Proof(signature, ENCODER, 1)))))
        assert await refusal(socket) == "integrity"


async def test_a_certificate_that_is_not_trusted_is_refused(
    hub: HubServer, federation: Federation, other_certificate: Certificate
) -> None:
    link = replace(hub.link, certificate=str(other_certificate.path))
    with pytest.raises(IntegrityError, match="TLS certificate is not the expected one"):
        await dial(link, federation.ward, ENCODER, federation.roster)


async def test_a_certificate_of_another_hash_is_refused(
    hub: HubServer, federation: Federation, other_certificate: Certificate
) -> None:
    with pytest.raises(IntegrityError, match="TLS certificate is not the invitation's"):
        await dial(
            hub.link,
            federation.ward,
            ENCODER,
            federation.roster,
            certificate_hash=other_certificate.hash,
        )


@pytest.mark.parametrize("url", ["", "ws://127.0.0.1:1", "https://127.0.0.1:1", "127.0.0.1:1"])
async def test_a_url_without_tls_is_refused(federation: Federation, url: str) -> None:
    with pytest.raises(SettingsError, match=r"hub\.url is"):
        await dial(HubLink(url), federation.ward, ENCODER, federation.roster)


@pytest.mark.parametrize("url", ["wss://[::1", "wss://127.0.0.1:99999"])
async def test_a_url_that_is_none_is_refused(federation: Federation, url: str) -> None:
    with pytest.raises(SettingsError):
        await dial(HubLink(url), federation.ward, ENCODER, federation.roster)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_certificate_file_that_is_none_is_a_settings_error(
    hub: HubServer, federation: Federation, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "hub.pem").write_text(content)
    link = replace(hub.link, certificate=str(tmp_path / "hub.pem"))
    with pytest.raises(SettingsError, match=r"hub\.pem"):
        await dial(link, federation.ward, ENCODER, federation.roster)


async def test_nobody_at_the_address_is_unreachable(
    federation: Federation, certificate: Certificate
) -> None:
    async with listening(certificate, federation.hub, federation.roster) as server:
        link = server.link
    with pytest.raises(Unreachable, match="no hub at wss://127"):
        await dial(link, federation.ward, ENCODER, federation.roster)


@contextlib.asynccontextmanager
async def mute(certificate: Certificate, *, hang_up: bool) -> AsyncIterator[HubLink]:
    """A hub that never says a word."""

    async def silence(socket: ServerConnection) -> None:
        if not hang_up:
            await socket.wait_closed()

    async with serve(silence, "127.0.0.1", 0, ssl=server_tls(certificate)) as server:
        yield link_to(server, certificate)


async def test_a_hub_that_says_nothing_is_unreachable(
    federation: Federation, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mute(certificate, hang_up=False) as link:
        monkeypatch.setattr(channels, "HANDSHAKE_TIMEOUT_S", 1.0)
        with pytest.raises(Unreachable, match="did not finish the handshake"):
            await dial(link, federation.ward, ENCODER, federation.roster)


async def test_a_hub_that_hangs_up_is_unreachable(
    federation: Federation, certificate: Certificate
) -> None:
    async with mute(certificate, hang_up=True) as link:
        with pytest.raises(Unreachable, match="closed the line during the handshake"):
            await dial(link, federation.ward, ENCODER, federation.roster)


async def test_a_node_that_says_nothing_is_unreachable(
    hub: HubServer, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "HANDSHAKE_TIMEOUT_S", 0.1)
    async with by_hand(hub, certificate):
        error = await asyncio.wait_for(hub.refused.get(), SOON)
    assert isinstance(error, Unreachable)


async def test_a_node_that_hangs_up_does_not_join(hub: HubServer, certificate: Certificate) -> None:
    async with by_hand(hub, certificate):
        pass
    error = await asyncio.wait_for(hub.refused.get(), SOON)
    assert isinstance(error, (SiloquyError, ConnectionClosed))
    assert not hub.newcomers


# -- calls ----------------------------------------------------------------------------------------


async def test_a_node_calls_its_hub(certificate: Certificate, federation: Federation) -> None:
    async with line(certificate, federation, at_hub={"echo": echo}) as ends:
        assert await ends.node.call("echo", b"question", SOON) == b"question"


async def test_a_hub_calls_its_node(certificate: Certificate, federation: Federation) -> None:
    async with line(certificate, federation, at_node={"echo": echo}) as ends:
        assert await ends.hub.call("echo", b"question", SOON) == b"question"


async def test_the_handler_knows_who_calls_and_how_long_it_waits(
    certificate: Certificate, federation: Federation
) -> None:
    async def tell(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        return f"{peer} {timeout_s:g}".encode()

    async with line(certificate, federation, {"tell": tell}, {"tell": tell}) as ends:
        assert await ends.node.call("tell", b"", 2.5) == b"ward 2.5"
        assert await ends.hub.call("tell", b"", 1.5) == b"hub 1.5"


async def test_a_handler_may_call_back(certificate: Certificate, federation: Federation) -> None:
    async def ask_back(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        return await ends.hub.call("echo", body + b"!", timeout_s)

    async with line(certificate, federation, {"ask": ask_back}, {"echo": echo}) as ends:
        assert await ends.node.call("ask", b"why", SOON) == b"why!"


async def test_many_calls_in_both_directions_keep_their_replies(
    certificate: Certificate, federation: Federation
) -> None:
    async def slow_for_some(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        await asyncio.sleep(0.02 * (body[0] % 3))
        return body * 100

    both = {"work": slow_for_some}
    async with line(certificate, federation, both, both) as ends:
        calls = [
            end.call("work", bytes([n]), SOON) for n in range(30) for end in (ends.node, ends.hub)
        ]
        replies = await asyncio.gather(*calls)
    assert replies == [bytes([n]) * 100 for n in range(30) for _ in range(2)]


async def test_a_quick_call_overtakes_a_slow_one(
    certificate: Certificate, federation: Federation
) -> None:
    stuck = Stuck()
    async with line(certificate, federation, {"stuck": stuck, "echo": echo}) as ends:
        slow = asyncio.create_task(ends.node.call("stuck", b"", SOON))
        await soon(stuck.started)
        assert await ends.node.call("echo", b"quick", SOON) == b"quick"
        slow.cancel()


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
async def test_a_body_of_any_size_arrives(
    certificate: Certificate, federation: Federation, size: int
) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        assert await ends.node.call("echo", bytes(size), SOON) == bytes(size)


async def test_traffic_is_counted_alike_at_both_ends(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        await ends.node.call("echo", bytes(1000), SOON)
        assert ends.node.bytes_out == ends.hub.bytes_in
        assert ends.node.bytes_in == ends.hub.bytes_out
        assert 1000 < ends.node.bytes_out < 1050


async def test_no_reply_in_time_is_unreachable(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation, {"stuck": Stuck()}) as ends:
        with pytest.raises(Unreachable, match=r"hub did not answer in 0\.05 s"):
            await ends.node.call("stuck", b"", 0.05)


async def test_a_callers_deadline_stops_the_work(
    certificate: Certificate, federation: Federation
) -> None:
    stuck = Stuck()
    async with line(certificate, federation, {"stuck": stuck}) as ends:
        with pytest.raises(Unreachable):
            await ends.node.call("stuck", b"", 0.5)
        await soon(stuck.stopped)


async def test_a_late_reply_disturbs_nothing(
    certificate: Certificate, federation: Federation
) -> None:
    async def late(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return b"late"

    async with line(certificate, federation, {"late": late, "echo": echo}) as ends:
        with pytest.raises(Unreachable):
            await ends.node.call("late", b"", 0.05)
        assert await ends.node.call("echo", b"next", SOON) == b"next"


async def test_a_callers_cancellation_stops_the_work(
    certificate: Certificate, federation: Federation
) -> None:
    stuck = Stuck()
    async with line(certificate, federation, {"stuck": stuck}) as ends:
        call = asyncio.create_task(ends.node.call("stuck", b"", SOON))
        await soon(stuck.started)
        call.cancel()
        await soon(stuck.stopped)


async def test_a_cancelled_call_frees_its_place(
    certificate: Certificate, federation: Federation
) -> None:
    stuck = Stuck()
    handlers: dict[str, Handler] = {"stuck": stuck, "echo": echo}
    async with line(certificate, federation, handlers, most_in_flight=1) as ends:
        call = asyncio.create_task(ends.node.call("stuck", b"", SOON))
        await soon(stuck.started)
        call.cancel()
        await soon(stuck.stopped)
        assert await ends.node.call("echo", b"next", SOON) == b"next"


async def test_more_calls_than_allowed_are_told_busy(
    certificate: Certificate, federation: Federation
) -> None:
    one, two = Stuck(), Stuck()
    async with line(certificate, federation, {"1": one, "2": two}, most_in_flight=2) as ends:
        calls = [asyncio.create_task(ends.node.call(name, b"", SOON)) for name in ("1", "2")]
        await soon(one.started)
        await soon(two.started)
        with pytest.raises(Busy, match="more than 2 requests at once"):
            await ends.node.call("1", b"", SOON)
        for call in calls:
            call.cancel()


async def test_a_flood_is_told_busy_only_so_often(
    certificate: Certificate, federation: Federation
) -> None:
    stuck = Stuck()
    async with line(certificate, federation, {"stuck": stuck}, most_in_flight=1) as ends:
        call = asyncio.create_task(ends.node.call("stuck", b"", SOON))
        await soon(stuck.started)
        for number in range(100, 110):
            ends.hub._accept(number, "stuck", SOON, b"")
        assert (len(ends.hub._working), ends.hub.refused_frames) == (2, 9)
        call.cancel()


async def test_a_method_that_the_peer_lacks_is_incompatible(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation) as ends:
        with pytest.raises(Incompatible, match="unknown method 'teleport'"):
            await ends.node.call("teleport", b"", SOON)


async def test_a_call_may_wait_for_longer_than_an_hour(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        async with asyncio.timeout(0.5):
            assert await ends.node.call("echo", b"", 3601.0) == b""


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=BY_CODE.keys())
async def test_a_deliberate_error_arrives_as_itself(
    certificate: Certificate, federation: Federation, kind: type[SiloquyError]
) -> None:
    async def refuse(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        raise kind("what happened", "what to do")

    async with line(certificate, federation, {"refuse": refuse}) as ends:
        with pytest.raises(SiloquyError) as caught:
            await ends.node.call("refuse", b"", SOON)
    error = caught.value
    assert (type(error), error.message, error.hint) == (kind, "what happened", "what to do")


async def test_a_message_of_two_lines_arrives_as_itself(
    certificate: Certificate, federation: Federation
) -> None:
    async def refuse(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        raise PolicyDenied("one\ntwo", "hint")

    async with line(certificate, federation, {"refuse": refuse}) as ends:
        with pytest.raises(PolicyDenied) as caught:
            await ends.node.call("refuse", b"", SOON)
    assert caught.value.message == "one\ntwo"


async def break_down(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
    raise ValueError(f"cannot parse {body.decode()}")


async def test_an_unexpected_error_does_not_tell_the_caller_its_text(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation, {"break": break_down}) as ends:
        with pytest.raises(SiloquyError, match=r"^break failed at the other end$") as caught:
            await ends.node.call("break", CANARY.encode(), SOON)
    assert CANARY not in caught.value.message + caught.value.hint


async def test_an_unexpected_error_does_not_tell_the_log_its_text(
    certificate: Certificate, federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="siloquy")
    async with line(certificate, federation, {"break": break_down}) as ends:
        with pytest.raises(SiloquyError):
            await ends.node.call("break", CANARY.encode(), SOON)
    text = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("siloquy"))
    assert "ValueError" in text
    assert CANARY not in caplog.text


async def test_the_line_survives_a_handler_that_breaks_down(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation, {"break": break_down, "echo": echo}) as ends:
        with pytest.raises(SiloquyError):
            await ends.node.call("break", b"", SOON)
        assert await ends.node.call("echo", b"next", SOON) == b"next"


async def test_a_request_over_the_limit_is_refused_before_it_is_sent(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        with pytest.raises(Incompatible, match=f"at most {MAX_MESSAGE_BYTES}"):
            await ends.node.call("echo", bytes(MAX_MESSAGE_BYTES), SOON)
        assert ends.node.bytes_out == 0


async def test_a_reply_over_the_limit_is_told_and_the_line_survives(
    certificate: Certificate, federation: Federation
) -> None:
    async def shout(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        return bytes(MAX_MESSAGE_BYTES)

    async with line(certificate, federation, {"shout": shout, "echo": echo}) as ends:
        with pytest.raises(Incompatible, match=f"at most {MAX_MESSAGE_BYTES}"):
            await ends.node.call("shout", b"", SOON)
        assert await ends.node.call("echo", b"next", SOON) == b"next"


async def test_a_frame_over_the_limit_breaks_the_line_and_is_counted(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        await ends.node._socket.send(bytes(MAX_MESSAGE_BYTES + 1))
        with pytest.raises(Unreachable):
            await ends.node.call("echo", b"", SOON)
        assert ends.hub.refused_frames == 1


def frame(*parts: object) -> bytes:
    data = msgpack.packb(parts)
    assert isinstance(data, bytes)
    return data


MALFORMED: dict[str, bytes | str] = {
    "nothing": b"",
    "noise": b"\xc1\xff",
    "text": "question",
    "deep": b"\x91" * 100_000,
    "a claim of a thousand million items": b"\xdd\x3f\xff\xff\xff",
    "a number": b"\x01",
    "too few parts": frame(0, 1, "echo", 1000),
    "too many parts": frame(0, 1, "echo", 1000, b"", b""),
    "a map": msgpack.packb({"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}),
    "truth for a kind": frame(False, 1, "echo", 1000, b""),
    "an unknown kind": frame(4, 1, "echo", 1000, b""),
    "a negative kind": frame(-1, 1, "echo", 1000, b""),
    "text for a number": frame(0, "1", "echo", 1000, b""),
    "bytes for a name": frame(0, 1, b"echo", 1000, b""),
    "text for a body": frame(0, 1, "echo", 1000, "body"),
    "a float deadline": frame(0, 1, "echo", 1e9, b""),
    "a negative deadline": frame(0, 1, "echo", -1, b""),
    "an endless deadline": frame(0, 1, "echo", 2**62, b""),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_frame_is_counted_and_disturbs_nothing(
    certificate: Certificate, federation: Federation, data: bytes | str
) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        await ends.node._socket.send(data)
        assert await ends.node.call("echo", b"next", SOON) == b"next"
        assert ends.hub.refused_frames == 1


@pytest.mark.parametrize("kind", [channels._REPLY, channels._ERROR, channels._CANCEL])
async def test_a_frame_that_nobody_waits_for_is_ignored(
    certificate: Certificate, federation: Federation, kind: int
) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        await ends.node._socket.send(frame(kind, 404, "", 0, b""))
        assert await ends.node.call("echo", b"next", SOON) == b"next"


async def test_a_number_in_use_is_refused(certificate: Certificate, federation: Federation) -> None:
    stuck = Stuck()
    async with line(certificate, federation, {"stuck": stuck, "echo": echo}) as ends:
        for _ in range(2):
            await ends.node._socket.send(frame(channels._REQUEST, 404, "stuck", 5000, b""))
        await ends.node.call("echo", b"next", SOON)
        assert ends.hub.refused_frames == 1


# -- broken lines ---------------------------------------------------------------------------------


async def test_a_broken_line_fails_whoever_waits(
    certificate: Certificate, federation: Federation
) -> None:
    stuck = Stuck()
    async with line(certificate, federation, {"stuck": stuck}) as ends:
        call = asyncio.create_task(ends.node.call("stuck", b"", SOON))
        await soon(stuck.started)
        await ends.hub.close()
        with pytest.raises(Unreachable, match="the line to hub broke"):
            await call


async def test_a_broken_line_stops_the_work(
    certificate: Certificate, federation: Federation
) -> None:
    stuck = Stuck()
    async with line(certificate, federation, {"stuck": stuck}) as ends:
        call = asyncio.create_task(ends.node.call("stuck", b"", SOON))
        await soon(stuck.started)
        await ends.node.close()
        await soon(stuck.stopped)
        with pytest.raises(Unreachable):
            await call


@pytest.mark.parametrize("error", [None, Busy("too late"), ValueError("too late")])
async def test_a_handler_that_ends_after_the_line_broke_disturbs_nothing(
    certificate: Certificate,
    federation: Federation,
    caplog: pytest.LogCaptureFixture,
    error: Exception | None,
) -> None:
    async def break_line(peer: NodeId, body: bytes, timeout_s: float) -> bytes:
        with contextlib.suppress(asyncio.CancelledError):
            await ends.hub.close()
            await asyncio.Event().wait()
        if error is not None:
            raise error
        return b"too late"

    async with line(certificate, federation, {"break": break_line}) as ends:
        with pytest.raises(Unreachable):
            await ends.node.call("break", b"", SOON)
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_a_call_over_a_closed_line_is_unreachable(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        await ends.node.close()
        with pytest.raises(Unreachable, match="the line to hub broke"):
            await ends.node.call("echo", b"", SOON)


# -- lines without life ---------------------------------------------------------------------------


@pytest.fixture
def quick_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "TICK_S", 0.05)


def hold(end: Channel) -> None:
    """From now on nothing is read at this end: no data, no pings."""
    end._socket.transport.pause_reading()


@pytest.mark.usefixtures("quick_ticks")
async def test_a_line_on_which_nothing_comes_is_given_up_at_both_ends(
    certificate: Certificate, federation: Federation, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Stuck()
    async with line(certificate, federation, {"stuck": stuck}) as ends:
        call = asyncio.create_task(ends.node.call("stuck", b"", SOON))
        await soon(stuck.started)
        hold(ends.node)
        with pytest.raises(Unreachable, match="the line to hub broke"):
            await call
        await soon(stuck.stopped)
    assert "line given up peer=hub: nothing came" in caplog.text


@pytest.mark.usefixtures("quick_ticks")
async def test_an_idle_line_lives_on(certificate: Certificate, federation: Federation) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        await asyncio.sleep(channels.TICK_S * channels.MOST_SILENT_TICKS * 4)
        assert await ends.node.call("echo", b"still here", SOON) == b"still here"


async def test_a_call_over_a_line_that_takes_nothing_more_fails_at_once(
    certificate: Certificate, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "MOST_UNSENT_BYTES", 100_000)
    async with line(certificate, federation, {"echo": echo}) as ends:
        hold(ends.hub)
        for _ in range(3):
            with pytest.raises(Unreachable):
                await ends.node.call("echo", bytes(MAX_MESSAGE_BYTES - 100), 0.2)
        start = asyncio.get_running_loop().time()
        with pytest.raises(Unreachable, match="too slow: too much waits in it"):
            await ends.node.call("echo", b"", SOON)
        assert asyncio.get_running_loop().time() - start < SOON / 2
        ends.node.drop()


async def test_a_line_that_is_dropped_ends_without_waiting_for_the_peer(
    certificate: Certificate, federation: Federation
) -> None:
    async with line(certificate, federation, {"echo": echo}) as ends:
        hold(ends.hub)
        ends.node.drop()
        with pytest.raises(Unreachable):
            await ends.node.call("echo", b"", SOON)


# -- staying connected ----------------------------------------------------------------------------


class Node:
    """A node with an uplink, as its service would run it."""

    def __init__(self, link: HubLink, federation: Federation) -> None:
        self.link = link
        self.welcomes: list[Welcome] = []
        self.troubles: list[Exception] = []
        self._federation = federation
        self.uplink = Uplink(self._connect, {"echo": echo}, self._on_join)

    async def _connect(self) -> HubConnection:
        return await dial(self.link, self._federation.ward, ENCODER, self._federation.roster)

    async def _on_join(self, channel: Channel, welcome: Welcome) -> None:
        self.welcomes.append(welcome)
        if self.troubles:
            raise self.troubles.pop()


@contextlib.asynccontextmanager
async def running(node: Node) -> AsyncIterator[Uplink]:
    task = asyncio.create_task(node.uplink.run())
    try:
        yield node.uplink
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def echoing(certificate: Certificate, federation: Federation) -> AsyncIterator[HubServer]:
    async with listening(certificate, federation.hub, federation.roster, {"echo": echo}) as server:
        yield server


@pytest.fixture(autouse=True)
def quick_redial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "BACKOFF_S", (0.01, 0.05))


async def test_an_uplink_calls_the_hub(echoing: HubServer, federation: Federation) -> None:
    async with running(Node(echoing.link, federation)) as uplink:
        await uplink.wait(SOON)
        assert await uplink.call("echo", b"question", SOON) == b"question"


async def test_an_uplink_answers_the_hub(echoing: HubServer, federation: Federation) -> None:
    async with running(Node(echoing.link, federation)) as uplink:
        await uplink.wait(SOON)
        line_to_node = await echoing.lines.get()
        assert await line_to_node.call("echo", b"question", SOON) == b"question"


async def test_an_uplink_tells_the_roster_that_the_hub_holds(
    echoing: HubServer, federation: Federation
) -> None:
    node = Node(echoing.link, federation)
    async with running(node) as uplink:
        await uplink.wait(SOON)
    assert rosters.from_bytes(node.welcomes[0].roster) == federation.roster


async def test_an_uplink_dials_again_when_the_hub_closes(
    echoing: HubServer, federation: Federation
) -> None:
    node = Node(echoing.link, federation)
    async with running(node) as uplink:
        await uplink.wait(SOON)
        await (await echoing.lines.get()).close()
        await until(lambda: len(node.welcomes) == 2)
        await uplink.wait(SOON)
        assert await uplink.call("echo", b"again", SOON) == b"again"


async def test_an_uplink_finds_a_hub_that_restarts(
    certificate: Certificate, federation: Federation
) -> None:
    handlers = {"echo": echo}
    async with contextlib.AsyncExitStack() as stack:
        async with listening(certificate, federation.hub, federation.roster) as first:
            port = next(iter(first.server.sockets)).getsockname()[1]
            uplink = await stack.enter_async_context(running(Node(first.link, federation)))
            await uplink.wait(SOON)
        await until(lambda: not uplink.connected)
        await stack.enter_async_context(
            listening(certificate, federation.hub, federation.roster, handlers, port=port)
        )
        await uplink.wait(SOON)
        assert await uplink.call("echo", b"again", SOON) == b"again"


async def test_a_call_while_the_line_is_down_is_unreachable(
    echoing: HubServer, federation: Federation
) -> None:
    node = Node(echoing.link, federation)
    with pytest.raises(Unreachable, match="the hub is not connected"):
        await node.uplink.call("echo", b"", SOON)


async def test_an_uplink_is_not_connected_before_it_ran(
    echoing: HubServer, federation: Federation
) -> None:
    uplink = Node(echoing.link, federation).uplink
    assert not uplink.connected
    with pytest.raises(Unreachable, match="the hub does not answer"):
        await uplink.wait(0.01)


async def test_waiting_tells_why_the_hub_refuses(hub: HubServer, federation: Federation) -> None:
    stranger = identities.create("stranger", "silo", "Elsewhere")
    uplink = Uplink(
        lambda: join(hub, stranger, federation), {}, Node(hub.link, federation)._on_join
    )
    task = asyncio.create_task(uplink.run())
    await until(lambda: uplink.last_error)
    with pytest.raises(PolicyDenied, match="stranger is not in version 1"):
        await uplink.wait(0.01)
    task.cancel()


async def test_trouble_while_joining_closes_the_line_and_dials_again(
    echoing: HubServer, federation: Federation
) -> None:
    node = Node(echoing.link, federation)
    node.troubles = [IntegrityError("rolled back")]
    async with running(node) as uplink:
        await until(lambda: len(node.welcomes) == 2)
        await uplink.wait(SOON)
        assert uplink.last_error is None


async def test_an_unexpected_error_while_joining_does_not_end_the_uplink(
    echoing: HubServer, federation: Federation
) -> None:
    node = Node(echoing.link, federation)
    node.troubles = [OSError("disk full")]
    task = asyncio.create_task(node.uplink.run())
    try:
        await until(lambda: task.done() or node.uplink.connected)
        assert not task.done()
        assert len(node.welcomes) == 2
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_same_trouble_is_logged_once(
    federation: Federation, certificate: Certificate, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(certificate, federation.hub, federation.roster) as server:
        link = server.link
    caplog.set_level(logging.WARNING, logger="siloquy.wire.channel")
    async with running(Node(link, federation)) as uplink:
        await until(lambda: uplink.last_error)
        await asyncio.sleep(0.1)
    assert len([record for record in caplog.records if "hub line" in record.message]) == 1


async def test_a_node_that_joined_quickly_before_gives_a_mute_hub_up_soon(
    echoing: HubServer, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A try that began while the network was away must not outlast the fault."""
    monkeypatch.setattr(channels, "LEAST_PATIENCE_S", 0.1)
    node = Node(echoing.link, federation)
    held: list[asyncio.StreamWriter] = []
    mute = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    async with running(node) as uplink:
        await uplink.wait(SOON)
        port = mute.sockets[0].getsockname()[1]
        node.link = replace(node.link, url=f"wss://127.0.0.1:{port}")
        await (await echoing.lines.get()).close()
        await until(lambda: uplink.last_error and "handshake" in uplink.last_error.message)
        node.link = echoing.link
        await uplink.wait(SOON)
    mute.close()
    for writer in held:
        writer.transport.abort()


async def test_a_line_that_breaks_as_soon_as_it_stands_is_dialled_less_and_less_often(
    echoing: HubServer, federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "BACKOFF_S", (0.01, 60.0))
    node = Node(echoing.link, federation)

    async def hang_up() -> None:
        while True:
            (await echoing.lines.get()).drop()

    hanging_up = asyncio.create_task(hang_up())
    async with running(node):
        await asyncio.sleep(1.0)
    hanging_up.cancel()
    assert 1 < len(node.welcomes) < 9


async def test_an_uplink_that_is_stopped_hangs_up(
    echoing: HubServer, federation: Federation
) -> None:
    async with running(Node(echoing.link, federation)) as uplink:
        await uplink.wait(SOON)
        far = await echoing.lines.get()
    with pytest.raises(Unreachable):
        await far.call("echo", b"", SOON)
