"""Each kind of key in turn: a hub that offers its own, or one that it made up, instead."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from siloquy.errors import IntegrityError, PolicyDenied
from siloquy.settings import HubLink
from siloquy.trust import identity as identities
from siloquy.trust import tls
from siloquy.trust.identity import Identity
from siloquy.trust.roster import SignedRoster
from siloquy.types import Missing, NodeId, Profile, Winner
from siloquy.wire import channel
from siloquy.wire import envelope as envelopes
from tests.end_to_end.canaries import WordEmbedder, lexicon
from tests.end_to_end.malicious_hub import HUB, sham
from tests.end_to_end.rosters import two_faced, usurped, with_member
from tests.end_to_end.town import NORTH, SILOS, SOUTH, WARD, Town, eventually
from tests.router.profiles import axes, described

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
    """What the gateway says of a profile handed over instead of north's, which serves on."""

    def swap(honest: bytes) -> bytes:
        return profile if envelopes.read_header(honest).sender == NORTH else honest

    (before,) = (p for p in town.gateway._retriever.profiles.opened.profiles if p.silo == NORTH)
    town.hub.profiles_as(swap)
    await town.gateway.refresh()
    status = town.gateway.status()
    assert before in town.gateway._retriever.profiles.opened.profiles
    assert set(status.profiled) == set(SILOS)
    (refused,) = status.refused_profiles
    town.hub.behave()
    await town.gateway.refresh()
    assert set(town.gateway.status().profiled) == set(SILOS)
    return refused


def own_profile(town: Town, silo: NodeId, version: int = 99) -> Profile:
    """What the hub would like the gateway to believe of a silo."""
    return described(
        silo,
        axes(0, encoder=WordEmbedder.spec),
        size=50,
        encoder=WordEmbedder.spec,
        version=version,
        created=1,
        expires=town.clock() + 10_000,
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
    profile = replace(own_profile(town, NORTH, 1), frequencies=b"garbage")
    sealed = town.seal(town.identities[NORTH], "profile", bytes(16), profile, WARD)
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
