"""What a silo holds and what of its budgets is spent, as its own people see it. No text."""

from __future__ import annotations

from dataclasses import dataclass

from siloquy.settings import ReleasePolicy
from siloquy.silo_node import guards, pause
from siloquy.silo_node.pause import Pause
from siloquy.silo_node.reading.document import RejectedInput
from siloquy.silo_node.release import day_of
from siloquy.silo_node.store import Store
from siloquy.types import DocumentId, NodeId


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What an approved gateway has had today, of how much."""

    gateway: str
    spent_today: int
    limit: int


@dataclass(frozen=True, slots=True)
class Overview:
    """A silo's store at one moment.

    withdrawn       documents without consent, which are never searched
    budget          in passages
    sealed_budget   in sealed questions
    """

    paused: Pause | None
    documents: int
    passages: int
    withdrawn: int
    quarantined: tuple[RejectedInput, ...]
    budget: tuple[BudgetUse, ...]
    sealed_budget: tuple[BudgetUse, ...]


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """One document; ``collection`` is empty where it is in none."""

    id: DocumentId
    title: str
    passages: int
    collection: str
    consent: bool


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """A page of documents by id, how many there are, and after which the next page begins."""

    documents: tuple[ListedDocument, ...]
    total: int
    next: DocumentId | None


def overview(store: Store, policy: ReleasePolicy, now: int) -> Overview:
    """How it stands with ``store`` under ``policy``."""
    counts, day = store.counts(), day_of(now)
    connection, gateways = store.connection, [NodeId(name) for name in policy.gateways]
    return Overview(
        paused=pause.current(connection),
        documents=counts.documents,
        passages=counts.passages,
        withdrawn=counts.withdrawn,
        quarantined=tuple(store.quarantined()),
        budget=tuple(
            BudgetUse(name, guards.spent(connection, name, day), policy.passages_per_day)
            for name in gateways
        ),
        sealed_budget=tuple(
            BudgetUse(name, guards.sealed_asked(connection, name, day), policy.sealed_per_day)
            for name in gateways
        ),
    )


_MATCHING = """
FROM documents WHERE ?1 = '' OR instr(folded(id), ?1) OR instr(folded(title), ?1)
"""
_PAGE = f"""
SELECT id, title, (SELECT count(*) FROM passages WHERE document = found.id),
    coalesce(json_extract(metadata, '$.collection'), ''), consent
FROM (SELECT id, title, metadata, consent {_MATCHING}) AS found
WHERE id > ?2 ORDER BY id LIMIT ?3
"""  # noqa: S608


def shelf(store: Store, query: str, after: str, limit: int) -> DocumentPage:
    """Documents whose id or title holds ``query``, whatever its case, with ids after ``after``."""
    connection, wanted = store.connection, query.casefold()
    connection.create_function("folded", 1, str.casefold, deterministic=True)
    (total,) = connection.execute(f"SELECT count(*) {_MATCHING}", (wanted,)).fetchone()
    rows = connection.execute(_PAGE, (wanted, after, limit + 1)).fetchall()
    found = tuple(
        ListedDocument(DocumentId(name), title, passages, str(collection), bool(consent))
        for name, title, passages, collection, consent in rows[:limit]
    )
    return DocumentPage(found, total, found[-1].id if len(rows) > limit else None)
