"""Receipts that the page checks: what `siloquy verify` says of them, whatever is sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siloquy.codec import to_json
from siloquy.errors import SiloquyError
from siloquy.gateway.api import keeping_service
from siloquy.trust import receipt as receipts
from siloquy.trust.ledger import HEAD_CONTEXT
from siloquy.types import LedgerHead
from tests.gateway import served
from tests.gateway.served import SECRET, client
from tests.siloquy.answered import answered
from tests.siloquy.federation import NOW, Federation

PATH = "/v1/receipts/check"


@pytest.fixture
def answer(federation: Federation) -> dict[str, Any]:
    """An answer with its receipt, as a file holds it."""
    heads = [federation.north.sign(HEAD_CONTEXT, LedgerHead(federation.north.node, 3, b"h", NOW))]
    made = receipts.make(federation.ward, federation.roster, answered(), heads, NOW)
    plain: dict[str, Any] = json.loads(json.dumps(to_json(answered())))
    return plain | {"receipt": json.loads(json.dumps(to_json(made)))}


@pytest.fixture
async def http(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway of that federation."""
    status = replace(served.STATUS, federation=federation.roster.fingerprint)
    monkeypatch.setattr(served, "STATUS", status)
    async with client(served.Federation()) as made:
        yield made


async def test_an_answer_of_this_federation_holds(
    http: httpx.AsyncClient, answer: dict[str, Any]
) -> None:
    for body in (answer, answer["receipt"]):
        told = (await http.post(PATH, json=body)).json()
        assert told["holds"] is True
        assert {item["name"] for item in told["checks"]} >= {"federation", "gateway's signature"}
        assert all(item["holds"] for item in told["checks"])


async def test_a_changed_answer_does_not_hold_and_its_text_is_not_repeated(
    http: httpx.AsyncClient, answer: dict[str, Any]
) -> None:
    reply = await http.post(PATH, json={**answer, "answer": SECRET})
    told = reply.json()
    assert told["holds"] is False
    assert [item["name"] for item in told["checks"] if not item["holds"]] == ["answer"]
    assert SECRET not in reply.text


async def test_a_receipt_of_another_federation_does_not_hold(answer: dict[str, Any]) -> None:
    async with client(served.Federation()) as other:
        told = (await other.post(PATH, json=answer)).json()
    assert [item["name"] for item in told["checks"] if not item["holds"]] == ["federation"]


async def test_a_damaged_receipt_is_one_that_does_not_hold(
    http: httpx.AsyncClient, answer: dict[str, Any]
) -> None:
    told = (await http.post(PATH, json={**answer["receipt"], "roster": "?"})).json()
    assert told["holds"] is False
    assert [item["name"] for item in told["checks"]] == ["receipt"]


async def test_what_is_no_receipt_is_refused(http: httpx.AsyncClient) -> None:
    for body in ({}, {"question": SECRET}, [1], "x", None):
        reply = await http.post(PATH, json=body)
        assert (reply.status_code, SECRET in reply.text) == (400, False)
    nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    headers = {"Content-Type": "application/json"}
    assert (await http.post(PATH, content=nested, headers=headers)).status_code == 400


async def test_a_receipt_may_be_as_long_as_an_answer(http: httpx.AsyncClient) -> None:
    for size, status in ((1_000_000, 400), (1_100_000, 413)):
        assert (await http.post(PATH, json={"x": "y" * size})).status_code == status


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=5,
)


def places(data: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something stands in JSON data."""
    inner = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for name, value in inner:
        yield (*path, name)
        yield from places(value, (*path, name))


def replaced(data: Any, path: tuple[str | int, ...], value: object) -> Any:
    """The data with another value at one place."""
    copy = json.loads(json.dumps(data))
    at = copy
    for name in path[:-1]:
        at = at[name]
    at[path[-1]] = value
    return copy


@settings(max_examples=200)
@given(data=st.data(), value=_JSON)
def test_nothing_in_the_place_of_a_part_makes_the_check_fail(
    federation: Federation, data: st.DataObject, value: object
) -> None:
    made = receipts.make(federation.ward, federation.roster, answered(), [], NOW)
    plain = json.loads(json.dumps(to_json(answered()))) | {
        "receipt": json.loads(json.dumps(to_json(made)))
    }
    path = data.draw(st.sampled_from(list(places(plain))))
    try:
        found = keeping_service._checked(
            replaced(plain, path, value), federation.roster.fingerprint
        )
    except SiloquyError:
        return
    assert found
