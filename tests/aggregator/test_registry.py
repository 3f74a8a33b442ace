"""The hub's registry: invitations that are good once, cards that wait, profiles it cannot read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from siloquy.aggregator.registry import INVITATION_LIFETIME_MS, Invitation, Presence, Registry
from siloquy.errors import IntegrityError, PolicyDenied
from siloquy.trust import identity as identities
from siloquy.types import Member, NodeId
from tests.siloquy.federation import NOW
from tests.siloquy.strategies import messages

EAST, WEST = NodeId("east"), NodeId("west")
CARD = identities.create("east", "silo", "East Clinic").card
OTHER = identities.create("west", "silo", "West Clinic").card


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with closing(Registry(tmp_path / "hub.sqlite")) as opened:
        yield opened


# -- invitations ----------------------------------------------------------------------------------


def test_an_invitation_lets_its_card_wait_for_the_founders(registry: Registry) -> None:
    registry.enrol(registry.invite(EAST, "silo", NOW), CARD, NOW)
    assert registry.pending() == [CARD]


def test_an_invitation_is_good_once(registry: Registry) -> None:
    secret = registry.invite(EAST, "silo", NOW)
    registry.enrol(secret, CARD, NOW)
    with pytest.raises(PolicyDenied, match="no open invitation for east as silo"):
        registry.enrol(secret, identities.create("east", "silo", "East Clinic").card, NOW)
    assert registry.pending() == [CARD]


def test_an_invitation_is_for_one_name(registry: Registry) -> None:
    secret = registry.invite(WEST, "silo", NOW)
    with pytest.raises(PolicyDenied):
        registry.enrol(secret, CARD, NOW)
    assert registry.pending() == []


def test_an_invitation_is_for_one_role(registry: Registry) -> None:
    secret = registry.invite(EAST, "gateway", NOW)
    with pytest.raises(PolicyDenied, match="as silo"):
        registry.enrol(secret, CARD, NOW)


def test_a_refused_newcomer_does_not_use_the_invitation_up(registry: Registry) -> None:
    secret = registry.invite(EAST, "silo", NOW)
    with pytest.raises(PolicyDenied):
        registry.enrol(secret, replace(CARD, role="gateway"), NOW)
    registry.enrol(secret, CARD, NOW)
    assert registry.pending() == [CARD]


def test_an_invitation_ends_after_72_hours(registry: Registry) -> None:
    assert INVITATION_LIFETIME_MS == 72 * 3600 * 1000
    first, second = (registry.invite(EAST, "silo", NOW) for _ in range(2))
    registry.enrol(first, CARD, NOW + INVITATION_LIFETIME_MS)
    with pytest.raises(PolicyDenied):
        registry.enrol(second, CARD, NOW + INVITATION_LIFETIME_MS + 1)


def test_a_guessed_secret_is_no_invitation(registry: Registry) -> None:
    registry.invite(EAST, "silo", NOW)
    for guess in (b"", bytes(32), os.urandom(32)):
        with pytest.raises(PolicyDenied):
            registry.enrol(guess, CARD, NOW)


def test_refusals_are_counted(registry: Registry) -> None:
    assert registry.counters() == {}
    for _ in range(2):
        with contextlib.suppress(PolicyDenied):
            registry.enrol(bytes(32), CARD, NOW)
    assert registry.counters() == {"enrolments refused": 2}


def test_only_hashes_of_secrets_are_kept(registry: Registry, tmp_path: Path) -> None:
    secrets = [registry.invite(EAST, "silo", NOW) for _ in range(3)]
    assert len(set(secrets)) == 3
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert not any(secret in kept for secret in secrets)


def test_an_invitation_outlives_a_restart(tmp_path: Path) -> None:
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        secret = registry.invite(EAST, "silo", NOW)
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        registry.enrol(secret, CARD, NOW)
    with closing(Registry(tmp_path / "hub.sqlite")) as registry:
        assert registry.pending() == [CARD]
        with pytest.raises(PolicyDenied):
            registry.enrol(secret, identities.create("east", "silo", "East Clinic").card, NOW)


def test_a_newcomer_that_did_not_hear_that_it_waits_may_say_it_again(registry: Registry) -> None:
    secret = registry.invite(EAST, "silo", NOW)
    for _ in range(2):
        registry.enrol(secret, CARD, NOW)
    assert registry.pending() == [CARD]
    registry.forget([EAST])
    with pytest.raises(PolicyDenied):
        registry.enrol(secret, CARD, NOW)


def test_who_is_in_the_roster_waits_no_longer(registry: Registry) -> None:
    registry.enrol(registry.invite(EAST, "silo", NOW), CARD, NOW)
    assert registry.pending([OTHER]) == [CARD]
    assert registry.pending([OTHER, CARD]) == []


def test_new_keys_of_a_rostered_name_wait_too(registry: Registry) -> None:
    fresh = identities.create("east", "silo", "East Clinic").card
    registry.enrol(registry.invite(EAST, "silo", NOW), fresh, NOW)
    assert registry.pending([CARD]) == [fresh]


def test_a_second_invitation_replaces_the_waiting_card(registry: Registry) -> None:
    other = identities.create("east", "silo", "East Clinic").card
    for card in (CARD, other):
        registry.enrol(registry.invite(EAST, "silo", NOW), card, NOW)
    assert registry.pending() == [other]


# -- tokens ---------------------------------------------------------------------------------------


@given(messages(Invitation))
def test_a_token_comes_back_as_the_invitation(invitation: Invitation) -> None:
    token = invitation.token()
    assert token.isascii()
    assert len(token.split()) == 1
    assert Invitation.parse(f"  {token}\n") == invitation


@given(messages(Invitation), st.data())
def test_a_damaged_token_raises_nothing_but_integrity_errors(
    invitation: Invitation, data: st.DataObject
) -> None:
    token = list(invitation.token())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(token) - 1))
        token[place] = data.draw(
            st.characters(codec="utf-8") | st.sampled_from(["", "=", "-", "_"])
        )
    with contextlib.suppress(IntegrityError):
        assert isinstance(Invitation.parse("".join(token)), Invitation)


@given(
    st.text() | st.text().map("siloquy1.".__add__) | st.binary().map(lambda b: f"siloquy1.{b!r}")
)
@example("")
@example("siloquy1.")
@example("siloquy1.é")
@example("siloquy2.aaaa")
def test_any_text_is_no_token(text: str) -> None:
    with pytest.raises(IntegrityError):
        Invitation.parse(text)


@given(messages(Invitation), st.integers(1, 40))
def test_a_token_that_was_cut_short_is_damaged(invitation: Invitation, cut: int) -> None:
    with pytest.raises(IntegrityError):
        Invitation.parse(invitation.token()[:-cut])


def test_another_value_in_a_token_is_no_invitation() -> None:
    card = Member(EAST, "silo", "East", b"", b"")
    token = Invitation.token(card)  # type: ignore[arg-type]
    with pytest.raises(IntegrityError):
        Invitation.parse(token)


# -- profiles and lines ---------------------------------------------------------------------------


def test_the_newest_profile_of_each_silo_is_kept(registry: Registry) -> None:
    for silo, envelope in ((EAST, b"one"), (WEST, b"other"), (EAST, b"two")):
        registry.publish(silo, envelope, NOW)
    assert registry.profiles() == {EAST: b"two", WEST: b"other"}


def test_a_profile_that_was_taken_back_is_gone(registry: Registry) -> None:
    registry.publish(EAST, b"one", NOW)
    registry.unpublish(EAST)
    registry.unpublish(WEST)
    assert registry.profiles() == {}


def test_who_is_forgotten_waits_no_longer(registry: Registry) -> None:
    for card in (CARD, OTHER):
        registry.enrol(registry.invite(card.node, "silo", NOW), card, NOW)
    registry.forget([EAST, NodeId("nobody")])
    assert registry.pending() == [OTHER]


def test_counters_add_up(registry: Registry) -> None:
    registry.count("frames refused", 3)
    registry.count("frames refused")
    assert registry.counters() == {"frames refused": 4}


def test_presence_tells_who_is_connected_since_when(registry: Registry) -> None:
    registry.set_presence(WEST, True, NOW)
    registry.set_presence(EAST, True, NOW + 1)
    registry.set_presence(WEST, False, NOW + 2)
    assert registry.presence() == [Presence(EAST, True, NOW + 1), Presence(WEST, False, NOW + 2)]


def test_at_start_nobody_is_connected(registry: Registry) -> None:
    registry.set_presence(EAST, True, NOW)
    registry.all_absent(NOW + 5)
    assert registry.presence() == [Presence(EAST, False, NOW + 5)]


def test_a_fresh_registry_is_empty(registry: Registry) -> None:
    assert (registry.pending(), registry.profiles(), registry.presence()) == ([], {}, [])


def test_a_closed_registry_is_closed(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "hub.sqlite")
    registry.close()
    with pytest.raises(sqlite3.ProgrammingError):
        registry.pending()
