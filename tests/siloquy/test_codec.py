"""Values to bytes and back, and what hostile bytes can do: nothing but be refused."""

from __future__ import annotations

import dataclasses
import json
import time
import tracemalloc
from types import ModuleType
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy import types
from siloquy.codec import MAX_MESSAGE_BYTES, decode, encode, from_json, to_json
from siloquy.errors import IntegrityError
from siloquy.trust import ledger, roster
from siloquy.types import Answer, Hit, Member, Passage, Plan, SearchRequest, SignedMessage, Winner
from siloquy.wire import channel, envelope
from tests.siloquy.strategies import messages, same

NEVER_SENT = {
    envelope.ReceivedEnvelope,
    channel.HubConnection,
    channel.Newcomer,
    roster.SignedRoster,
    types.SearchFeedback,
}


def kinds_of(module: ModuleType) -> list[type[Any]]:
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type)
        and dataclasses.is_dataclass(kind)
        and kind.__module__ == module.__name__
        and kind not in NEVER_SENT
    ]


KINDS = [kind for module in (types, envelope, channel, ledger, roster) for kind in kinds_of(module)]
any_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
any_message = st.sampled_from(KINDS).flatmap(lambda kind: messages(kind))

WINNER = {"silo": "north", "handle": b"h" * 16}
HIT = {"handle": b"h" * 16, "tag": b"t" * 8, "dense": 0.5, "lexical": 3.0}


def packed(plain: object) -> bytes:
    data = msgpack.packb(plain, use_bin_type=True)
    assert isinstance(data, bytes)
    return data


def refused(kind: type[Any], data: bytes) -> bool:
    """Whether ``data`` is no ``kind``; any error but IntegrityError passes through."""
    try:
        value = decode(kind, data)
    except IntegrityError:
        return True
    assert isinstance(value, kind)
    return False


# -- there and back -------------------------------------------------------------------------------


@any_kind
@given(data=st.data())
def test_every_message_comes_back_as_it_was(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(messages(kind))
    assert same(decode(kind, encode(value)), value)


@any_kind
@given(data=st.data())
def test_every_message_comes_back_from_json(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(messages(kind))
    assert same(from_json(kind, json.loads(json.dumps(to_json(value)))), value)


@given(any_message)
def test_a_message_has_one_encoding(value: object) -> None:
    assert encode(decode(type(value), encode(value))) == encode(value)


def test_a_vector_travels_as_four_bytes_a_number() -> None:
    assert np.array([1.0, -0.5], dtype="<f4").tobytes() in encode(request(1.0, -0.5))


def test_a_received_vector_cannot_be_changed() -> None:
    assert not decode(SearchRequest, encode(request(1.0))).vector.flags.writeable


def request(*numbers: float) -> SearchRequest:
    vector = np.array(numbers, dtype=np.float32)
    return SearchRequest(vector, (), 10, "passage", 50, "treatment", "local")


def test_equal_maps_give_equal_bytes() -> None:
    one = Plan("open", (), (), {"north": "a", "south": "b"})
    other = Plan("open", (), (), {"south": "b", "north": "a"})
    assert one == other
    assert encode(one) == encode(other)


@dataclasses.dataclass(frozen=True, slots=True)
class Unwritable:
    """A message that nobody may define."""

    words: frozenset[str]


def test_a_field_that_the_codec_does_not_know_is_the_programmers_error() -> None:
    with pytest.raises(TypeError, match="codec does not know frozenset"):
        decode(Unwritable, packed({"words": []}))


# -- hostile bytes --------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.sampled_from(KINDS))
def test_arbitrary_bytes_are_refused(data: bytes, kind: type[Any]) -> None:
    assert refused(kind, data)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(ANYTHING, st.sampled_from(KINDS))
def test_well_formed_data_of_another_shape_is_refused(plain: object, kind: type[Any]) -> None:
    assert refused(kind, packed(plain))


@given(any_message, st.sampled_from(KINDS))
def test_one_message_never_reads_as_another(value: object, kind: type[Any]) -> None:
    own: type[Any] = type(value)
    names = [{f.name for f in dataclasses.fields(item)} for item in (own, kind)]
    assert names[0] == names[1] or refused(kind, encode(value))


@given(any_message, st.data())
def test_a_changed_byte_gives_a_message_or_a_refusal(value: object, data: st.DataObject) -> None:
    changed = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    refused(type(value), bytes(changed))


@given(any_message, st.data())
def test_a_truncated_message_is_refused(value: object, data: st.DataObject) -> None:
    whole = encode(value)
    assert refused(type(value), whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(any_message, st.binary(min_size=1, max_size=8))
def test_bytes_after_a_message_are_refused(value: object, more: bytes) -> None:
    assert refused(type(value), encode(value) + more)


@given(any_message, st.data())
def test_a_missing_field_is_refused(value: object, data: st.DataObject) -> None:
    plain = msgpack.unpackb(encode(value))
    del plain[data.draw(st.sampled_from(sorted(plain)))]
    assert refused(type(value), packed(plain))


@given(any_message, ANYTHING)
def test_an_unknown_field_is_refused(value: object, more: object) -> None:
    assert refused(type(value), packed({**msgpack.unpackb(encode(value)), "sudo": more}))


@given(any_message, st.data(), ANYTHING)
def test_a_field_of_any_other_type_gives_a_message_or_a_refusal(
    value: object, data: st.DataObject, other: object
) -> None:
    plain = msgpack.unpackb(encode(value))
    plain[data.draw(st.sampled_from(sorted(plain)))] = other
    refused(type(value), packed(plain))


WRONG: dict[str, tuple[type[Any], dict[Any, object]]] = {
    "bool for int": (types.LedgerHead, {"silo": "n", "entries": True, "hash": b"", "created": 0}),
    "float for int": (types.LedgerHead, {"silo": "n", "entries": 1.0, "hash": b"", "created": 0}),
    "bool for float": (Hit, {**HIT, "dense": True}),
    "text for float": (Hit, {**HIT, "dense": "0.5"}),
    "NaN": (Hit, {**HIT, "dense": float("nan")}),
    "infinity": (Hit, {**HIT, "lexical": float("inf")}),
    "bytes for text": (Winner, {**WINNER, "silo": b"north"}),
    "none for text": (Winner, {**WINNER, "silo": None}),
    "number for bytes": (Winner, {**WINNER, "handle": 16}),
    "bytes for a field name": (Winner, {b"silo": "north", "handle": b""}),
    "a word outside the vocabulary": (
        types.Missing,
        {"silo": "n", "reason": "bored", "detail": ""},
    ),
    "a list for a word": (types.Missing, {"silo": "n", "reason": ["timeout"], "detail": ""}),
    "a map for a list": (types.ReleaseRequest, {"ticket": {}, "handles": {}}),
    "a list for a map": (Plan, {**dataclasses.asdict(Plan("open", (), (), {})), "reasons": []}),
    "an extension type": (Winner, {**WINNER, "handle": msgpack.ExtType(4, b"h")}),
    "a date": (Winner, {**WINNER, "silo": msgpack.Timestamp(1)}),
}


@pytest.mark.parametrize(("kind", "plain"), WRONG.values(), ids=WRONG.keys())
def test_another_type_is_refused(kind: type[Any], plain: dict[Any, object]) -> None:
    assert refused(kind, packed(plain))


def test_the_messages_of_these_tests_are_right_but_for_the_one_change() -> None:
    assert not refused(Winner, packed(WINNER))
    assert not refused(Hit, packed(HIT))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_vector_with_no_number_is_refused(number: float) -> None:
    with pytest.raises(IntegrityError, match=r"SearchRequest\.vector: a vector with NaN"):
        decode(SearchRequest, encode(request(0.5, number)))


def test_a_vector_of_broken_length_is_refused() -> None:
    plain = msgpack.unpackb(encode(request(1.0)))
    with pytest.raises(IntegrityError, match="7 bytes are no float32 vector"):
        decode(SearchRequest, packed({**plain, "vector": bytes(7)}))


BOMBS = {
    "nothing": b"",
    "deep lists": b"\x91" * 1_000_000,
    "deep maps": b"\x81\xa0" * 500_000,
    "a list that claims four thousand million items": b"\xdd\xff\xff\xff\xff",
    "a map that claims sixteen million items": b"\xdf\x00\xff\xff\xff",
    "bytes that claim four gigabytes": b"\xc6\xff\xff\xff\xff",
    "text that claims four gigabytes": b"\xdb\xff\xff\xff\xff",
    "an extension that claims four gigabytes": b"\xc9\xff\xff\xff\xff\x01",
    "a million empty maps": b"\xdd\x00\x0f\x42\x40" + b"\x80" * 1_000_000,
    "a reserved byte": b"\xc1",
    "text that is no UTF-8": b"\x82\xa4silo\xa2\xff\xfe\xa6handle\xc4\x00",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_refused_quickly(data: bytes) -> None:
    start = time.process_time()
    assert refused(Winner, data)
    assert time.process_time() - start < 1


def test_a_bomb_takes_little_memory() -> None:
    data = b"\xdd" + (500_000).to_bytes(4, "big") + b"\x80" * 500_000
    tracemalloc.start()
    try:
        assert refused(Winner, data)
        assert tracemalloc.get_traced_memory()[1] < 16 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("depth", [1, 160])
def test_a_message_is_held_to_its_items_however_they_nest(depth: int) -> None:
    lists = (b"\xdd" + (99_000).to_bytes(4, "big") + b"\x80" * 98_999) * depth
    tracemalloc.start()
    try:
        assert refused(Answer, lists)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_a_list_of_many_items_is_read() -> None:
    plan = Plan("open", tuple(types.NodeId("n") for _ in range(100_000)), (), {})
    assert not refused(Plan, encode(plan))


def test_a_message_over_the_limit_is_refused() -> None:
    assert refused(
        SignedMessage, encode(SignedMessage(types.NodeId("n"), bytes(MAX_MESSAGE_BYTES), b""))
    )


def test_a_message_under_the_limit_is_read() -> None:
    large = SignedMessage(types.NodeId("n"), bytes(MAX_MESSAGE_BYTES - 100), b"")
    assert not refused(SignedMessage, encode(large))


@given(st.text(min_size=5), st.sampled_from(["handle", "start", "dense"]))
def test_a_refusal_does_not_quote_the_message(text: str, field: str) -> None:
    secret = f"canary {text}"
    plain = {f.name: "" for f in dataclasses.fields(Passage)} | {"text": secret, field: [secret]}
    with pytest.raises(IntegrityError) as caught:
        decode(Passage, packed(plain))
    assert "canary" not in caught.value.message + caught.value.hint


def test_text_for_bytes_is_refused_on_the_wire() -> None:
    assert refused(Winner, packed({**WINNER, "handle": "aGFuZGxl"}))


def test_a_field_given_twice_is_refused() -> None:
    assert refused(Winner, b"\x83\xa4silo\xa1a\xa4silo\xa1b\xa6handle\xc4\x01x")


ANSWER = Answer(
    question="",
    answer="",
    abstained=True,
    sentences=(),
    sources=(),
    plan=Plan("open", (), (), {}),
    missing=(),
    withheld={},
    released={},
    flagged={},
    rounds=(),
    conflicts=(),
    dropped=0,
    notes=(),
    mode="open",
    model="",
    extractive=True,
    timings_ms={},
    receipt={},
)


@pytest.mark.parametrize(
    "item", [msgpack.ExtType(4, b""), msgpack.Timestamp(1), float("nan"), [float("inf")], b"bytes"]
)
def test_a_free_field_holds_plain_data_only(item: object) -> None:
    plain = {**msgpack.unpackb(encode(ANSWER)), "receipt": {"item": item}}
    assert refused(Answer, packed(plain))


def test_a_free_field_that_nests_without_end_is_refused() -> None:
    nested: list[object] = []
    for _ in range(10_000):
        nested = [nested]
    with pytest.raises(IntegrityError, match="nested too deeply"):
        from_json(Answer, {**to_json(ANSWER), "receipt": {"item": nested}})


# -- json -----------------------------------------------------------------------------------------


def test_json_shows_bytes_as_base64() -> None:
    assert to_json(Winner(types.NodeId("n"), types.Handle(b"\x00\xff"))) == {
        "silo": "n",
        "handle": "AP8=",
    }


@pytest.mark.parametrize("text", ["A", "é", "AA=A", "A A="])
def test_json_that_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match=r"Winner\.handle: wanted base64"):
        from_json(Winner, {"silo": "n", "handle": text})


@given(ANYTHING, st.sampled_from(KINDS))
def test_json_of_another_shape_is_refused(plain: object, kind: type[Any]) -> None:
    with pytest.raises(IntegrityError):
        from_json(kind, plain)


def test_a_number_too_large_for_a_float_is_refused() -> None:
    with pytest.raises(IntegrityError):
        from_json(Hit, {"handle": "", "tag": "", "dense": 10**400, "lexical": 0})


@pytest.mark.parametrize("change", [{"organisation": "\ud800"}, {"node": "\udfff"}])
def test_json_that_cannot_be_encoded_is_refused(change: dict[str, str]) -> None:
    card = Member(types.NodeId("n"), "silo", "", b"", b"")
    with pytest.raises(IntegrityError):
        encode(from_json(Member, {**to_json(card), **change}))


def test_json_with_an_integer_of_more_than_64_bits_is_refused() -> None:
    with pytest.raises(IntegrityError):
        encode(
            from_json(types.LedgerHead, {"silo": "", "entries": 2**64, "hash": "", "created": 0})
        )
