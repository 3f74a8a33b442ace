"""Each kind of key in turn: a hub that offers its own instead, and rolls back what is signed."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from siloquy import channel, compose, tls
from siloquy import envelope as envelopes
from siloquy import identity as identities
from siloquy import roster as rosters
from siloquy.codec import encode
from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError
from siloquy.identity import Identity
from siloquy.roster import Pinned, SignedRoster
from siloquy.settings import HubLink
from siloquy.types import EncoderSpec, Member, Missing, NodeId, Profile, Role, Roster, Winner
from tests.end_to_end.malicious_hub import (
    EAST,
    HUB,
    NORTH,
    SILOS,
    SOUTH,
    WARD,
    Town,
    WordEmbedder,
    eventually,
    lexicon,
    sham,
)

Forge = Callable[[Town], SignedRoster]


# -- forged rosters -------------------------------------------------------------------------------


def by_the_hub(town: Town, roster: Roster) -> SignedRoster:
    """Signed with all that the hub has: its own key, and the founders' signatures of version 1."""
    hub = town.identities[HUB]
    own = identities.sign(hub.signing, "roster", encode(roster))
    return SignedRoster(roster, {**town.roster.signatures, hub.card.signing_key: own})


def with_card(town: Town, node: NodeId, card: Member) -> Roster:
    """The next version, ``node`` bearing another card."""
    current = town.roster
    members = [card if old.node == node else old for old in current.roster.members]
    return replace(
        current.roster, version=2, members=tuple(members), previous=current.head, created=1
    )


def resealed(town: Town, node: NodeId) -> Member:
    """A node's card with the hub's X25519 key; the proof is the old one."""
    card = town.identities[node].card
    return replace(card, sealing_key=town.identities[HUB].card.sealing_key)


def usurped(town: Town, node: NodeId) -> Member:
    """A card in a node's name that holds the hub's keys alone."""
    return sham(node, town.identities[node].card.role, town.identities[HUB]).card


def with_member(town: Town, card: Member) -> Roster:
    """The next version with one member more."""
    current = town.roster
    members = (*current.roster.members, card)
    return replace(current.roster, version=2, members=members, previous=current.head, created=1)


def hub_made(town: Town, name: str, role: Role) -> Roster:
    return with_member(town, sham(name, role, town.identities[HUB]).card)


def coup(town: Town) -> SignedRoster:
    """The hub as sole founder, rightly signed by its own founders."""
    hub = town.identities[HUB]
    roster = replace(with_member(town, usurped_name(town)), founders=(hub.card.signing_key,))
    signature = identities.sign(hub.signing, "roster", encode(replace(roster, threshold=1)))
    return SignedRoster(replace(roster, threshold=1), {hub.card.signing_key: signature})


def usurped_name(town: Town) -> Member:
    return sham("annexe", "gateway", town.identities[HUB]).card


def extra_founder(town: Town) -> SignedRoster:
    roster = with_member(town, usurped_name(town))
    key = town.identities[HUB].card.signing_key
    return by_the_hub(town, replace(roster, founders=(*roster.founders, key), threshold=1))


def one_founder(town: Town) -> SignedRoster:
    """One founder was won over; two are needed."""
    return town.signed(hub_made(town, "annexe", "gateway"), NORTH)


def other_of_this_version(town: Town) -> SignedRoster:
    """A split view: a second version 1, which even has enough founders' signatures."""
    return town.signed(replace(town.roster.roster, created=1))


def other_encoder(town: Town) -> SignedRoster:
    roster = with_member(town, usurped_name(town))
    return by_the_hub(town, replace(roster, encoder=EncoderSpec("hub's", "00" * 32, 48)))


FORGERIES: dict[str, tuple[Forge, str]] = {
    "hub's X25519 for a silo's": (
        lambda town: by_the_hub(town, with_card(town, NORTH, resealed(town, NORTH))),
        "signature of roster",
    ),
    "hub's X25519 for the gateway's": (
        lambda town: by_the_hub(town, with_card(town, WARD, resealed(town, WARD))),
        "signature of roster",
    ),
    "hub-made card for a silo's": (
        lambda town: by_the_hub(town, with_card(town, NORTH, usurped(town, NORTH))),
        "signature of roster",
    ),
    "hub-made card for the gateway's": (
        lambda town: by_the_hub(town, with_card(town, WARD, usurped(town, WARD))),
        "signature of roster",
    ),
    "a sham silo": (
        lambda town: by_the_hub(town, hub_made(town, "annexe", "silo")),
        "signature of roster",
    ),
    "a sham gateway": (
        lambda town: by_the_hub(town, hub_made(town, "annexe", "gateway")),
        "signature of roster",
    ),
    "the hub as a second member": (
        lambda town: SignedRoster(hub_made(town, "hub-two", "silo"), {}),
        "has 0 founders' signatures, needs 2",
    ),
    "the hub as one more founder": (extra_founder, "other founders"),
    "the hub as the only founder": (coup, "other founders"),
    "another encoder": (other_encoder, "signature of roster"),
    "too few founders": (one_founder, "has 1 founders' signatures, needs 2"),
    "a split view": (other_of_this_version, "a split view"),
}
OF_THE_SAME_ENCODER = {name: FORGERIES[name] for name in FORGERIES if name != "another encoder"}


def each(forgeries: dict[str, tuple[Forge, str]]) -> pytest.MarkDecorator:
    """One test for each forgery and the words in which it is refused."""
    return pytest.mark.parametrize(("forge", "named"), forgeries.values(), ids=forgeries)


@each(FORGERIES)
async def test_a_forged_roster_that_is_pushed_is_refused_and_named(
    town: Town, forge: Forge, named: str
) -> None:
    forged = forge(town)
    async with town.nothing_leaves():
        for node in (*SILOS, WARD):
            with pytest.raises(IntegrityError, match=named):
                await town.hub.push(node, forged)
        assert_nobody_follows(town)


@each(OF_THE_SAME_ENCODER)
async def test_a_forged_roster_in_the_welcome_is_refused_and_named(
    town: Town, forge: Forge, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with town.nothing_leaves():
        await welcomed_with(town, forge(town), named)
        assert_nobody_follows(town)
    assert any(named in record.getMessage() for record in caplog.records)


def two_faced(true: SignedRoster, shown: SignedRoster) -> SignedRoster:
    """A roster that lets in whom ``true`` names and shows newcomers ``shown``."""

    class TwoFaced(SignedRoster):
        __slots__ = ()

        def member(self, node: NodeId, role: Role | None = None) -> Member:
            return true.member(node, role)

    return TwoFaced(shown.roster, shown.signatures)


async def welcomed_with(town: Town, shown: SignedRoster, named: str) -> None:
    """Nodes that reconnect are shown ``shown``, name it and stay away until the hub repents."""
    true = town.hub.pinned.current
    town.hub.pinned.current = two_faced(true, shown)
    for node in (NORTH, WARD):
        town.uplink(node).last_error = None
    await town.reconnect(NORTH, WARD)
    for node in (NORTH, WARD):
        line = town.uplink(node)
        await eventually(lambda: line.last_error is not None)  # noqa: B023
        assert isinstance(line.last_error, SiloquyError)
        assert named in line.last_error.message
        assert not line.connected
    town.hub.pinned.current = true
    await town.connected()


def assert_nobody_follows(town: Town) -> None:
    for site in town.sites.values():
        assert site.pinned == town.roster
    assert town.pinned.current == town.roster
    assert rosters.load(town.folder / WARD / compose.ROSTER_FILE) == town.roster


# -- the roster rolled back -----------------------------------------------------------------------


async def move_on(town: Town) -> SignedRoster:
    """The founders sign version 2 and everybody follows it; the version before."""
    before = town.roster
    newcomer = identities.create("valley", "silo", "Valley")
    town.roster = town.next_roster(newcomer.card)
    for node in (*SILOS, WARD):
        await town.hub.push(node, town.roster)
    town.hub.pinned.current = town.roster
    assert {site.pinned.roster.version for site in town.sites.values()} == {2}
    return before


async def asks_without_newcomer(town: Town) -> None:
    """The founders' newcomer never connects, all others answer."""
    answer = await town.ask()
    assert [item.silo for item in answer.missing] == ["valley"]
    assert {source.silo for source in answer.sources} == set(SILOS)


async def test_a_roster_rolled_back_by_a_push_is_refused(town: Town) -> None:
    before = await move_on(town)
    for node in (*SILOS, WARD):
        with pytest.raises(IntegrityError, match="rolled back from version 2 to 1"):
            await town.hub.push(node, before)
    assert_nobody_follows(town)
    await asks_without_newcomer(town)


async def test_a_roster_rolled_back_in_the_welcome_is_refused_after_a_restart_too(
    town: Town,
) -> None:
    before = await move_on(town)
    await welcomed_with(town, before, "rolled back from version 2 to 1")
    await town.sites[NORTH].stop()
    town.hub.pinned.current = before
    await town.sites[NORTH].start()
    line = town.sites[NORTH].line
    await eventually(lambda: line.last_error is not None)
    assert "rolled back" in str(line.last_error)
    town.hub.pinned.current = town.roster
    await town.connected()
    assert_nobody_follows(town)
    await asks_without_newcomer(town)


async def test_a_gateway_shown_another_roster_of_the_same_version_is_noticed_by_silos(
    town: Town,
) -> None:
    """A gateway that was enrolled into a split view: its envelopes carry the other head."""
    other = other_of_this_version(town)
    rosters.save(other, town.folder / "other.json")
    town.pinned.current = other
    before = town.disclosed()
    town.hub.pinned.current = other  # else the hub itself would refuse
    answer = await town.ask()
    assert {item.reason for item in answer.missing} == {"integrity"}
    assert {item.silo for item in answer.missing} == set(SILOS)
    assert all("a split view" in item.detail for item in answer.missing)
    assert town.disclosed() == before
    town.pinned.current = town.hub.pinned.current = town.roster
    await town.ask_as_usual()


async def test_a_refused_push_is_logged_at_the_node_and_not_only_told_to_the_hub(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(IntegrityError):
        await town.hub.push(NORTH, other_of_this_version(town))
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert any("split view" in message for message in warned)


# -- sham members ---------------------------------------------------------------------------------


@asynccontextmanager
async def admitted(town: Town, stranger: Identity) -> AsyncIterator[None]:
    """The hub lets a stranger in and shows it the true roster."""
    true = town.hub.pinned.current
    town.hub.pinned.current = two_faced(SignedRoster(with_member(town, stranger.card), {}), true)
    joined = await channel.dial(town.link, stranger, WordEmbedder.spec, town.roster)
    await eventually(lambda: stranger.node in town.hub.lines)
    yield
    await joined.socket.close()
    town.hub.pinned.current = true


async def test_a_stranger_is_turned_away_by_an_honest_hub(town: Town) -> None:
    stranger = sham("annexe", "silo", town.identities[HUB])
    with pytest.raises(PolicyDenied, match="annexe is not in version 1 of the roster"):
        await channel.dial(town.link, stranger, WordEmbedder.spec, town.roster)
    usurper = Identity(usurped(town, NORTH), stranger.signing, stranger.sealing)
    with pytest.raises(PolicyDenied, match="north is rostered with other keys"):
        await channel.dial(town.link, usurper, WordEmbedder.spec, town.roster)
    thief = Identity(town.identities[NORTH].card, stranger.signing, stranger.sealing)
    with pytest.raises(IntegrityError, match="signature of node handshake"):
        await channel.dial(town.link, thief, WordEmbedder.spec, town.roster)
    await town.ask_as_usual()


async def test_a_sham_silo_that_the_hub_lets_in_is_never_asked(town: Town) -> None:
    stranger = sham("annexe", "silo", town.identities[HUB])
    async with town.nothing_leaves(), admitted(town, stranger):
        town.hub.bend = lambda merged: replace(
            merged, winners=(Winner(stranger.node, merged.winners[0].handle),)
        )
        with pytest.raises(IntegrityError, match="silos that were not asked"):
            await town.ask()
        assert stranger.node not in town.gateway.status().silos


async def test_a_sham_gateway_that_the_hub_lets_in_gets_nothing(town: Town) -> None:
    """Its handshake and line are the hub's favour; the silos look at the roster."""
    stranger = sham("annexe", "gateway", town.identities[HUB])
    async with town.nothing_leaves(), admitted(town, stranger):
        envelope = town.seal(stranger, "search", bytes(16), Missing(NORTH, "refused"), *SILOS)
        for silo in SILOS:
            reply = await town.hub.tell(silo, "search", envelope)
            assert b"annexe is not in version 1 of the roster as gateway" in reply


# -- profiles -------------------------------------------------------------------------------------


async def refuses_profile_of_north(town: Town, profile: bytes) -> Missing:
    """What the gateway says of a profile handed over instead of north's; others stay."""

    def swap(honest: bytes) -> bytes:
        return profile if envelopes.read_header(honest).sender == NORTH else honest

    town.hub.profiles_as(swap)
    await town.gateway.refresh()
    status = town.gateway.status()
    assert set(status.profiled) == {EAST, SOUTH}
    (refused,) = status.refused_profiles
    town.hub.behave()
    await town.gateway.refresh()
    assert set(town.gateway.status().profiled) == set(SILOS)
    return refused


def own_profile(town: Town, silo: NodeId, version: int = 99) -> Profile:
    """What the hub would like the gateway to believe of a silo."""
    return Profile(
        silo, version, 1, town.clock() + 10_000, WordEmbedder.spec, 10**6, b"", (), (), b""
    )


async def test_a_profile_sealed_by_another_key_is_refused_and_the_silo_named(town: Town) -> None:
    profile = own_profile(town, NORTH)
    async with town.nothing_leaves():
        sealed = town.seal(town.disguised(NORTH), "profile", bytes(16), profile, WARD)
        refused = await refuses_profile_of_north(town, sealed)
        assert refused == Missing(NORTH, "integrity", "signature of envelope does not hold")
        sealed = town.seal(town.identities[SOUTH], "profile", bytes(16), profile, WARD)
        refused = await refuses_profile_of_north(town, sealed)
        assert refused.detail == "south sent a profile of another silo"
        sealed = town.seal(town.identities[HUB], "profile", bytes(16), profile, WARD)
        refused = await refuses_profile_of_north(town, sealed)
        assert "hub is not in version 1 of the roster as silo" in refused.detail


async def test_a_profile_rolled_back_is_refused_and_the_silo_named(town: Town) -> None:
    old = town.hub.latest("profile", NORTH)
    newer = town.sites[NORTH].node.profile(lexicon())
    town.registry.publish(NORTH, newer, town.clock())
    await town.gateway.refresh()
    async with town.nothing_leaves():
        refused = await refuses_profile_of_north(town, old)
        assert (refused.silo, refused.reason) == (NORTH, "integrity")
        assert refused.detail == "profile of north rolled back from 2 to 1"


async def test_an_expired_altered_or_oversized_profile_is_refused(town: Town) -> None:
    honest = town.hub.latest("profile", NORTH)
    spoilt = bytearray(honest)
    spoilt[len(spoilt) // 2] ^= 1
    async with town.nothing_leaves():
        refused = await refuses_profile_of_north(town, bytes(spoilt))
        assert refused.reason == "integrity"
        refused = await refuses_profile_of_north(town, honest + bytes(50_000))
        assert refused.reason == "integrity"
        big = replace(own_profile(town, NORTH), centroids=bytes(60_000))
        sealed = town.seal(town.identities[NORTH], "profile", bytes(16), big, WARD)
        refused = await refuses_profile_of_north(town, sealed)
        assert "at most 49152" in refused.detail
        late = replace(own_profile(town, NORTH, 1), expires=town.clock() - 1)
        sealed = town.seal(town.identities[NORTH], "profile", bytes(16), late, WARD)
        refused = await refuses_profile_of_north(town, sealed)
        assert "has expired" in refused.detail


async def test_a_profile_of_another_gateway_is_of_no_use(town: Town) -> None:
    sealed = town.seal(
        town.identities[NORTH], "profile", bytes(16), own_profile(town, NORTH), NodeId("annex")
    )
    async with town.nothing_leaves():
        refused = await refuses_profile_of_north(town, sealed)
        assert refused.detail == "the envelope is not addressed to ward"


async def test_one_silo_s_unreadable_profile_does_not_hide_the_others(town: Town) -> None:
    """A silo is the attacker here: rightly sealed, but its word counts are garbage."""
    profile = replace(
        own_profile(town, NORTH, 1), size=50, counts=(50,), radii=(0.1,), centroids=bytes(48)
    )
    sealed = town.seal(
        town.identities[NORTH], "profile", bytes(16), replace(profile, frequencies=b"garbage"), WARD
    )
    refused = await refuses_profile_of_north(town, sealed)
    assert (refused.silo, refused.reason) == (NORTH, "integrity")


# -- the hub's own keys ---------------------------------------------------------------------------


async def turned_away(town: Town, named: str) -> None:
    """North and the gateway dial again, and name what is wrong."""
    for node in (NORTH, WARD):
        line = town.uplink(node)
        await eventually(lambda: named in str(line.last_error), f"never named: {named}")  # noqa: B023
        assert not line.connected


async def test_another_tls_certificate_of_the_hub_is_refused_and_named(town: Town) -> None:
    other = town.folder / "other"
    other.mkdir()
    tls.create("127.0.0.1", other / "tls.pem", other / "tls.key")
    async with town.nothing_leaves():
        await town.close_hub()
        await town.open_hub(other)
        await turned_away(town, "TLS certificate is not the expected one")
        await town.close_hub()
        await town.open_hub()
        await town.connected()


async def test_another_identity_of_the_hub_is_refused_and_named(town: Town) -> None:
    true = town.hub.identity
    async with town.nothing_leaves():
        town.hub.identity = identities.create("hub", "hub", "operator")
        await town.reconnect(NORTH, WARD)
        await turned_away(town, "this hub is not the federation's")
        town.hub.identity = Identity(true.card, town.hub.identity.signing, true.sealing)
        await turned_away(town, "signature of hub handshake does not hold")
        town.hub.identity = true
        await town.connected()


async def test_a_relay_with_a_trusted_certificate_cannot_pass_the_handshake_on(
    town: Town, tmp_path: Path
) -> None:
    """Somebody between node and hub whose certificate the node's machine trusts."""
    relay = tmp_path / "relay"
    relay.mkdir()
    tls.create("127.0.0.1", relay / "tls.pem", relay / "tls.key")
    near = server_context(relay)
    far = channel._client_tls(town.link, pinned=False)

    async def pass_on(node: ServerConnection) -> None:
        async with connect(town.link.url, ssl=far, proxy=None, compression=None) as hub:
            await hub.send(await node.recv())
            await node.send(await hub.recv())
            await node.wait_closed()

    async with serve(pass_on, "127.0.0.1", 0, ssl=near, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        link = HubLink(f"wss://127.0.0.1:{port}", str(relay / "tls.pem"), proxy=False)
        with pytest.raises(IntegrityError, match="signature of hub handshake does not hold"):
            await channel.dial(link, town.identities[NORTH], WordEmbedder.spec, town.roster)
    await town.ask_as_usual()


def server_context(folder: Path) -> ssl.SSLContext:
    """TLS with the certificate in ``folder``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
    return context


async def test_a_roster_file_without_founders_signatures_is_not_pinned(town: Town) -> None:
    """The hub's last way in: whoever can write a node's disk still needs the founders."""
    path = town.folder / "forged.json"
    rosters.save(by_the_hub(town, hub_made(town, "annexe", "gateway")), path)
    with pytest.raises(IntegrityError):
        Pinned(path)
