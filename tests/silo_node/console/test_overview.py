"""What a silo's own people see of it, while it serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from siloquy.database import reading, transaction
from siloquy.errors import StorageFailed
from siloquy.settings import ReleasePolicy
from siloquy.silo_node import pause
from siloquy.silo_node.console.overview import BudgetUse, ListedDocument, overview, shelf
from siloquy.silo_node.reading.document import RejectedInput
from siloquy.silo_node.store import Store, opened_to_read
from siloquy.types import DocumentId
from tests.silo_node.hospital import document, fill, open_store
from tests.siloquy.federation import NOW

POLICY = ReleasePolicy(gateways=("ward", "clinic"), passages_per_day=10, sealed_per_day=5)
TODAY = "2023-11-14"
LONG = "Give oxygen by mask. " * 12


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "silo.sqlite")) as made:
        fill(
            made,
            [
                document("b.md", LONG, "Asthma", collection="lungs"),
                document("a.md", "Give antibiotics.", "SEPSIS in Größe"),
                document("c.md", "Private.", consent=False),
                RejectedInput("d.pdf", "no text"),
            ],
        )
        yield made


def test_counts_rejections_and_budgets_of_the_approved_gateways_are_seen(store: Store) -> None:
    with transaction(store.connection) as connection:
        rows = [("ward", TODAY, 4), ("ward", "2023-11-13", 9), ("gone", TODAY, 3)]
        connection.executemany("INSERT INTO spent VALUES (?, ?, ?)", rows)
        connection.execute("INSERT INTO sealed_asked VALUES ('clinic', ?, 2)", (TODAY,))
    seen = overview(store, POLICY, NOW)
    assert (seen.documents, seen.withdrawn, seen.paused) == (3, 1, None)
    assert seen.passages == store.counts().passages
    assert seen.quarantined == (RejectedInput("d.pdf", "no text"),)
    assert seen.budget == (BudgetUse("ward", 4, 10), BudgetUse("clinic", 0, 10))
    assert seen.sealed_budget == (BudgetUse("ward", 0, 5), BudgetUse("clinic", 2, 5))


def test_a_pause_is_seen(store: Store) -> None:
    begun = pause.begin(store.connection, NOW, "anna", "an audit")
    assert overview(store, POLICY, NOW).paused == begun


def test_documents_are_listed_by_id_without_their_text(store: Store) -> None:
    found = shelf(store, "", "", 10)
    assert [item.id for item in found.documents] == ["a.md", "b.md", "c.md"]
    assert (found.total, found.next) == (3, None)
    assert found.documents[1].passages > 1
    bare = replace(found.documents[1], passages=0)
    assert bare == ListedDocument(DocumentId("b.md"), "Asthma", 0, "lungs", consent=True)
    assert "oxygen" not in repr(found)


def test_documents_come_in_pages(store: Store) -> None:
    first = shelf(store, "", "", 2)
    assert ([item.id for item in first.documents], first.total) == (["a.md", "b.md"], 3)
    assert first.next == "b.md"
    last = shelf(store, "", first.next, 2)
    assert ([item.id for item in last.documents], last.next) == (["c.md"], None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [("sepsis", ["a.md"]), ("GRÖSSE", ["a.md"]), ("b.M", ["b.md"]), ("%", []), ("oxygen", [])],
)
def test_documents_are_found_by_id_or_title_whatever_the_case(
    store: Store, query: str, expected: list[str]
) -> None:
    found = shelf(store, query, "", 10)
    assert ([item.id for item in found.documents], found.total) == (expected, len(expected))


def test_a_look_sees_what_is_committed_and_neither_waits_nor_writes(
    store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "silo.sqlite"
    with store.lock, transaction(store.connection) as connection:
        connection.execute("DELETE FROM quarantine")
        with opened_to_read(path) as seen:
            assert overview(seen, POLICY, NOW).quarantined
            with pytest.raises(StorageFailed, match="readonly"), reading(seen.connection):
                seen.connection.execute("DELETE FROM quarantine")
    with opened_to_read(path) as seen:
        before = overview(seen, POLICY, NOW)
        store.quarantine([RejectedInput("e.pdf", "no text")])
        assert overview(seen, POLICY, NOW) == before


def test_a_store_that_is_not_there_cannot_be_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "silo.sqlite"
    with pytest.raises(StorageFailed), opened_to_read(path):
        pass
    assert not path.exists()
