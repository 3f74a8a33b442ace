"""Receipts: they hold as made, and name what does not hold after any change."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.codec import to_json
from siloquy.errors import IntegrityError, UsageError
from siloquy.trust import receipt as receipts
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity, sign
from siloquy.trust.ledger import HEAD_CONTEXT
from siloquy.trust.receipt import CONTEXT, canonical, check, commit, heads
from siloquy.types import (
    LedgerHead,
    NodeId,
    SignedMessage,
)
from tests.siloquy.answered import NORTH, QUESTION, TEXT, answered
from tests.siloquy.federation import NOW, Federation, new_federation, signed

WARD = NodeId("ward")
Json = dict[str, Any]


def head(signer: Identity, **other: Any) -> SignedMessage:
    value = LedgerHead(signer.node, 3, b"h" * 32, NOW)
    return signer.sign(HEAD_CONTEXT, replace(value, **other))


def made(
    federation: Federation, given_heads: Sequence[SignedMessage] | None = None, **other: Any
) -> Json:
    """A receipt as ``ask --json`` writes it."""
    told = [head(federation.north)] if given_heads is None else given_heads
    receipt = receipts.make(federation.ward, federation.roster, answered(**other), told, NOW)
    return dict(json.loads(json.dumps(to_json(receipt))))


@pytest.fixture
def answer(federation: Federation) -> Json:
    """An answer with its receipt, as a file holds it."""
    plain: Json = json.loads(json.dumps(to_json(answered())))
    return plain | {"receipt": made(federation)}


def failing(data: Json, federation: str | None = None, question: str | None = QUESTION) -> set[str]:
    return {item.name for item in check(data, federation, question) if item.holds is False}


def resigned(federation: Federation, receipt: Json, signer: Identity | None = None) -> Json:
    """The receipt signed again after a change, by the gateway unless told."""
    key = (signer or federation.ward).signing
    signature = sign(key, CONTEXT, canonical(receipt["body"]))
    return receipt | {"signature": base64.b64encode(signature).decode()}


# -- as made --------------------------------------------------------------------------------------


def test_an_answer_and_its_receipt_hold(federation: Federation, answer: Json) -> None:
    checks = check(answer, federation.roster.fingerprint, QUESTION)
    assert [(item.name, item.holds) for item in checks] == [
        ("roster", True),
        ("federation", True),
        ("gateway's signature", True),
        ("ledger heads", True),
        ("plan and counts", True),
        ("question", True),
        ("question in the file", True),
        ("conflicts", True),
        ("answer", True),
        ("sources", True),
    ]


def test_suggestions_are_no_statement_and_no_receipt_covers_them(answer: Json) -> None:
    assert failing(answer | {"suggestions": ["When is ceftriaxone stopped?"]}) == set()


def test_a_receipt_alone_holds(federation: Federation, answer: Json) -> None:
    checks = check(answer["receipt"], federation.roster.fingerprint)
    assert [item.name for item in checks] == [
        "roster",
        "federation",
        "gateway's signature",
        "ledger heads",
    ]
    assert all(item.holds for item in checks)


def test_without_a_fingerprint_the_reader_is_asked_to_compare(
    federation: Federation, answer: Json
) -> None:
    (found,) = [item for item in check(answer) if item.name == "federation"]
    assert found.holds is None
    assert federation.roster.fingerprint in found.detail


def test_an_abstention_has_a_receipt_too(federation: Federation, answer: Json) -> None:
    told = {"answer": "Not found.", "abstained": True, "sources": []}
    receipt = made(federation, None, **told)
    assert failing(answer | told | {"sentences": [], "receipt": receipt}) == set()
    assert failing(answer | told | {"receipt": receipt}) == {"answer"}


def test_a_receipt_holds_no_text(federation: Federation) -> None:
    receipt = made(federation)
    plain = json.dumps(receipt) + base64.b64decode(receipt["roster"]).decode(errors="replace")
    assert "ceftriaxone" not in plain


def test_two_receipts_of_one_question_cannot_be_linked(federation: Federation) -> None:
    first, second = made(federation), made(federation)
    assert first["salt"] != second["salt"]
    assert first["body"]["question"] != second["body"]["question"]


def test_the_heads_in_a_receipt_are_those_of_the_silos(
    federation: Federation, answer: Json
) -> None:
    expected = [LedgerHead(NORTH, 3, b"h" * 32, NOW)]
    assert heads(answer) == heads(answer["receipt"]) == expected


# -- changed --------------------------------------------------------------------------------------

# One change of every field of the signed body.
CHANGES: dict[str, Any] = {
    "version": 5,
    "query_ids": ["00" * 16],
    "created": NOW + 1,
    "gateway": "north",
    "federation": "AAAA-AAAA-AAAA-AAAA-AAAA",
    "roster_version": 2,
    "roster_head": "00" * 32,
    "question": "00" * 32,
    "answer": "00" * 32,
    "abstained": True,
    "sources": [],
    "asked": ["north"],
    "missing": [],
    "released": {"north": 0},
    "withheld": {},
    "flagged": {"north": "x"},
    "conflicts": "00" * 32,
    "dropped": 0,
    "notes": [],
    "mode": "sealed",
    "intent": "fast",
    "coverage": 0.95,
    "model": "a larger one",
    "extractive": True,
    "encoder": "00" * 32,
    "ledger_heads": [],
}


@pytest.mark.parametrize("field", CHANGES)
def test_any_changed_field_breaks_the_signature(answer: Json, field: str) -> None:
    body = answer["receipt"]["body"]
    assert body[field] != CHANGES[field]
    body[field] = CHANGES[field]
    assert "gateway's signature" in failing(answer)


def test_every_field_is_covered(answer: Json) -> None:
    assert set(CHANGES) == set(answer["receipt"]["body"])


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every text, number and truth value in JSON data."""
    if isinstance(value, dict):
        return [leaf for key in value for leaf in leaves(value[key], (*path, key))]
    if isinstance(value, list):
        return [leaf for i, item in enumerate(value) for leaf in leaves(item, (*path, i))]
    return [path]


FEDERATION = new_federation()


@given(st.sampled_from(leaves(made(FEDERATION)["body"])), st.data())
def test_any_changed_value_is_noticed(path: tuple[Any, ...], data: st.DataObject) -> None:
    receipt = made(FEDERATION)
    place: Any = receipt["body"]
    for key in path[:-1]:
        place = place[key]
    old = place[path[-1]]
    others: Any = {
        str: st.text(max_size=9),
        bool: st.booleans(),
        int: st.integers(0, 2**40),
        type(None): st.floats(0, 1),
    }
    place[path[-1]] = data.draw(others[type(old)].filter(lambda new: new != old))
    try:
        assert "gateway's signature" in failing(receipt)
    except IntegrityError:
        return


def test_a_receipt_of_an_older_version_is_sent_to_its_own_release(answer: Json) -> None:
    answer["receipt"]["body"] = {"version": 2}
    with pytest.raises(IntegrityError, match="receipt of version 2") as refused:
        check(answer)
    assert "release" in refused.value.hint


@pytest.mark.parametrize("signer", ["north", "hub"])
def test_a_signature_of_another_node_is_no_gateways(
    federation: Federation, answer: Json, signer: str
) -> None:
    identity: Identity = getattr(federation, signer)
    answer["receipt"] = resigned(federation, answer["receipt"], identity)
    assert failing(answer) == {"gateway's signature"}


def test_a_silo_that_calls_itself_the_gateway_is_none(federation: Federation, answer: Json) -> None:
    answer["receipt"]["body"]["gateway"] = "north"
    answer["receipt"] = resigned(federation, answer["receipt"], federation.north)
    assert failing(answer) == {"gateway's signature"}


def test_the_signature_of_another_receipt_does_not_fit(
    federation: Federation, answer: Json
) -> None:
    answer["receipt"]["signature"] = made(federation)["signature"]
    assert failing(answer) == {"gateway's signature"}


def test_a_signature_of_something_else_does_not_fit(federation: Federation, answer: Json) -> None:
    body = canonical(answer["receipt"]["body"])
    signature = sign(federation.ward.signing, "other", body)
    answer["receipt"]["signature"] = base64.b64encode(signature).decode()
    assert failing(answer) == {"gateway's signature"}


def test_another_roster_is_named(federation: Federation, answer: Json) -> None:
    other = new_federation()
    answer["receipt"]["roster"] = made(other)["roster"]
    expected = {"federation", "gateway's signature", "ledger heads"}
    assert failing(answer, federation.roster.fingerprint) == expected


def test_a_whole_receipt_of_another_federation_is_named(
    federation: Federation, answer: Json
) -> None:
    answer["receipt"] = made(new_federation())
    assert failing(answer, federation.roster.fingerprint) == {"federation"}
    assert failing(answer) == set()


def test_another_version_of_the_roster_is_named(federation: Federation, answer: Json) -> None:
    following = rosters.succeed(federation.roster, federation.members, NOW + 1)
    newer = rosters.to_bytes(signed(following, (federation.north, federation.ward)))
    answer["receipt"]["roster"] = base64.b64encode(newer).decode()
    assert failing(answer, federation.roster.fingerprint) == {"gateway's signature"}


def test_a_roster_without_the_founders_signatures_is_named(
    federation: Federation, answer: Json
) -> None:
    bare = rosters.to_bytes(replace(federation.roster, signatures={}))
    answer["receipt"]["roster"] = base64.b64encode(bare).decode()
    assert failing(answer) == {"roster"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda a: a.update(answer=a["answer"] + " Twice."), "answer"),
        (lambda a: a["sources"][0].update(text=TEXT.replace("2", "4")), "sources"),
        (lambda a: a["sources"][0].update(n=2), "sources"),
        (lambda a: a["sources"][0].update(silo="south"), "sources"),
        (lambda a: a["sources"].append(dict(a["sources"][0], n=2)), "sources"),
        (lambda a: a["sources"].clear(), "sources"),
        (lambda a: a.update(question="Which dose?"), "question in the file"),
        (lambda a: a["conflicts"].clear(), "conflicts"),
        (lambda a: a["conflicts"][0].update(detail="4 g in [1]"), "conflicts"),
        (lambda a: a.update(dropped=0), "plan and counts"),
        (lambda a: a.update(notes=[]), "plan and counts"),
        (lambda a: a.update(extractive=True), "plan and counts"),
        (lambda a: a["rounds"].clear(), "plan and counts"),
        (lambda a: a["rounds"][0].update(query_id="00" * 16), "plan and counts"),
        (lambda a: a.update(rounds=None), "plan and counts"),
    ],
)
def test_a_changed_text_is_named(answer: Json, change: Callable[[Json], None], name: str) -> None:
    change(answer)
    assert failing(answer) == {name}


def test_another_question_is_named(answer: Json) -> None:
    assert failing(answer, question="Which dose of cefotaxime?") == {"question"}


def test_another_salt_proves_nothing(answer: Json) -> None:
    answer["receipt"]["salt"] = base64.b64encode(bytes(16)).decode()
    texts = {"question", "question in the file", "conflicts", "answer", "sources"}
    assert failing(answer) == texts


# -- ledger heads ---------------------------------------------------------------------------------


def test_passages_without_a_ledger_head_are_named(federation: Federation) -> None:
    assert failing(made(federation, given_heads=[])) == {"ledger heads"}
    assert failing(made(federation, given_heads=[], released={"north": 0})) == set()


def test_heads_of_other_silos_do_not_stand_in(federation: Federation) -> None:
    assert failing(made(federation, given_heads=[head(federation.south)])) == {"ledger heads"}


def test_a_head_that_another_silo_signed_is_named(federation: Federation) -> None:
    foreign = head(federation.south, silo=NORTH)
    heads = [head(federation.north), foreign]
    assert failing(made(federation, given_heads=heads)) == {"ledger heads"}


def test_a_head_that_no_silo_signed_is_named(federation: Federation) -> None:
    assert failing(made(federation, given_heads=[head(federation.hub)])) == {"ledger heads"}


# -- no receipt -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{}, {"receipt": 7}, {"receipt": {}}, {"body": {}, "salt": ""}])
def test_a_file_without_a_receipt_is_a_usage_error(data: Json) -> None:
    with pytest.raises(UsageError, match="no receipt"):
        check(data)


@pytest.mark.parametrize("data", [{}, {"receipt": 7}, {"receipt": {}}])
def test_heads_of_no_receipt_are_a_usage_error(data: Json) -> None:
    with pytest.raises(UsageError, match="no receipt"):
        heads(data)


DAMAGES: dict[str, Callable[[Json], object]] = {
    "a field too few": lambda r: r["body"].pop("model"),
    "a field too many": lambda r: r["body"].update(extra=1),
    "a field of another kind": lambda r: r["body"].update(created="now"),
    "no body": lambda r: r.update(body=None),
    "a roster that is none": lambda r: r.update(roster="AAAA"),
    "a roster that is no base64": lambda r: r.update(roster="%"),
    "a signature that is no base64": lambda r: r.update(signature="%"),
    "a salt that is no base64": lambda r: r.update(salt="%"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_receipt_is_an_integrity_error(
    answer: Json, damage: Callable[[Json], object]
) -> None:
    damage(answer["receipt"])
    with pytest.raises(IntegrityError):
        check(answer)


@pytest.mark.parametrize("signature", ["", "AAAA", None])
def test_a_signature_of_another_length_does_not_fit(answer: Json, signature: str | None) -> None:
    answer["receipt"]["signature"] = signature
    assert failing(answer) == {"gateway's signature"}


@pytest.mark.parametrize("sources", [[{}], [7], [{"n": 1, "silo": "north"}]])
def test_damaged_sources_are_named(answer: Json, sources: list[Any]) -> None:
    answer["sources"] = sources
    assert failing(answer) == {"sources"}


# -- what a reader sees beside the receipt --------------------------------------------------------


def test_without_its_salt_a_changed_answer_is_not_said_to_hold(answer: Json) -> None:
    del answer["receipt"]["salt"]
    answer["answer"] = "Give 4 g."
    checks = check(answer, question=QUESTION)
    assert [item.name for item in checks if item.holds is not True and item.name != "federation"]


SHOWN: dict[str, Callable[[Json], object]] = {
    "a sentence": lambda a: a["sentences"][0].update(text="Give ceftriaxone 4 g."),
    "a citation": lambda a: a["sentences"][0].update(citations=[2]),
    "no sentences": lambda a: a.pop("sentences"),
    "sentences that are none": lambda a: a.update(sentences=[7]),
    "a missing silo": lambda a: a.update(missing=[]),
    "the abstention": lambda a: a.update(abstained=True),
    "who was asked": lambda a: a["plan"].update(asked=["north"]),
    "the promise": lambda a: a["plan"].update(coverage=0.99),
    "the intent": lambda a: a["plan"].update(intent="fast"),
    "no plan": lambda a: a.pop("plan"),
    "what was released": lambda a: a.update(released={}),
    "what was withheld": lambda a: a.update(withheld={}),
    "the mode": lambda a: a.update(mode="sealed"),
    "the model": lambda a: a.update(model="a larger one"),
    "a document's name": lambda a: a["sources"][0].update(document="another.md"),
    "a title": lambda a: a["sources"][0].update(title="Children"),
    "a section": lambda a: a["sources"][0].update(section="Children"),
    "a date": lambda a: a["sources"][0].update(dated="2024"),
    "an offset": lambda a: a["sources"][0].update(start=5),
    "no answer": lambda a: a.pop("answer"),
    "no sources": lambda a: a.pop("sources"),
}


@pytest.mark.parametrize("change", SHOWN.values(), ids=SHOWN)
def test_a_change_of_anything_that_is_shown_is_noticed(
    answer: Json, change: Callable[[Json], object]
) -> None:
    change(answer)
    assert failing(answer)


def test_a_flag_that_was_taken_away_is_noticed(federation: Federation, answer: Json) -> None:
    flags = {"flagged": {"north": "claimed too much"}}
    assert failing(answer | flags) != failing(answer | {"flagged": {}})


# -- commitments ----------------------------------------------------------------------------------


@given(st.binary(max_size=8), st.text(st.characters(codec="utf-8"), max_size=8))
def test_a_commitment_binds_salt_label_and_text(salt: bytes, text: str) -> None:
    one = commit(salt, "answer", text)
    assert len(one) == 64
    assert one == commit(salt, "answer", text)
    assert len({one, commit(salt, "question", text), commit(salt, "answer", text + "x")}) == 3
    assert one != commit(salt + b"x", "answer", text)


def test_parts_of_a_commitment_cannot_flow_into_each_other() -> None:
    assert commit(b"s", "ab", "c") != commit(b"s", "a", "bc")
