"""Sealed messages: who can open them, what breaks them, and what their bytes give away."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.codec import decode, encode
from siloquy.errors import IntegrityError, PolicyDenied
from siloquy.trust import identity as identities
from siloquy.trust.identity import Identity
from siloquy.trust.roster import SignedRoster
from siloquy.types import Member, SearchRequest, Term
from siloquy.wire import envelope as envelopes
from siloquy.wire.envelope import CLOCK_SKEW_MS, Envelope, Header
from tests.siloquy.federation import NOW, Federation, signed

CANARY = "zebrafish"
LIFETIME_MS = 60_000
ID = bytes(range(16))


@dataclass(frozen=True, slots=True)
class Note:
    """A body of any length."""

    text: str


def question(words: int = 1, word: str = CANARY) -> SearchRequest:
    vector = np.random.default_rng(7).standard_normal(384).astype(np.float32)
    vector /= np.linalg.norm(vector)
    terms = tuple(Term(f"{word}{n}", 1.5) for n in range(words))
    return SearchRequest(vector, terms, 10, "passage", 50, "treatment", "dr-lindqvist")


def sealed_by(
    federation: Federation,
    sender: Identity,
    value: object,
    to: Sequence[Member] | None = None,
    **change: Any,
) -> bytes:
    """``value`` sealed to both silos, or to the cards in ``to``."""
    cards = [federation.north.card, federation.south.card] if to is None else to
    options: dict[str, Any] = {"roster": federation.roster, "now": NOW, "lifetime_ms": LIFETIME_MS}
    return envelopes.seal(sender, cards, "search", ID, value, **(options | change))


@pytest.fixture(scope="session")
def sealed(federation: Federation) -> bytes:
    """A question of the ward's to both silos."""
    return sealed_by(federation, federation.ward, question())


@pytest.fixture(scope="session")
def envelope(sealed: bytes) -> Envelope:
    return decode(Envelope, sealed)


def receive(roster: SignedRoster, data: bytes, now: int = NOW) -> envelopes.ReceivedEnvelope:
    return envelopes.receive(data, roster, role="gateway", kind="search", now=now)


def opened(federation: Federation, data: bytes, by: Identity) -> SearchRequest:
    return envelopes.open_body(receive(federation.roster, data), by, SearchRequest)


def resigned(sender: Identity, envelope: Envelope, **change: Any) -> bytes:
    """``envelope`` changed and signed anew, as only its sender could."""
    new = replace(envelope, **change)
    digest = envelopes._digest(new.header, new.wraps, new.body)
    return encode(replace(new, signature=identities.sign(sender.signing, "envelope", digest)))


# -- opening --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["north", "south"])
def test_each_recipient_opens_it(federation: Federation, sealed: bytes, name: str) -> None:
    assert encode(opened(federation, sealed, getattr(federation, name))) == encode(question())


@pytest.mark.parametrize("name", ["hub", "ward"])
def test_nobody_else_opens_it(federation: Federation, sealed: bytes, name: str) -> None:
    with pytest.raises(PolicyDenied, match=f"not addressed to {name}"):
        opened(federation, sealed, getattr(federation, name))


def test_a_recipients_name_does_not_open_it_without_the_key(
    federation: Federation, sealed: bytes
) -> None:
    thief = replace(federation.hub, card=federation.north.card)
    with pytest.raises(IntegrityError, match="does not open"):
        opened(federation, sealed, thief)


def test_a_body_of_another_kind_is_refused(federation: Federation) -> None:
    data = sealed_by(federation, federation.ward, Note("no question"))
    with pytest.raises(IntegrityError, match="SearchRequest: "):
        opened(federation, data, federation.north)


def test_the_hub_reads_where_to_relay_it(sealed: bytes) -> None:
    header = envelopes.read_header(sealed)
    assert (header.sender, header.recipients, header.id) == ("ward", ("north", "south"), ID)


def test_the_header_says_what_was_asked_for(federation: Federation) -> None:
    data = sealed_by(
        federation,
        federation.ward,
        question(),
        mode="sealed",
        k=7,
        unit="document",
        quotas=[7, 2],
        lexical_ceiling=12.5,
    )
    header = receive(federation.roster, data).header
    assert (header.mode, header.k, header.unit) == ("sealed", 7, "document")
    assert (header.quotas, header.lexical_ceiling) == ((7, 2), 12.5)


def test_an_envelope_to_nobody_opens_for_nobody(federation: Federation) -> None:
    data = sealed_by(federation, federation.ward, question(), [])
    with pytest.raises(PolicyDenied):
        opened(federation, data, federation.north)


def test_a_sealing_key_that_was_substituted_shuts_the_recipient_out(
    federation: Federation,
) -> None:
    swapped = replace(federation.north.card, sealing_key=federation.hub.card.sealing_key)
    believed = replace(federation.roster.roster, version=2, members=(swapped,))
    data = sealed_by(
        federation, federation.ward, question(), [swapped], roster=SignedRoster(believed, {})
    )
    with pytest.raises(IntegrityError, match="does not open"):
        opened(federation, data, federation.north)


def test_nothing_is_sealed_to_a_key_that_the_roster_does_not_name(federation: Federation) -> None:
    swapped = replace(federation.north.card, sealing_key=federation.hub.card.sealing_key)
    with pytest.raises(IntegrityError, match="no such card of north"):
        sealed_by(federation, federation.ward, question(), [swapped])


# -- tampering ------------------------------------------------------------------------------------


def flipped(data: bytes, draw: st.DataObject) -> bytes:
    changed = bytearray(data)
    changed[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    return bytes(changed)


@pytest.mark.parametrize("part", ["header", "body", "signature"])
@given(data=st.data())
def test_a_flipped_byte_is_refused(
    federation: Federation, envelope: Envelope, part: str, data: st.DataObject
) -> None:
    change: dict[str, Any] = {part: flipped(getattr(envelope, part), data)}
    changed = replace(envelope, **change)
    with pytest.raises((IntegrityError, PolicyDenied)):
        receive(federation.roster, encode(changed))


@pytest.mark.parametrize("place", [0, 1])
@given(data=st.data())
def test_a_flipped_byte_of_a_wrapped_key_is_refused(
    federation: Federation, envelope: Envelope, place: int, data: st.DataObject
) -> None:
    wraps = list(envelope.wraps)
    wraps[place] = flipped(wraps[place], data)
    with pytest.raises(IntegrityError, match="signature of envelope"):
        receive(federation.roster, encode(replace(envelope, wraps=tuple(wraps))))


@given(data=st.data())
def test_a_flipped_byte_anywhere_is_refused(
    federation: Federation, sealed: bytes, data: st.DataObject
) -> None:
    with pytest.raises((IntegrityError, PolicyDenied)):
        receive(federation.roster, flipped(sealed, data))


@given(data=st.data())
def test_a_truncated_envelope_is_refused(
    federation: Federation, sealed: bytes, data: st.DataObject
) -> None:
    with pytest.raises(IntegrityError):
        receive(federation.roster, sealed[: data.draw(st.integers(0, len(sealed) - 1))])


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_envelope(federation: Federation, data: bytes) -> None:
    with pytest.raises(IntegrityError):
        receive(federation.roster, data)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_have_no_header(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        envelopes.read_header(data)


TAMPERED: dict[str, Callable[[Envelope], dict[str, Any]]] = {
    "swapped keys": lambda e: {"wraps": e.wraps[::-1]},
    "one key less": lambda e: {"wraps": e.wraps[:1]},
    "one key more": lambda e: {"wraps": (*e.wraps, e.wraps[0])},
    "the body as a key": lambda e: {"wraps": (*e.wraps, e.body), "body": b""},
    "no signature": lambda e: {"signature": b""},
    "no body": lambda e: {"body": b""},
}
tampered = pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED.keys())


@tampered
def test_what_the_hub_rearranges_is_refused(
    federation: Federation, envelope: Envelope, change: Callable[[Envelope], dict[str, Any]]
) -> None:
    with pytest.raises(IntegrityError, match="signature of envelope"):
        receive(federation.roster, encode(replace(envelope, **change(envelope))))


SENDERS: dict[str, Callable[[Envelope], dict[str, Any]]] = {
    "swapped keys": lambda e: {"wraps": e.wraps[::-1]},
    "one key less": lambda e: {"wraps": e.wraps[:1]},
    "one key more": lambda e: {"wraps": (*e.wraps, e.wraps[0])},
    "no key at all": lambda e: {"wraps": (b"", b"")},
    "a key of 31 bytes": lambda e: {"wraps": (bytes(31), bytes(31))},
    "a key of zeros": lambda e: {"wraps": (bytes(80), bytes(80))},
    "no body": lambda e: {"body": b""},
    "another body": lambda e: {"body": bytes(len(e.body))},
    "another header": lambda e: {"header": encode(replace(decode(Header, e.header), k=99))},
    "other quotas": lambda e: {"header": encode(replace(decode(Header, e.header), quotas=(9, 0)))},
    "another ceiling": lambda e: {
        "header": encode(replace(decode(Header, e.header), lexical_ceiling=1e6))
    },
}


@pytest.mark.parametrize("change", SENDERS.values(), ids=SENDERS.keys())
def test_even_its_sender_cannot_rearrange_it(
    federation: Federation, envelope: Envelope, change: Callable[[Envelope], dict[str, Any]]
) -> None:
    data = resigned(federation.ward, envelope, **change(envelope))
    with pytest.raises(IntegrityError, match="envelope"):
        opened(federation, data, federation.north)


@pytest.mark.parametrize("length", [0, 3])
def test_a_body_too_short_for_its_padding_is_refused(federation: Federation, length: int) -> None:
    with pytest.raises(IntegrityError, match="padding does not hold"):
        envelopes._unpad(bytes(length))


def test_a_body_that_claims_more_than_it_holds_is_refused() -> None:
    with pytest.raises(IntegrityError, match="padding does not hold"):
        envelopes._unpad((509).to_bytes(4, "big") + bytes(508))


@given(st.binary(max_size=2000))
def test_padding_comes_off_again(data: bytes) -> None:
    assert envelopes._unpad(envelopes._pad(data)) == data


# -- who, what, when ------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"kind": "release"}, {"version": 2}, {"version": 0}])
def test_another_kind_or_version_is_refused(
    federation: Federation, envelope: Envelope, change: dict[str, Any]
) -> None:
    header = encode(replace(decode(Header, envelope.header), **change))
    with pytest.raises(IntegrityError, match="wanted a search of version 1"):
        receive(federation.roster, resigned(federation.ward, envelope, header=header))


def test_a_release_does_not_pass_as_a_search(federation: Federation, sealed: bytes) -> None:
    with pytest.raises(IntegrityError, match="is a search of version 1, wanted a release"):
        envelopes.receive(sealed, federation.roster, role="gateway", kind="release", now=NOW)


def test_a_stranger_is_refused(federation: Federation) -> None:
    stranger = identities.create("stranger", "gateway", "Elsewhere")
    with pytest.raises(PolicyDenied, match="stranger is not in version 1"):
        receive(federation.roster, sealed_by(federation, stranger, question()))


def test_a_stranger_under_a_members_name_is_refused(federation: Federation) -> None:
    stranger = identities.create("ward", "gateway", "Elsewhere")
    with pytest.raises(IntegrityError, match="signature of envelope"):
        receive(federation.roster, sealed_by(federation, stranger, question()))


@pytest.mark.parametrize("name", ["south", "hub"])
def test_only_a_gateway_asks(federation: Federation, name: str) -> None:
    data = sealed_by(federation, getattr(federation, name), question())
    with pytest.raises(PolicyDenied, match=f"{name} is not in version 1 of the roster as gateway"):
        receive(federation.roster, data)


def test_the_hub_cannot_ask_in_the_gateways_name(
    federation: Federation, envelope: Envelope
) -> None:
    with pytest.raises(IntegrityError, match="signature of envelope"):
        receive(federation.roster, resigned(federation.hub, envelope))


@pytest.mark.parametrize("later", [0, LIFETIME_MS])
def test_an_envelope_is_read_until_it_expires(
    federation: Federation, sealed: bytes, later: int
) -> None:
    receive(federation.roster, sealed, NOW + later)


def test_an_expired_envelope_is_refused(federation: Federation, sealed: bytes) -> None:
    with pytest.raises(IntegrityError, match="expired 1 s ago"):
        receive(federation.roster, sealed, NOW + LIFETIME_MS + 1000)


def test_an_envelope_of_a_clock_a_little_ahead_is_read(
    federation: Federation, sealed: bytes
) -> None:
    receive(federation.roster, sealed, NOW - CLOCK_SKEW_MS)


def test_an_envelope_from_the_future_is_refused(federation: Federation, sealed: bytes) -> None:
    with pytest.raises(IntegrityError, match="is dated 31 s ahead"):
        receive(federation.roster, sealed, NOW - CLOCK_SKEW_MS - 1000)


def test_an_envelope_that_lives_for_a_century_is_refused(federation: Federation) -> None:
    data = sealed_by(federation, federation.ward, question(), lifetime_ms=100 * 365 * 86_400_000)
    with pytest.raises(IntegrityError):
        receive(federation.roster, data)


def test_a_profile_may_live_for_two_days(federation: Federation) -> None:
    for lifetime_ms, alive in ((48 * 3_600_000, True), (48 * 3_600_000 + 1, False)):
        data = envelopes.seal(
            federation.north,
            [federation.ward.card],
            "profile",
            ID,
            Note(""),
            roster=federation.roster,
            now=NOW,
            lifetime_ms=lifetime_ms,
        )
        with contextlib.nullcontext() if alive else pytest.raises(IntegrityError, match="lives"):
            envelopes.receive(data, federation.roster, role="silo", kind="profile", now=NOW)


def test_a_split_view_of_the_roster_is_noticed(federation: Federation, sealed: bytes) -> None:
    other = replace(federation.roster.roster, created=NOW + 1)
    ours = signed(other, [federation.north, federation.south])
    with pytest.raises(IntegrityError, match="ward holds another roster of version 1: a split"):
        receive(ours, sealed)


def test_a_sender_one_version_behind_is_still_heard(federation: Federation, sealed: bytes) -> None:
    newer = replace(federation.roster.roster, version=2, previous=federation.roster.head)
    receive(signed(newer, [federation.north, federation.south]), sealed)


def test_a_sender_that_left_the_roster_is_refused(federation: Federation, sealed: bytes) -> None:
    cards = [card for card in federation.members if card.role != "gateway"]
    newer = replace(federation.roster.roster, version=2, members=tuple(cards))
    with pytest.raises(PolicyDenied, match="ward is not in version 2"):
        receive(SignedRoster(newer, {}), sealed)


def test_a_sender_whose_keys_were_replaced_is_refused(
    federation: Federation, sealed: bytes
) -> None:
    fresh = identities.create("ward", "gateway", "Northmoor").card
    cards = [fresh if card.node == "ward" else card for card in federation.members]
    newer = replace(federation.roster.roster, version=2, members=tuple(cards))
    with pytest.raises(IntegrityError, match="signature of envelope"):
        receive(SignedRoster(newer, {}), sealed)


# -- what the bytes give away ---------------------------------------------------------------------


def test_the_words_of_a_question_are_not_in_its_envelope(sealed: bytes) -> None:
    forms = [
        CANARY.encode(),
        CANARY.encode("utf-16-le"),
        CANARY.encode().hex().encode(),
        *(base64.b64encode(b"x" * shift + CANARY.encode())[4:-4] for shift in range(3)),
    ]
    assert not any(form in sealed for form in forms)


def test_no_number_of_the_vector_is_in_its_envelope(sealed: bytes) -> None:
    vector = question().vector
    raw = [vector[i : i + 2].tobytes() for i in range(0, 384, 2)]
    text = [form.encode() for x in vector for form in (f"{x:.5f}", repr(float(x)))]
    encoded = [base64.b64encode(vector[i : i + 6].tobytes()) for i in range(0, 384, 6)]
    assert not any(form in sealed for form in (*raw, *text, *encoded))


def test_who_asked_for_what_purpose_is_not_in_its_envelope(sealed: bytes) -> None:
    assert not any(word in sealed for word in (b"dr-lindqvist", b"treatment"))


def test_the_same_question_never_looks_the_same(federation: Federation) -> None:
    first, second = (
        decode(Envelope, sealed_by(federation, federation.ward, question())) for _ in range(2)
    )
    assert first.header == second.header
    assert {first.body, *first.wraps}.isdisjoint({second.body, *second.wraps})


def test_a_short_and_a_long_question_are_of_one_size(federation: Federation) -> None:
    sizes = {
        len(sealed_by(federation, federation.ward, question(words, word)))
        for words, word in ((1, "mrsa"), (8, "thromboprophylaxis"))
    }
    assert len(sizes) == 1


@given(st.integers(0, 3000))
def test_sizes_come_in_steps_of_512_bytes(federation: Federation, length: int) -> None:
    def size(characters: int) -> int:
        note = Note("x" * characters)
        return len(decode(Envelope, sealed_by(federation, federation.ward, note)).body)

    assert size(length) % 512 == 16
    assert 0 <= size(length) - length <= 512 + 16 + 16


def test_keys_are_wrapped_for_each_recipient_apart(envelope: Envelope) -> None:
    assert len(set(envelope.wraps)) == 2


def test_a_recipient_named_twice_opens_it(federation: Federation) -> None:
    north = federation.north.card
    data = sealed_by(federation, federation.ward, question(), [north, north])
    assert opened(federation, data, federation.north).requester == "dr-lindqvist"


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32)], ids=["empty", "short", "low order"])
def test_one_bad_card_does_not_stop_a_question_with_a_crash(
    federation: Federation, key: bytes
) -> None:
    bad = replace(federation.north.card, sealing_key=key)
    roster = SignedRoster(replace(federation.roster.roster, members=(bad,)), {})
    with pytest.raises(IntegrityError, match="nothing can be sealed to the key of north"):
        sealed_by(federation, federation.ward, question(), [bad], roster=roster)
