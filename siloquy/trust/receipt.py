"""A signed receipt for every answer: what was asked, shown and missing, without its text.

Question, answer and passages stand in it as salted commitments. The salt is beside the signed
body: who holds receipt, salt and texts can prove them; without the salt nothing can be guessed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from siloquy.codec import decode, from_json, to_json
from siloquy.errors import IntegrityError, SiloquyError, UsageError
from siloquy.text.words import clean
from siloquy.trust import roster as rosters
from siloquy.trust.identity import Identity, sign, verify
from siloquy.trust.ledger import HEAD_CONTEXT
from siloquy.trust.roster import SignedRoster
from siloquy.types import Answer, LedgerHead, Missing, NodeId, Sentence, SignedMessage

CONTEXT = "receipt"
VERSION = 4
_SIGNED = (
    *("abstained", "missing", "released", "withheld", "flagged", "dropped", "notes"),
    *("mode", "model", "extractive"),
)
_COMMITTED = ("n", "silo", "document", "title", "section", "dated", "start", "end", "text")


@dataclass(frozen=True, slots=True)
class SourceCommitment:
    """One source of an answer, committed: its place in the document and its text."""

    n: int
    silo: NodeId
    commitment: str


@dataclass(frozen=True, slots=True)
class Body:
    """What the gateway signs; commitments are hex SHA-256 over salt, label and text.

    intent, coverage   what the silos were chosen for, and the share of the best passages that was
                       promised; None for no promise
    """

    version: int
    query_ids: tuple[str, ...]
    created: int
    gateway: NodeId
    federation: str
    roster_version: int
    roster_head: str
    question: str
    answer: str
    abstained: bool
    sources: tuple[SourceCommitment, ...]
    asked: tuple[NodeId, ...]
    missing: tuple[Missing, ...]
    released: dict[str, int]
    withheld: dict[str, int]
    flagged: dict[str, str]
    conflicts: str
    dropped: int
    notes: tuple[str, ...]
    mode: str
    intent: str
    coverage: float | None
    model: str
    extractive: bool
    encoder: str
    ledger_heads: tuple[SignedMessage, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a receipt's reader can be sure of, or not; ``holds`` None = not checkable."""

    name: str
    holds: bool | None
    detail: str


def commit(salt: bytes, label: str, text: str) -> str:
    """Hex commitment to ``text``."""
    parts = (salt, label.encode(), text.encode())
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def make(
    identity: Identity,
    roster: SignedRoster,
    answer: Answer,
    heads: Sequence[SignedMessage],
    now: int,
) -> dict[str, object]:
    """The receipt of ``answer`` as JSON data: signed body, salt, roster."""
    salt = os.urandom(16)
    body = Body(
        version=VERSION,
        query_ids=tuple(item.query_id for item in answer.rounds),
        created=now,
        gateway=identity.node,
        federation=roster.fingerprint,
        roster_version=roster.roster.version,
        roster_head=roster.head.hex(),
        question=commit(salt, "question", answer.question),
        answer=commit(salt, "answer", answer.answer),
        abstained=answer.abstained,
        sources=tuple(
            SourceCommitment(item.n, item.silo, commit(salt, "source", _told(to_json(item))))
            for item in answer.sources
        ),
        asked=answer.plan.asked,
        missing=answer.missing,
        released=answer.released,
        withheld=answer.withheld,
        flagged=answer.flagged,
        conflicts=commit(salt, "conflicts", _plainly(to_json(answer.conflicts))),
        dropped=answer.dropped,
        notes=answer.notes,
        mode=answer.mode,
        intent=answer.plan.intent,
        coverage=answer.plan.coverage,
        model=answer.model,
        extractive=answer.extractive,
        encoder=roster.roster.encoder.sha256,
        ledger_heads=tuple(heads),
    )
    plain = to_json(body)
    return {
        "body": plain,
        "signature": _text(sign(identity.signing, CONTEXT, canonical(plain))),
        "salt": _text(salt),
        "roster": _text(rosters.to_bytes(roster)),
    }


def canonical(plain: object) -> bytes:
    """The bytes that are signed: sorted keys, no spaces."""
    return _plainly(plain).encode()


def _plainly(plain: object) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def check(
    data: dict[str, object], federation: str | None = None, question: str | None = None
) -> list[Check]:
    """Everything that holds and does not hold of a receipt, or of a whole answer with one.

    federation   the fingerprint to expect; without it the reader must compare the shown one
    """
    receipt = data.get("receipt", data)
    if not isinstance(receipt, dict) or not {"body", "signature", "roster"} <= receipt.keys():
        raise UsageError(
            "this file is no receipt", "give the output of `ask --json` or its receipt"
        )
    try:
        body = _body(receipt["body"])
        roster = rosters.from_bytes(_bytes(receipt["roster"]))
        signature, salt = _bytes(receipt["signature"]), _bytes(receipt.get("salt", ""))
    except (TypeError, ValueError):
        raise IntegrityError("the receipt is damaged") from None
    checks = [
        _holds("roster", lambda: rosters.check_genesis(roster), f"version {body.roster_version}"),
        _federation(roster, federation),
        _holds("gateway's signature", lambda: _check_signature(receipt, body, roster, signature)),
        _holds("ledger heads", lambda: _check_heads(body, roster), f"{len(body.ledger_heads)}"),
    ]
    if "receipt" in data:
        checks.append(Check("plan and counts", _same_plan(data, body), "what the file says"))
    if question is not None or "receipt" in data:
        checks += _check_texts(data, body, salt, question) if salt else [_NO_SALT]
    return checks


def _body(plain: object) -> Body:
    version = plain.get("version") if isinstance(plain, dict) else None
    if isinstance(version, int) and version < VERSION:
        raise IntegrityError(
            f"a receipt of version {version}, this program reads version {VERSION}",
            "verify it with the release of Siloquy that made it",
        )
    return from_json(Body, plain)


_NO_SALT = Check("texts", False, "the receipt has no salt, so its texts cannot be compared")


def heads(data: dict[str, object]) -> list[LedgerHead]:
    """The ledger heads in a receipt, for a silo to compare with its own ledger."""
    receipt = data.get("receipt", data)
    if not isinstance(receipt, dict) or "body" not in receipt:
        raise UsageError("this file is no receipt")
    return [decode(LedgerHead, s.body) for s in _body(receipt["body"]).ledger_heads]


def _check_signature(
    receipt: dict[str, object], body: Body, roster: SignedRoster, signature: bytes
) -> None:
    if (body.roster_head, body.federation) != (roster.head.hex(), roster.fingerprint):
        raise IntegrityError("the receipt was made under another roster")
    key = roster.member(body.gateway, "gateway").signing_key
    verify(key, CONTEXT, canonical(receipt["body"]), signature)


def _check_heads(body: Body, roster: SignedRoster) -> None:
    for signed in body.ledger_heads:
        head = decode(LedgerHead, rosters.open_signed(roster, signed, HEAD_CONTEXT, "silo"))
        if head.silo != signed.signer:
            raise IntegrityError(f"a ledger head of {head.silo} is signed by {signed.signer}")
    named = {signed.signer for signed in body.ledger_heads}
    lacking = [silo for silo, count in body.released.items() if count and silo not in named]
    if lacking:
        raise IntegrityError(f"no ledger head of {', '.join(lacking)}")


def _federation(roster: SignedRoster, expected: str | None) -> Check:
    if expected is None:
        return Check("federation", None, f"{roster.fingerprint}: compare it with a founder's")
    return Check("federation", roster.fingerprint == expected, roster.fingerprint)


def _same_plan(data: dict[str, object], body: Body) -> bool:
    """Whether what the file shows around the answer is what was signed."""
    plan = data.get("plan")
    if not isinstance(plan, dict):
        return False
    rounds = data.get("rounds")
    if not isinstance(rounds, list) or not all(isinstance(item, dict) for item in rounds):
        return False
    shown = {name: data.get(name) for name in _SIGNED}
    shown |= {name: plan.get(name) for name in ("asked", "intent", "coverage")}
    shown["query_ids"] = [item.get("query_id") for item in rounds]
    signed = to_json(body)
    return all(value == signed[name] for name, value in shown.items())


def _check_texts(
    data: dict[str, object], body: Body, salt: bytes, question: str | None
) -> list[Check]:
    checks = []
    if question is not None:
        asked = " ".join(clean(question).split())
        held = commit(salt, "question", asked) == body.question
        checks.append(Check("question", held, "the text given"))
    if "receipt" in data:
        held = commit(salt, "question", str(data.get("question"))) == body.question
        checks.append(Check("question in the file", held, "as it was understood"))
        held = commit(salt, "conflicts", _plainly(data.get("conflicts"))) == body.conflicts
        checks.append(Check("conflicts", held, "what differs between the sources"))
        held = commit(salt, "answer", str(data.get("answer"))) == body.answer
        checks.append(Check("answer", held and _same_sentences(data), "the text in the file"))
        checks.append(_check_sources(data.get("sources"), body, salt))
    return checks


def _same_sentences(data: dict[str, object]) -> bool:
    """Whether the sentences, as they are shown one by one, make up the answer."""
    sentences = data.get("sentences")
    if data.get("abstained"):
        return sentences == []
    try:
        found = tuple(from_json(Sentence, item) for item in sentences)  # type: ignore[attr-defined]
    except (SiloquyError, TypeError):
        return False
    return written(found) == data.get("answer")


def _check_sources(sources: object, body: Body, salt: bytes) -> Check:
    if not isinstance(sources, list) or not all(isinstance(item, dict) for item in sources):
        return Check("sources", False, "the file's sources are damaged")
    shown = [(s.get("n"), s.get("silo"), commit(salt, "source", _told(s))) for s in sources]
    signed = [(s.n, s.silo, s.commitment) for s in body.sources]
    return Check("sources", shown == signed, f"{len(sources)} passages in the file")


def _told(source: dict[str, object]) -> str:
    """What is committed of a source: where it stands and what it says."""
    return json.dumps([source.get(name) for name in _COMMITTED], ensure_ascii=False)


def written(sentences: Sequence[Sentence]) -> str:
    """An answer's text: its sentences, each with its citation marks."""
    return " ".join(f"{s.text} {''.join(f'[{n}]' for n in s.citations)}" for s in sentences)


def _holds(name: str, attempt: Callable[[], None], detail: str = "") -> Check:
    try:
        attempt()
    except SiloquyError as error:
        return Check(name, False, error.message)
    return Check(name, True, detail)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: object) -> bytes:
    return base64.b64decode(str(text), validate=True)
