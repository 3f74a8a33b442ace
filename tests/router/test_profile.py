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

from siloquy import envelope as envelopes
from siloquy.envelope import Kind
from siloquy.errors import IntegrityError
from siloquy.identity import Identity
from siloquy.router.profile import MOST_BYTES, Opened, Versions, centroids, check, open_all
from siloquy.types import NodeId, Profile
from tests.siloquy.federation import ENCODER, NOW, Federation, new_federation
from tests.siloquy.strategies import messages

NORTH, SOUTH = NodeId("north"), NodeId("south")
HOUR = 3_600_000


def profile(silo: str = "north", version: int = 1, **other: Any) -> Profile:
    """A profile of two clusters that holds; ``other`` is what a test changes."""
    plain = Profile(
        silo=NodeId(silo),
        version=version,
        created=NOW,
        expires=NOW + HOUR,
        encoder=ENCODER,
        size=60,
        centroids=bytes(2 * ENCODER.dimension),
        counts=(40, 20),
        radii=(0.1, 0.2),
        frequencies=b"",
    )
    return replace(plain, **other)


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

    def open(self, *sealed: bytes) -> Opened:
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
    assert opened == Opened((profile("north"), profile("south")), ())


def test_no_profiles_are_none(desk: Desk) -> None:
    assert desk.open() == Opened((), ())


def test_a_profile_of_a_small_silo_holds(desk: Desk) -> None:
    small = profile(size=7, centroids=b"", counts=(), radii=())
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
    sealed = desk.seal(profile(frequencies=os.urandom(MOST_BYTES)))
    assert f"at most {MOST_BYTES}" in desk.refusal(sealed)


# -- numbers --------------------------------------------------------------------------------------

D = ENCODER.dimension
ODD: dict[str, tuple[dict[str, Any], str]] = {
    "other weights": ({"encoder": replace(ENCODER, sha256="11" * 32)}, "another encoder"),
    "other dimension": ({"encoder": replace(ENCODER, dimension=8)}, "another encoder"),
    "a centroid too few": ({"centroids": bytes(D)}, "another size"),
    "a byte too many": ({"centroids": bytes(2 * D + 1)}, "another size"),
    "a radius too few": ({"radii": (0.1,)}, "odd radii"),
    "too many centroids": (
        {"counts": (1,) * 65, "radii": (0.1,) * 65, "centroids": bytes(65 * D), "size": 65},
        "65 centroids",
    ),
    "a negative size": ({"size": -1}, "counts wrong"),
    "a negative count": ({"counts": (60, -20)}, "counts wrong"),
    "a negative radius": ({"radii": (0.1, -0.2)}, "counts wrong"),
    "more in clusters than in all": ({"counts": (41, 20)}, "counts wrong"),
}


@pytest.mark.parametrize(("other", "words"), ODD.values(), ids=ODD)
def test_odd_numbers_are_refused(desk: Desk, other: dict[str, Any], words: str) -> None:
    assert words in desk.refusal(desk.seal(profile(**other)))


@given(messages(Profile))
def test_any_profile_is_refused_or_can_be_used(profile: Profile) -> None:
    try:
        check(profile, ENCODER)
    except IntegrityError:
        return
    assert centroids(profile).shape == (len(profile.counts), ENCODER.dimension)


@given(st.binary(min_size=D, max_size=D))
def test_centroids_come_back_on_their_scale(codes: bytes) -> None:
    means = centroids(profile(centroids=codes, counts=(1,)))
    assert (means.shape, str(means.dtype)) == ((1, D), "float32")
    assert np.allclose(means[0] * 127, np.frombuffer(codes, dtype=np.int8), atol=1e-4)
