"""The ledger in pages: what stands in it and nothing else, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from siloquy.database import transaction
from siloquy.silo_node.console import audit_log
from siloquy.silo_node.console.audit_log import (
    AuditLogFilter,
    AuditLogPage,
    Disclosure,
    Left,
    page,
    verified,
)
from siloquy.silo_node.store import Store
from siloquy.trust.ledger import LedgerEntry, append
from siloquy.types import NodeId
from tests.silo_node.hospital import document, fill, open_store
from tests.siloquy.federation import NOW

DAY_MS = 86_400_000
TODAY = "2023-11-14"


def entry(n: int, **other: object) -> LedgerEntry:
    """The nth release: each of one passage, odd ones to ward and even ones to clinic."""
    given: dict[str, object] = {
        "kind": "release",
        "created": NOW + n,
        "query": bytes([n]) * 16,
        "gateway": NodeId("ward" if n % 2 else "clinic"),
        "requester": "dr 7",
        "purpose": "treatment",
        "passages": (f"{n}.md:3-12",),
        "withheld": {},
        "spent": n,
    }
    return LedgerEntry(**(given | other))  # type: ignore[arg-type]


def write(store: Store, *entries: LedgerEntry) -> None:
    with transaction(store.connection) as connection:
        for item in entries:
            append(connection, item)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Five entries and the document of the fifth."""
    with closing(open_store(tmp_path / "silo.sqlite")) as made:
        fill(made, [document("5.md", "Give 5 g a day.", "Dosing")])
        write(made, *(entry(n) for n in range(1, 6)))
        yield made


def look(store: Store, before: int | None = None, limit: int = 50, **wanted: str) -> AuditLogPage:
    return page(store.connection, AuditLogFilter(**wanted), before, limit)


def numbers(found: AuditLogPage) -> list[int]:
    return [item.n for item in found.entries]


def test_an_entry_tells_who_got_what_for_what_and_never_its_text(store: Store) -> None:
    write(store, entry(6, passages=("5.md:0-5", "a:b.md:1-3"), withheld={"cap": 2}))
    (found,) = look(store, limit=1).entries
    assert found == Disclosure(
        n=6,
        at=NOW + 6,
        kind="release",
        gateway="clinic",
        requester="dr 7",
        purpose="treatment",
        query_id="06" * 16,
        passages=(Left("5.md", "Dosing", 0, 5, 5), Left("a:b.md", "", 1, 3, 2)),
        withheld={"cap": 2},
        spent_today=6,
        hash=verified(store.connection, NOW).head,
    )


def test_pages_go_back_from_the_newest_entry_to_the_first(store: Store) -> None:
    first = look(store, limit=2)
    assert (numbers(first), first.total, first.next) == ([5, 4], 5, 4)
    second = look(store, first.next, 2)
    assert (numbers(second), second.next) == ([3, 2], 2)
    last = look(store, second.next, 2)
    assert (numbers(last), last.next) == ([1], None)


@pytest.mark.parametrize("before", [0, -3, 1])
def test_before_the_first_entry_there_is_none(store: Store, before: int) -> None:
    assert look(store, before) == AuditLogPage((), 5, None)


def test_an_empty_ledger_has_an_empty_page(tmp_path: Path) -> None:
    with closing(open_store(tmp_path / "other.sqlite")) as empty:
        assert look(empty) == AuditLogPage((), 0, None)


def test_entries_of_one_gateway_document_or_day_are_found(store: Store) -> None:
    write(store, entry(7, created=NOW + DAY_MS))
    assert numbers(look(store, gateway="ward")) == [6, 5, 3, 1]
    assert numbers(look(store, gateway="ward", day=TODAY)) == [5, 3, 1]
    assert numbers(look(store, day="2023-11-15")) == [6]
    assert numbers(look(store, document="2.md")) == [2]
    assert numbers(look(store, document=".md")) == []
    assert numbers(look(store, gateway="nobody")) == []


def test_a_filtered_page_looks_through_a_bounded_part_and_says_where_to_go_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "MOST_LOOKED_THROUGH", 2)
    first = look(store, gateway="clinic")
    assert (numbers(first), first.next) == ([4], 4)
    second = look(store, first.next, gateway="clinic")
    assert (numbers(second), second.next) == ([2], 2)


def test_a_ledger_that_holds_says_so(store: Store) -> None:
    with transaction(store.connection) as connection:
        rows = [("ward", TODAY, 3), ("clinic", TODAY, 2)]
        connection.executemany("INSERT INTO spent VALUES (?, ?, ?)", rows)
    verdict = verified(store.connection, NOW)
    assert (verdict.holds, verdict.entries, verdict.checked_at) == (True, 5, NOW)
    assert (len(verdict.head), verdict.detail) == (64, "")


def test_a_budget_that_counts_otherwise_is_told(store: Store) -> None:
    verdict = verified(store.connection, NOW)
    assert not verdict.holds
    assert verdict.detail.startswith("0 passages are counted for clinic on 2023-11-14")


def test_a_changed_entry_is_told(store: Store) -> None:
    store.connection.execute("UPDATE ledger SET body = body || x'00' WHERE number = 2")
    verdict = verified(store.connection, NOW)
    assert (verdict.holds, "entry 2 was changed" in verdict.detail) == (False, True)
