"""What the monitor reads of a store, while the silo itself works on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from siloquy.database import transaction
from siloquy.settings import ReleasePolicy
from siloquy.silo_node import pause
from siloquy.silo_node.holdings import holdings
from siloquy.silo_node.store import Store
from siloquy.trust.ledger import LedgerEntry, append
from siloquy.types import NodeId
from tests.silo_node.hospital import document, fill, open_store
from tests.siloquy.federation import NOW

POLICY = ReleasePolicy(gateways=("ward", "clinic"), passages_per_day=10)
TODAY = "2023-11-14"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Two documents."""
    with closing(open_store(tmp_path / "silo.sqlite")) as made:
        fill(made, [document("a.md", "One thing."), document("b.md", "Another thing.")])
        yield made


def test_a_store_is_counted(store: Store, tmp_path: Path) -> None:
    held = holdings(tmp_path / "silo.sqlite", POLICY, NOW)
    assert (held.documents, held.passages, held.ledger_entries) == (2, 2, 0)
    assert held.budget_left == {"ward": 10, "clinic": 10}


def test_releases_and_today_s_budget_are_seen(store: Store, tmp_path: Path) -> None:
    entry = LedgerEntry("release", NOW, bytes(16), NodeId("ward"), "dr 7", "treatment", (), {}, 4)
    with transaction(store.connection) as connection:
        append(connection, entry)
        rows = [("ward", TODAY, 4), ("ward", "2023-11-13", 9), ("clinic", TODAY, 30)]
        connection.executemany("INSERT INTO spent VALUES (?, ?, ?)", rows)
    held = holdings(tmp_path / "silo.sqlite", POLICY, NOW)
    assert held.ledger_entries == 1
    assert held.budget_left == {"ward": 6, "clinic": 0}


def test_it_does_not_wait_for_a_silo_that_writes(store: Store, tmp_path: Path) -> None:
    with store.lock, transaction(store.connection) as connection:
        connection.execute("DELETE FROM quarantine")
        assert holdings(tmp_path / "silo.sqlite", POLICY, NOW).documents == 2


def test_a_pause_is_seen(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "silo.sqlite"
    assert not holdings(path, POLICY, NOW).paused
    pause.begin(store.connection, NOW, "anna", "")
    assert holdings(path, POLICY, NOW).paused
