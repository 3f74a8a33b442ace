"""Profiles at the gateway: the newest of the right silo and encoder, or a reason why not."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.errors import IntegrityError
from siloquy.router.profile import (
    OpenedProfiles,
    Versions,
    centroids,
    check,
    content_hash,
    countable,
    directions,
    near_topics,
    open_all,
)
from siloquy.text import lexicon as lexicons
from siloquy.text.lexicon import Lexicon
from siloquy.trust.identity import Identity
from siloquy.types import NodeId, Profile
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import MOST_PROFILE_BYTES
from siloquy.wire.envelope import Kind
from tests.router.profiles import HOUR, TOPICS, axes, described, profile, tiny
from tests.siloquy.federation import ENCODER, NOW, Federation, new_federation
from tests.siloquy.strategies import messages

NORTH, SOUTH = NodeId("north"), NodeId("south")


class Desk:
    """The gateway ward, to which silos send profiles."""

    def __init__(self, federation: Federation, folder: Path) -> None:
        self.federation = federation
        self.path = folder / "profiles.sqlite"
        self.now = NOW

    def seal(self, value: object, sender: Identity | None = None, kind: Kind = "profile") -> bytes:
        node = getattr(value, "silo", NORTH)
        named = self.federation.south if node == SOUTH else self.federation.north
        return envelopes.seal(
            sender or named,
            [self.federation.ward.card],
            kind,
            os.urandom(16),
            value,
            roster=self.federation.roster,
            now=NOW,
            lifetime_ms=2 * HOUR,
        )

    def open(self, *sealed: bytes) -> OpenedProfiles:
        """What a gateway that was just started makes of it."""
        return open_all(
            sealed, self.federation.ward, self.federation.roster, Versions(self.path), self.now
        )

    def refusal(self, sealed: bytes) -> str:
        """Why a profile is refused, and that north's good one comes through beside it."""
        opened = self.open(sealed, self.seal(profile("south")))
        assert [item.silo for item in opened.profiles] == ["south"]
        (missing,) = opened.refused
        assert missing.reason == "integrity"
        return f"{missing.silo}: {missing.detail}"


@pytest.fixture
def desk(federation: Federation, tmp_path: Path) -> Desk:
    return Desk(federation, tmp_path)


# -- what comes through ---------------------------------------------------------------------------


def test_profiles_are_opened_in_the_order_of_names(desk: Desk) -> None:
    opened = desk.open(desk.seal(profile("south")), desk.seal(profile("north")))
    assert opened == OpenedProfiles((profile("north"), profile("south")), ())


def test_no_profiles_are_none(desk: Desk) -> None:
    assert desk.open() == OpenedProfiles((), ())


def test_a_profile_of_a_small_silo_holds(desk: Desk) -> None:
    small = tiny("north", 7)
    assert desk.open(desk.seal(small)).profiles == (small,)


def test_a_newer_version_replaces_the_older(desk: Desk) -> None:
    opened = desk.open(desk.seal(profile(version=1)), desk.seal(profile(version=2)))
    assert [item.version for item in opened.profiles] == [2]


def test_the_same_version_is_taken_again(desk: Desk) -> None:
    sealed = desk.seal(profile(version=3))
    assert desk.open(sealed) == desk.open(sealed)


# -- what does not --------------------------------------------------------------------------------


def test_an_older_version_is_refused_even_after_a_restart(desk: Desk) -> None:
    desk.open(desk.seal(profile(version=5)))
    refusal = desk.refusal(desk.seal(profile(version=4)))
    assert refusal == "north: profile of north rolled back from 5 to 4"


def test_versions_of_one_silo_say_nothing_of_another(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "versions")
    versions.accept(NORTH, 9)
    versions.accept(SOUTH, 1)
    with pytest.raises(IntegrityError):
        versions.accept(NORTH, 8)
    versions.accept(NORTH, 9)


def test_an_expired_profile_is_refused(desk: Desk) -> None:
    sealed = desk.seal(profile(expires=NOW - 1))
    assert desk.refusal(sealed) == "north: the profile of north has expired"


def test_an_expired_envelope_is_refused(desk: Desk) -> None:
    sealed = desk.seal(profile())
    desk.now += 2 * HOUR + 1
    (missing,) = desk.open(sealed).refused
    assert "envelope expired" in missing.detail


def test_a_profile_of_another_silo_is_refused(desk: Desk) -> None:
    sealed = desk.seal(profile("ward"), desk.federation.north)
    assert desk.refusal(sealed) == "north: north sent a profile of another silo"


def test_a_gateway_has_no_profile(desk: Desk) -> None:
    assert "as silo" in desk.refusal(desk.seal(profile(), desk.federation.ward))


def test_another_kind_of_letter_is_no_profile(desk: Desk) -> None:
    assert "wanted a profile" in desk.refusal(desk.seal(profile(), kind="passages"))


def test_a_profile_of_an_unknown_node_is_refused_under_no_name(desk: Desk) -> None:
    other = new_federation()
    stranger = replace(other.north, card=replace(other.north.card, node=NodeId("zzz")))
    assert desk.refusal(desk.seal(profile(), stranger)).startswith("unknown: ")


def test_a_profile_signed_with_another_key_is_refused(desk: Desk) -> None:
    assert "signature" in desk.refusal(desk.seal(profile(), new_federation().north))


def test_a_profile_that_is_not_for_this_gateway_is_refused(desk: Desk) -> None:
    sealed = envelopes.seal(
        desk.federation.north,
        [desk.federation.south.card],
        "profile",
        bytes(16),
        profile(),
        roster=desk.federation.roster,
        now=NOW,
        lifetime_ms=HOUR,
    )
    assert "not addressed to ward" in desk.refusal(sealed)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-9], lambda data: b"\0" * 99]
)
def test_a_damaged_profile_is_refused(desk: Desk, damage: Callable[[bytes], bytes]) -> None:
    assert desk.refusal(damage(desk.seal(profile())))


def test_a_changed_profile_is_refused(desk: Desk) -> None:
    sealed = bytearray(desk.seal(profile()))
    sealed[len(sealed) // 2] ^= 1
    assert desk.refusal(bytes(sealed))


def test_a_profile_that_is_too_large_is_refused(desk: Desk) -> None:
    sealed = desk.seal(profile(frequencies=os.urandom(MOST_PROFILE_BYTES)))
    assert f"at most {MOST_PROFILE_BYTES}" in desk.refusal(sealed)


# -- numbers --------------------------------------------------------------------------------------

D = ENCODER.dimension
TOLD = profile().topics
ODD: dict[str, tuple[dict[str, Any], str]] = {
    "other weights": ({"encoder": replace(ENCODER, sha256="11" * 32)}, "another encoder"),
    "other dimension": ({"encoder": replace(ENCODER, dimension=8)}, "another encoder"),
    "other topics": ({"anchors": "00"}, "another list of topics"),
    "a mean too few": ({"centroids": bytes(D)}, "another size"),
    "a byte too many": ({"centroids": bytes(2 * D + 1)}, "another size"),
    "a spread too few": ({"spreads": (0.1,)}, "another size"),
    "a noise too many": ({"noises": (0.1,) * 3}, "another size"),
    "a rank without directions": ({"rank": 1}, "another size"),
    "a negative rank": ({"rank": -1}, "another size"),
    "directions without a rank": ({"directions": bytes(D)}, "another size"),
    "variances without a rank": ({"variances": (0.1,)}, "another size"),
    "too many directions": (
        {"rank": 9, "directions": bytes(9 * D), "variances": (0.0,) * 18},
        "another size",
    ),
    "cells without topics": ({"topics": b""}, "another size"),
    "a topic too few": ({"topics": TOLD[2:]}, "another size"),
    "too many cells": (
        {
            "counts": (1.0,) * 17,
            "noises": (0.0,) * 17,
            "spreads": (0.1,) * 17,
            "centroids": bytes(17 * D),
        },
        "17 cells",
    ),
    "a negative size": ({"size": -1}, "negative"),
    "a negative count": ({"counts": (60.0, -20.0)}, "negative"),
    "a negative spread": ({"spreads": (0.1, -0.2)}, "negative"),
    "a negative noise": ({"noises": (0.1, -0.2)}, "negative"),
    "more in cells than in all": ({"counts": (41.0, 20.0)}, "counts wrong"),
    "noise of no privacy": ({"epsilon": 0.0, "delta": 1e-5}, "names no privacy"),
    "a certain failure": ({"epsilon": 8.0, "delta": 1.0}, "names no privacy"),
    "a topic without a number": ({"topics": b"\xff\x7e" + TOLD[2:]}, "without a number"),
    "a mean beyond length 1": ({"centroids": b"\x7f" * (2 * D)}, "no vectors of length 1"),
    "a spread beyond length 1": ({"spreads": (0.04, 9.0)}, "no vectors of length 1"),
    "more spread along a line than in all": (
        {"rank": 1, "directions": bytes(D), "variances": (0.5, 0.04)},
        "no vectors of length 1",
    ),
    "a noised mean beyond its noise": (
        {"epsilon": 8.0, "delta": 1e-5, "centroids": b"\x7f" * (2 * D), "noises": (0.1, 0.1)},
        "no vectors of length 1",
    ),
}


@pytest.mark.parametrize(("other", "words"), ODD.values(), ids=ODD)
def test_odd_numbers_are_refused(desk: Desk, other: dict[str, Any], words: str) -> None:
    assert words in desk.refusal(desk.seal(profile(**other)))


def test_a_noised_mean_may_be_as_long_as_its_noise_makes_it() -> None:
    noised = np.full((2, D), 0.1, dtype=np.float32)
    check(described("north", noised, epsilon=8.0, delta=1e-5, noises=(0.1, 0.1)), ENCODER)


def test_the_cells_of_vectors_of_length_one_hold() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, D))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for some in (vectors, vectors[:1], vectors[:3]):
        mean = some.mean(axis=0)
        spread = float(np.square(some - mean).sum(axis=1).mean())
        check(described("north", mean[None].astype(np.float32), spread=spread), ENCODER)


@given(messages(Profile))
def test_any_profile_is_refused_or_can_be_used(profile: Profile) -> None:
    try:
        check(profile, ENCODER)
    except IntegrityError:
        return
    assert centroids(profile).shape == (len(profile.counts), ENCODER.dimension)
    assert directions(profile).shape == (len(profile.counts) * profile.rank, ENCODER.dimension)
    assert len(near_topics(profile)) in (0, TOPICS)


@given(st.binary(min_size=2 * D, max_size=2 * D))
def test_means_come_back_on_their_scale(codes: bytes) -> None:
    means = centroids(profile(centroids=codes))
    assert (means.shape, str(means.dtype)) == ((2, D), "float32")
    assert np.allclose(means.ravel() * 127, np.frombuffer(codes, dtype=np.int8), atol=1e-4)


def test_directions_come_back_as_unit_vectors_and_none_as_zeros() -> None:
    packed = bytes([0x97]) + bytes(D // 2 - 1) + bytes(D // 2)
    rows = directions(profile(rank=1, directions=packed, variances=(0.0, 0.0)))
    assert rows[0, :3] == pytest.approx([0.5**0.5, -(0.5**0.5), 0.0])
    assert not rows[1].any()


# -- what is said ---------------------------------------------------------------------------------


def test_the_same_content_has_the_same_hash_whatever_its_version() -> None:
    one = profile()
    assert content_hash(one) == content_hash(replace(one, version=9, created=1, expires=2))
    assert content_hash(one) != content_hash(profile(size=61))
    assert content_hash(one) != content_hash(described("north", axes(0, 2)))


def test_word_counts_that_do_not_fit_the_lexicon_are_refused() -> None:
    lexicon = Lexicon(("ache", "fever"), {"ache": 0, "fever": 1})
    good = profile(frequencies=lexicons.pack(np.array([3, 0])))
    plain = profile("south")
    odd = profile("east", frequencies=b"\0")
    opened = countable(OpenedProfiles((good, plain, odd), ()), lexicon)
    assert opened.profiles == (good, plain)
    assert [(item.silo, item.reason) for item in opened.refused] == [("east", "integrity")]


def test_a_profile_serves_on_until_it_expires_when_its_silo_hands_over_a_bad_one(
    desk: Desk,
) -> None:
    old = (profile(), profile("south"))
    bad, garbage = desk.seal(profile(size=-1)), b"whose?"
    for sealed, now, kept in (
        ([bad], NOW, old),
        ([garbage], NOW, old),
        ([bad], NOW + HOUR + 1, ()),
        ([], NOW, ()),
    ):
        opened = open_all(
            sealed, desk.federation.ward, desk.federation.roster, Versions(desk.path), now, old
        )
        assert (opened.profiles, len(opened.refused)) == (kept, len(sealed))
