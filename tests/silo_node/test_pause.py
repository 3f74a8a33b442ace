"""The hospital's own switch: it holds until it is turned back, and remembers who turned it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from siloquy.errors import UsageError
from siloquy.silo_node import pause
from siloquy.silo_node.pause import MOST_REASON_CHARACTERS, Pause
from siloquy.silo_node.store import Store
from tests.silo_node.hospital import open_store

FIRST = Pause(1000, "anna", "an audit")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(tmp_path / "silo.sqlite")) as made:
        yield made


def test_a_new_silo_is_not_paused(store: Store) -> None:
    assert pause.current(store.connection) is None


def test_a_pause_holds_for_other_connections_and_after_a_restart(
    store: Store, tmp_path: Path
) -> None:
    assert pause.begin(store.connection, 1000, "anna", "an\n audit ") == FIRST
    with closing(open_store(tmp_path / "silo.sqlite")) as other:
        assert pause.current(other.connection) == FIRST


def test_a_second_pause_changes_nothing(store: Store) -> None:
    pause.begin(store.connection, 1000, "anna", "an audit")
    assert pause.begin(store.connection, 2000, "bert", "") == FIRST


def test_a_pause_that_has_ended_stays_on_record(store: Store) -> None:
    pause.begin(store.connection, 1000, "anna", "an audit")
    assert pause.end(store.connection, 3000, "bert") == FIRST
    assert pause.current(store.connection) is None
    assert pause.end(store.connection, 4000, "carl") is None
    rows = store.connection.execute("SELECT since, reason, ended, ended_by FROM pauses").fetchall()
    assert rows == [(1000, "an audit", 3000, "bert")]


def test_the_number_changes_with_every_turn_of_the_switch(store: Store) -> None:
    seen = [pause.number(store.connection)]
    for turn in range(3):
        pause.begin(store.connection, turn, "anna", "")
        seen.append(pause.number(store.connection))
        pause.end(store.connection, turn, "anna")
        seen.append(pause.number(store.connection))
    assert seen == sorted(set(seen))


def test_a_reason_is_of_bounded_length(store: Store) -> None:
    with pytest.raises(UsageError, match="501 characters, at most 500"):
        pause.begin(store.connection, 1000, "anna", "x" * (MOST_REASON_CHARACTERS + 1))
    assert pause.current(store.connection) is None
