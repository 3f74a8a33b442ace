"""A hub that shows another roster: forged, rolled back or split, in the welcome and by a push."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from siloquy.codec import encode
from siloquy.errors import IntegrityError, SiloquyError
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.roster import ROSTER_FILE, PinnedRoster, SignedRoster
from siloquy.types import EncoderSpec, Member, NodeId, Roster
from tests.end_to_end.malicious_hub import HUB, sham
from tests.end_to_end.rosters import by_the_hub, hub_made, two_faced, usurped, with_member
from tests.end_to_end.town import NORTH, SILOS, WARD, Town, eventually

Forge = Callable[[Town], SignedRoster]


# -- forged rosters -------------------------------------------------------------------------------


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
    assert rosters.load(town.folder / WARD / ROSTER_FILE) == town.roster


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


async def test_a_roster_file_without_founders_signatures_is_not_pinned(town: Town) -> None:
    """The hub's last way in: whoever can write a node's disk still needs the founders."""
    path = town.folder / "forged.json"
    rosters.save(by_the_hub(town, hub_made(town, "annexe", "gateway")), path)
    with pytest.raises(IntegrityError):
        PinnedRoster(path)
