"""Bodies that are malformed or tampered with, and odd ones that are rightly sealed and signed.

A refusal with the code ``error`` would mean that a node tripped over what it was sent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import msgpack
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from siloquy.codec import decode, encode
from siloquy.trust import identity as identities
from siloquy.types import (
    MergeReply,
    Missing,
    NodeId,
    Profile,
    QueryId,
    ReleaseReply,
    ReleaseRequest,
    SearchReply,
    SearchRequest,
    SignedMessage,
    Ticket,
    Vector,
)
from siloquy.wire import envelope as envelopes
from siloquy.wire.envelope import Envelope, Header
from tests.end_to_end.canaries import DIMENSION, WordEmbedder
from tests.end_to_end.lines import (
    NAMED,
    REASONS,
    code_of,
    honest_question_meanwhile,
    line_to_hub,
    line_to_silo,
    live,
    refused_or_raised,
)
from tests.end_to_end.malicious_hub import HUB, Honest
from tests.end_to_end.town import ANNEX, NORTH, SILOS, WARD, K, Town
from tests.siloquy.strategies import JSON, messages

# -- bodies ---------------------------------------------------------------------------------------


BODIES = st.one_of(
    st.binary(max_size=200),
    st.builds(msgpack.packb, JSON),
    st.builds(lambda data: msgpack.packb({"envelope": data}), st.binary(max_size=200)),
    st.builds(lambda value: encode(value), messages(Envelope)),
    st.builds(
        lambda outer, header: msgpack.packb({"envelope": encode(replace(outer, header=header))}),
        messages(Envelope),
        st.builds(encode, messages(Header)),
    ),
    st.builds(encode, messages(SignedMessage)),
)


@live
@given(method=st.sampled_from(["gather", "collect"]), body=BODIES)
async def test_the_hub_refuses_a_malformed_body_by_name(
    town: Town, method: str, body: bytes
) -> None:
    async with line_to_hub(town) as line:
        async with honest_question_meanwhile(town):
            assert await code_of(line.call(method, body, 5.0)) in NAMED
        assert await line.call("profiles", body, 5.0)


@live
@given(method=st.sampled_from(["search", "release", "roster"]), body=BODIES)
async def test_a_silo_refuses_a_malformed_body_by_name(
    town: Town, method: str, body: bytes
) -> None:
    before = town.sites[NORTH].disclosed()
    async with line_to_silo(town) as line:
        assert await code_of(refused_or_raised(line.call(method, body, 5.0))) in NAMED
        await line.stands()
    assert town.sites[NORTH].disclosed() == before


@st.composite
def tampering(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Flip, cut, repeat or insert somewhere."""
    place, amount = draw(st.floats(0, 1, exclude_max=True)), draw(st.integers(1, 60))
    how, filling = (
        draw(st.sampled_from("flip cut repeat insert".split())),
        draw(st.binary(max_size=40)),
    )

    def tamper(data: bytes) -> bytes:
        at = int(place * len(data))
        if how == "flip":
            return data[:at] + bytes([data[at] ^ amount]) + data[at + 1 :]
        if how == "cut":
            return data[:at] + data[at + amount :]
        middle = data[at : at + amount] if how == "repeat" else filling or b"\0"
        return data[:at] + middle + data[at:]

    return tamper


@live
@given(tamper=tampering())
async def test_a_tampered_question_is_refused_by_every_silo_and_named(
    town: Town, tamper: Callable[[bytes], bytes]
) -> None:
    before = town.disclosed()

    async def spoil(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        return await honest(tamper(body) if method == "search" else body)

    town.hub.carry = spoil
    answer = await town.ask()
    assert {item.silo for item in answer.missing} == set(SILOS)
    assert {item.reason for item in answer.missing} <= {"integrity", "refused"}
    assert answer.abstained
    assert town.disclosed() == before
    town.hub.behave()
    await town.ask_as_usual()


@live
@given(tamper=tampering(), of=st.sampled_from(["search", "release"]))
async def test_a_tampered_reply_of_a_silo_is_named_and_the_others_still_answer(
    town: Town, tamper: Callable[[bytes], bytes], of: str
) -> None:
    async def spoil(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        reply = await honest(body)
        return tamper(reply) if (silo, method) == (NORTH, of) else reply

    town.hub.carry = spoil
    answer = await town.ask()
    assert [item.silo for item in answer.missing] == [NORTH]
    assert {item.reason for item in answer.missing} <= {"integrity", "refused"}
    assert {source.silo for source in answer.sources} == set(SILOS) - {NORTH}


# -- rightly sealed and signed, but odd -----------------------------------------------------------


ODD_WORDS = st.from_regex(r"\w{1,64}", fullmatch=True)
WILD = arrays.arrays(
    np.float32, DIMENSION, elements=st.floats(allow_nan=False, allow_infinity=False, width=32)
)


@live
@given(
    value=messages(SearchRequest, ODD_WORDS),
    vector=WILD,
    depth=st.integers(K, 200),
    fit=st.sampled_from(["in nothing", "in size", "in length too"]),
)
async def test_an_odd_question_of_a_rostered_gateway_gets_a_reply_or_a_named_refusal(
    town: Town, value: SearchRequest, vector: Vector, depth: int, fit: str
) -> None:
    """The gateway is the attacker: its signature holds, what is inside is wild."""
    if fit != "in nothing":
        terms = tuple(replace(term, weight=min(abs(term.weight), 1e6)) for term in value.terms)
        value = replace(value, vector=vector, depth=depth, k=K, unit="passage", terms=terms)
        value = replace(value, purpose="treatment")
    if fit == "in length too":
        long = vector.astype(np.float64) + 1e-9
        value = replace(value, vector=(long / np.linalg.norm(long)).astype(np.float32))
    envelope = town.seal(town.identities[ANNEX], "search", os.urandom(16), value, *SILOS)
    reply = decode(SignedMessage, await town.hub.tell(NORTH, "search", envelope))
    found = decode(SearchReply, reply.body)
    assert (found.refusal is None) == (fit == "in length too")
    assert found.refusal is None or found.refusal.reason in REASONS


@live
@given(header=messages(Header))
@example(header=Header(1, "search", b"", NORTH, (), "open", b"", 0, "passage", 0, b"", 0, 2**63))
async def test_an_odd_header_of_a_rostered_gateway_is_refused_by_name(
    town: Town, header: Header
) -> None:
    sealed = town.seal(
        town.identities[ANNEX], "search", header.id, Missing(NORTH, "refused"), NORTH
    )
    true = decode(Header, decode(Envelope, sealed).header)
    dated = replace(true, expires=max(header.expires, true.expires))
    for wild in (header, dated, replace(dated, k=header.k, key_hash=header.key_hash)):
        odd = replace(wild, sender=ANNEX)
        call = town.hub.tell(NORTH, "search", resigned(town, odd, sealed))
        assert await code_of(refused_or_raised(call)) in NAMED


def resigned(town: Town, header: Header, sealed: bytes) -> bytes:
    """An envelope under another header, signed again by its sender; its body no longer opens."""
    old, data = decode(Envelope, sealed), encode(header)
    digest = envelopes._digest(data, old.wraps, old.body)
    key = town.identities[header.sender].signing
    return encode(replace(old, header=data, signature=identities.sign(key, "envelope", digest)))


@live
@given(value=messages(ReleaseRequest), ticket=messages(Ticket))
async def test_an_odd_release_request_of_a_rostered_gateway_is_refused_by_name(
    town: Town, value: ReleaseRequest, ticket: Ticket
) -> None:
    before = town.disclosed()
    for paper in (value.ticket, town.identities[HUB].sign("ticket", ticket)):
        request = replace(value, ticket=paper)
        envelope = town.seal(town.identities[ANNEX], "release", ticket.query_id, request, NORTH)
        assert await code_of(town.hub.tell(NORTH, "release", envelope)) in NAMED
    assert town.disclosed() == before


@live
@given(value=messages(SearchReply))
async def test_an_odd_reply_of_a_silo_is_named_by_the_hub_and_the_others_still_answer(
    town: Town, value: SearchReply
) -> None:
    """The silo is the attacker: rightly signed, about this question, but odd."""

    async def odd(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if (silo, method) != (NORTH, "search"):
            return await honest(body)
        query_id = QueryId(envelopes.read_header(body).id)
        reply = replace(value, silo=NORTH, query_id=query_id)
        return encode(town.identities[NORTH].sign("search reply", reply))

    town.hub.carry = odd
    answer = await town.ask()
    assert {item.silo for item in answer.missing} <= {NORTH}
    assert {source.silo for source in answer.sources} == set(SILOS) - {NORTH}


@live
@given(value=messages(ReleaseReply))
async def test_odd_passages_of_a_silo_are_named_and_the_others_still_answer(
    town: Town, value: ReleaseReply
) -> None:
    async def odd(silo: NodeId, method: str, body: bytes, honest: Honest) -> bytes:
        if (silo, method) != (NORTH, "release"):
            return await honest(body)
        query_id = QueryId(envelopes.read_header(body).id)
        reply = replace(value, silo=NORTH, query_id=query_id)
        return town.seal(town.identities[NORTH], "passages", query_id, reply, WARD)

    town.hub.carry = odd
    answer = await town.ask()
    assert [(item.silo, item.reason) for item in answer.missing] in (
        [(NORTH, "integrity")],
        [(NORTH, "refused")],
    )
    assert {source.silo for source in answer.sources} == set(SILOS) - {NORTH}


@live
@given(value=messages(MergeReply))
async def test_an_odd_merge_of_the_hub_is_refused_by_name_or_leaves_all_silos_missing(
    town: Town, value: MergeReply
) -> None:
    before = town.disclosed()
    town.hub.bend = lambda merged: replace(value, query_id=merged.query_id)
    assert await code_of(asked_in_vain(town)) in {*NAMED, ""}
    assert town.disclosed() == before


async def asked_in_vain(town: Town) -> None:
    """A question that no silo can answer, each named."""
    answer = await town.ask()
    assert {item.silo for item in answer.missing} == set(SILOS)
    assert answer.abstained


@live
@given(value=messages(Profile))
async def test_an_odd_profile_of_a_silo_is_named_and_the_others_stay(
    town: Town, value: Profile
) -> None:
    own = replace(value, silo=NORTH, encoder=WordEmbedder.spec, expires=town.clock() + 9999)
    sealed = town.seal(town.identities[NORTH], "profile", bytes(16), own, WARD)
    town.hub.profiles_as(
        lambda honest: sealed if envelopes.read_header(honest).sender == NORTH else honest
    )
    await town.gateway.refresh()
    status = town.gateway.status()
    refused = [item.silo for item in status.refused_profiles]
    # The good one that was there before serves on.
    assert set(status.profiled) == set(SILOS)
    assert refused in ([], [NORTH])
    await town.ask()
