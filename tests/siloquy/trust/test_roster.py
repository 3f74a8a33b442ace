"""Who signs a roster, which rosters a node follows, and rosters on disk and on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.codec import encode
from siloquy.errors import IntegrityError, PolicyDenied, SettingsError, SiloquyError
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity
from siloquy.trust.roster import PinnedRoster, SignedRoster
from siloquy.types import NodeId, Roster, SignedMessage
from tests.siloquy.federation import ENCODER, NOW, Federation, new_federation, self_signed, signed

STRANGER = identities.create("stranger", "silo", "Elsewhere")


def successor(federation: Federation, *founders: Identity) -> SignedRoster:
    """Version 2: the first with one silo more."""
    members = (*federation.members, STRANGER.card)
    return signed(rosters.succeed(federation.roster, members, NOW + 1), founders)


# -- m of n ---------------------------------------------------------------------------------------


def test_as_many_founders_as_agreed_suffice(federation: Federation) -> None:
    rosters.check_genesis(federation.roster)


def test_one_founder_too_few_does_not(federation: Federation) -> None:
    short = signed(federation.roster.roster, [federation.north])
    with pytest.raises(IntegrityError, match="has 1 founders' signatures, needs 2"):
        rosters.check_genesis(short)


def test_any_founders_will_do(federation: Federation) -> None:
    rosters.check_genesis(signed(federation.roster.roster, [federation.south, federation.ward]))


def test_a_founder_who_signs_twice_counts_once(federation: Federation) -> None:
    twice = signed(federation.roster.roster, [federation.north, federation.north])
    with pytest.raises(IntegrityError, match="has 1 founders' signatures"):
        rosters.check_genesis(twice)


def test_a_signature_repeated_on_the_wire_counts_once(federation: Federation) -> None:
    once = signed(federation.roster.roster, [federation.north])
    (pair,) = [rosters.FounderSignature(key, value) for key, value in once.signatures.items()]
    wire = encode(rosters._Wire(encode(once.roster), (pair, pair)))
    with pytest.raises(IntegrityError, match="has 1 founders' signatures"):
        rosters.check_genesis(rosters.from_bytes(wire))


def test_a_member_who_is_no_founder_cannot_sign(federation: Federation) -> None:
    with pytest.raises(PolicyDenied, match="hub is not a founder"):
        rosters.add_signature(federation.roster, federation.hub)


def test_signatures_of_others_do_not_count(federation: Federation) -> None:
    body = encode(federation.roster.roster)
    others = {
        node.card.signing_key: identities.sign(node.signing, rosters.CONTEXT, body)
        for node in (federation.hub, STRANGER)
    }
    one = signed(federation.roster.roster, [federation.north])
    with pytest.raises(IntegrityError, match="has 1 founders' signatures"):
        rosters.check_genesis(replace(one, signatures={**one.signatures, **others}))


def test_a_signature_under_another_founders_name_does_not_count(federation: Federation) -> None:
    one = signed(federation.roster.roster, [federation.north])
    (value,) = one.signatures.values()
    forged = {**one.signatures, federation.south.card.signing_key: value}
    with pytest.raises(IntegrityError, match="signature of roster"):
        rosters.check_genesis(replace(one, signatures=forged))


def test_a_signature_in_another_context_does_not_count(federation: Federation) -> None:
    body = encode(federation.roster.roster)
    cards = {
        node.card.signing_key: identities.sign(node.signing, "card", body)
        for node in (federation.north, federation.south)
    }
    with pytest.raises(IntegrityError, match="signature of roster"):
        rosters.check_genesis(SignedRoster(federation.roster.roster, cards))


@pytest.mark.parametrize("threshold", [-1, 0, 4])
def test_a_threshold_that_founders_cannot_meet_is_refused(
    federation: Federation, threshold: int
) -> None:
    with pytest.raises(SettingsError, match=f"threshold {threshold} of 3 founders"):
        rosters.found("vale", federation.members[:3], threshold, ENCODER, federation.members, NOW)


@pytest.mark.parametrize("threshold", [-1, 0])
def test_an_unsigned_roster_is_refused_whatever_threshold_it_names(
    federation: Federation, threshold: int
) -> None:
    with pytest.raises(IntegrityError):
        rosters.check_genesis(
            SignedRoster(replace(federation.roster.roster, threshold=threshold), {})
        )


def test_a_hub_is_no_founder(federation: Federation) -> None:
    cards = federation.members
    with pytest.raises(SettingsError, match="a hub cannot be a founder"):
        rosters.found("vale", cards, 2, ENCODER, cards, NOW)


def test_a_founder_does_not_become_the_hub(federation: Federation) -> None:
    card = self_signed(federation.north, replace(federation.north.card, role="hub"))
    with pytest.raises(SiloquyError):
        rosters.succeed(federation.roster, [card], NOW)


def test_a_founder_given_twice_is_refused(federation: Federation) -> None:
    north = federation.north.card
    with pytest.raises(SiloquyError):
        rosters.found("vale", [north, north], 2, ENCODER, federation.members, NOW)


def test_a_founder_counts_once_against_a_threshold(federation: Federation) -> None:
    founders = (federation.north.card.signing_key,) * 2
    doubled = signed(replace(federation.roster.roster, founders=founders), [federation.north])
    with pytest.raises(IntegrityError, match="threshold 2 of 1 founders"):
        rosters.check_genesis(doubled)


# -- members --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", ["node", "signing_key", "sealing_key"])
def test_a_name_or_key_stands_once(federation: Federation, attribute: str) -> None:
    taken: dict[str, Any] = {attribute: getattr(federation.north.card, attribute)}
    double = self_signed(STRANGER, replace(STRANGER.card, **taken))
    with pytest.raises(IntegrityError, match=f"holds one {attribute} twice"):
        rosters.succeed(federation.roster, [*federation.members, double], NOW)


def test_a_card_that_is_not_self_signed_is_no_member(federation: Federation) -> None:
    forged = replace(STRANGER.card, organisation="Northmoor")
    with pytest.raises(IntegrityError, match="signature of card"):
        rosters.succeed(federation.roster, [*federation.members, forged], NOW)


def test_founders_do_not_vouch_for_a_substituted_sealing_key(federation: Federation) -> None:
    swapped = replace(federation.north.card, sealing_key=STRANGER.card.sealing_key)
    members = (swapped, *federation.members[1:])
    roster = replace(federation.roster.roster, members=members)
    with pytest.raises(IntegrityError, match="signature of card"):
        rosters.check_genesis(signed(roster, [federation.north, federation.south]))


def test_a_substituted_sealing_key_breaks_the_founders_signatures(federation: Federation) -> None:
    roster = federation.roster.roster
    swapped = replace(roster.members[0], sealing_key=STRANGER.card.sealing_key)
    changed = replace(roster, members=(swapped, *roster.members[1:]))
    with pytest.raises(IntegrityError, match="signature of roster"):
        rosters.check_genesis(replace(federation.roster, roster=changed))


def test_a_member_is_found_by_name(federation: Federation) -> None:
    assert federation.roster.member(federation.south.node) == federation.south.card


def test_a_member_is_not_found_in_another_role(federation: Federation) -> None:
    with pytest.raises(PolicyDenied, match="south is not in version 1 of the roster as gateway"):
        federation.roster.member(federation.south.node, "gateway")


def test_a_stranger_is_no_member(federation: Federation) -> None:
    with pytest.raises(PolicyDenied, match="stranger is not in version 1"):
        federation.roster.member(STRANGER.node)


def test_members_of_one_role_keep_their_order(federation: Federation) -> None:
    assert [card.node for card in federation.roster.of_role("silo")] == ["north", "south"]


def test_the_hub_is_named(federation: Federation) -> None:
    assert federation.roster.hub == federation.hub.card


@pytest.mark.parametrize("hubs", [0, 2])
def test_a_roster_without_exactly_one_hub_names_none(federation: Federation, hubs: int) -> None:
    more = [identities.create(f"hub{n}", "hub", "").card for n in range(hubs)]
    roster = replace(federation.roster.roster, members=(*federation.members[:3], *more))
    with pytest.raises(IntegrityError, match=f"names {hubs} hubs"):
        _ = SignedRoster(roster, {}).hub


def test_what_a_member_signed_is_opened(federation: Federation) -> None:
    word = federation.north.sign("word", federation.north.card)
    assert rosters.open_signed(federation.roster, word, "word", "silo") == word.body


@pytest.mark.parametrize(
    "claim",
    [
        lambda word: (replace(word, signer="south"), "word", "silo"),
        lambda word: (replace(word, body=word.body + b"\0"), "word", "silo"),
        lambda word: (word, "another word", "silo"),
    ],
    ids=["another signer", "another body", "another context"],
)
def test_what_a_member_did_not_sign_is_refused(
    federation: Federation, claim: Callable[[SignedMessage], tuple[SignedMessage, str, Any]]
) -> None:
    word = federation.north.sign("word", federation.north.card)
    with pytest.raises(IntegrityError):
        rosters.open_signed(federation.roster, *claim(word))


def test_what_another_role_signed_is_refused(federation: Federation) -> None:
    word = federation.north.sign("word", federation.north.card)
    with pytest.raises(PolicyDenied):
        rosters.open_signed(federation.roster, word, "word", "gateway")


# -- fingerprint ----------------------------------------------------------------------------------


def test_the_federations_fingerprint_outlives_versions(federation: Federation) -> None:
    assert successor(federation).fingerprint == federation.roster.fingerprint


def test_the_right_fingerprint_lets_a_newcomer_in(federation: Federation) -> None:
    rosters.check_genesis(federation.roster, federation.roster.fingerprint)


def test_another_federation_of_the_same_name_has_another_fingerprint(
    federation: Federation,
) -> None:
    with pytest.raises(IntegrityError, match="federation fingerprint is"):
        rosters.check_genesis(new_federation().roster, federation.roster.fingerprint)


@pytest.mark.parametrize(
    "change", [{"federation": "dale"}, {"threshold": 1}, {"founders": (bytes(32),)}]
)
def test_the_fingerprint_covers_name_founders_and_threshold(
    federation: Federation, change: dict[str, Any]
) -> None:
    changed = replace(federation.roster.roster, **change)
    assert rosters.federation_fingerprint(changed) != federation.roster.fingerprint


# -- following ------------------------------------------------------------------------------------


def test_a_signed_successor_is_followed(federation: Federation) -> None:
    offered = successor(federation, federation.north, federation.south)
    assert rosters.advance(federation.roster, offered) is offered


def test_the_same_roster_changes_nothing(federation: Federation) -> None:
    unsigned = SignedRoster(federation.roster.roster, {})
    assert rosters.advance(federation.roster, unsigned) is federation.roster


def test_a_node_that_slept_follows_over_a_gap(federation: Federation) -> None:
    founders = (federation.north, federation.south)
    second = successor(federation, *founders)
    third = signed(rosters.succeed(second, federation.members, NOW + 2), founders)
    assert rosters.advance(federation.roster, third) is third


def test_an_older_roster_is_refused(federation: Federation) -> None:
    newer = successor(federation, federation.north, federation.south)
    with pytest.raises(IntegrityError, match="rolled back from version 2 to 1"):
        rosters.advance(newer, federation.roster)


def test_another_roster_of_the_same_version_is_a_split_view(federation: Federation) -> None:
    other = replace(federation.roster.roster, created=NOW + 5)
    with pytest.raises(IntegrityError, match="a split view"):
        rosters.advance(
            federation.roster, signed(other, [federation.north, federation.south, federation.ward])
        )


def test_an_unsigned_successor_is_refused(federation: Federation) -> None:
    with pytest.raises(IntegrityError, match="has 1 founders' signatures, needs 2"):
        rosters.advance(federation.roster, successor(federation, federation.north))


def test_a_successor_with_other_founders_is_refused(federation: Federation) -> None:
    mine = (STRANGER.card.signing_key,)
    taken = replace(successor(federation).roster, founders=mine, threshold=1)
    with pytest.raises(IntegrityError, match="another federation or other founders"):
        rosters.advance(federation.roster, signed(taken, [STRANGER]))


@pytest.mark.parametrize("change", [{"federation": "dale"}, {"threshold": 1}])
def test_a_successor_of_other_terms_is_refused(
    federation: Federation, change: dict[str, Any]
) -> None:
    roster = replace(successor(federation).roster, **change)
    with pytest.raises(IntegrityError, match="another federation or other founders"):
        rosters.advance(federation.roster, signed(roster, [federation.north, federation.south]))


def test_a_successor_of_another_roster_is_refused(federation: Federation) -> None:
    stray = replace(successor(federation).roster, previous=bytes(32))
    with pytest.raises(IntegrityError, match="does not follow the pinned one"):
        rosters.advance(federation.roster, signed(stray, [federation.north, federation.south]))


def test_a_successor_changed_after_signing_is_refused(federation: Federation) -> None:
    offered = successor(federation, federation.north, federation.south)
    changed = replace(offered.roster, members=offered.roster.members[:-1])
    with pytest.raises(IntegrityError, match="signature of roster"):
        rosters.advance(federation.roster, replace(offered, roster=changed))


# -- wire and disk --------------------------------------------------------------------------------


def test_a_roster_comes_back_from_the_wire(federation: Federation) -> None:
    assert rosters.from_bytes(rosters.to_bytes(federation.roster)) == federation.roster


@given(data=st.data())
def test_a_changed_byte_on_the_wire_is_refused(federation: Federation, data: st.DataObject) -> None:
    wire = bytearray(rosters.to_bytes(federation.roster))
    wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SiloquyError):
        rosters.check_genesis(rosters.from_bytes(bytes(wire)), federation.roster.fingerprint)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_roster(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        rosters.from_bytes(data)


def test_a_saved_roster_comes_back(federation: Federation, tmp_path: Path) -> None:
    rosters.save(federation.roster, tmp_path / "roster.json")
    loaded = rosters.load(tmp_path / "roster.json")
    assert (loaded, loaded.head) == (federation.roster, federation.roster.head)


def test_saving_again_replaces_the_file_and_leaves_no_other(
    federation: Federation, tmp_path: Path
) -> None:
    newer = successor(federation, federation.north)
    for roster in (federation.roster, newer):
        rosters.save(roster, tmp_path / "roster.json")
    assert [path.name for path in tmp_path.iterdir()] == ["roster.json"]
    assert rosters.load(tmp_path / "roster.json") == newer


def tamper(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["roster"].update(version=9),
        lambda data: data["roster"].update(threshold=1),
        lambda data: data["roster"]["members"].pop(),
        lambda data: data["roster"]["members"][0].update(role="gateway"),
        lambda data: data["roster"]["encoder"].update(dimension=1),
        lambda data: data["signatures"].pop(),
        lambda data: data["signatures"][0].update(signature=data["signatures"][1]["signature"]),
    ],
    ids=["version", "threshold", "members", "role", "encoder", "signatures", "signature"],
)
def test_a_tampered_file_does_not_verify(
    federation: Federation, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = tmp_path / "roster.json"
    rosters.save(federation.roster, path)
    tamper(path, change)
    with pytest.raises(IntegrityError):
        rosters.check_genesis(rosters.load(path), federation.roster.fingerprint)


def test_a_missing_file_says_that_the_node_is_not_enrolled(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is missing"):
        rosters.load(tmp_path / "roster.json")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b"\xff", b"null", b'{"roster": 1}', b'"roster"']
)
def test_a_file_that_is_no_roster_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "roster.json").write_bytes(content)
    with pytest.raises((SettingsError, IntegrityError)):
        rosters.load(tmp_path / "roster.json")


def test_a_deeply_nested_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "roster.json").write_text("[" * 100_000)
    with pytest.raises(SettingsError):
        rosters.load(tmp_path / "roster.json")


def test_a_file_with_a_text_that_cannot_be_encoded_is_refused(
    federation: Federation, tmp_path: Path
) -> None:
    path = tmp_path / "roster.json"
    rosters.save(federation.roster, path)
    tamper(path, lambda data: data["roster"].update(federation="\ud800"))
    with pytest.raises(SiloquyError):
        rosters.check_genesis(rosters.load(path))


@pytest.fixture
def pinned(federation: Federation, tmp_path: Path) -> PinnedRoster:
    rosters.save(federation.roster, tmp_path / "roster.json")
    return PinnedRoster(tmp_path / "roster.json")


def test_a_pinned_roster_follows_its_successor_and_remembers(
    federation: Federation, pinned: PinnedRoster, tmp_path: Path
) -> None:
    newer = successor(federation, federation.north, federation.south)
    assert pinned.follow(rosters.to_bytes(newer))
    assert (pinned.current, PinnedRoster(tmp_path / "roster.json").current) == (newer, newer)


def test_a_pinned_roster_is_not_news_to_itself(
    federation: Federation, pinned: PinnedRoster
) -> None:
    assert not pinned.follow(rosters.to_bytes(federation.roster))


def test_a_refused_successor_changes_nothing(
    federation: Federation, pinned: PinnedRoster, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError):
        pinned.follow(rosters.to_bytes(successor(federation, federation.north)))
    held = (pinned.current, PinnedRoster(tmp_path / "roster.json").current)
    assert held == (federation.roster, federation.roster)


def test_a_tampered_file_is_not_pinned(federation: Federation, tmp_path: Path) -> None:
    rosters.save(federation.roster, tmp_path / "roster.json")
    tamper(tmp_path / "roster.json", lambda data: data["roster"]["members"].pop())
    with pytest.raises(IntegrityError, match="signature of roster"):
        PinnedRoster(tmp_path / "roster.json")


def test_the_file_shows_the_federations_fingerprint(federation: Federation, tmp_path: Path) -> None:
    rosters.save(federation.roster, tmp_path / "roster.json")
    assert federation.roster.fingerprint in (tmp_path / "roster.json").read_text()


def test_heads_of_different_rosters_differ(federation: Federation) -> None:
    other = replace(federation.roster.roster, created=NOW + 1)
    assert SignedRoster(other, {}).head != federation.roster.head


def test_version_one_follows_nothing(federation: Federation) -> None:
    first: Roster = federation.roster.roster
    assert (first.version, first.previous) == (1, b"")


def test_a_roster_holds_its_own_cards_and_none_with_other_keys(federation: Federation) -> None:
    card, other = federation.north.card, federation.south.card
    assert federation.roster.holds(card)
    assert not federation.roster.holds(replace(card, sealing_key=other.sealing_key))
    assert not federation.roster.holds(replace(card, node=NodeId("nobody")))
