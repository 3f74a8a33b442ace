"""The chain of releases: whole, or found out."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.codec import decode, encode
from siloquy.database import connect, transaction
from siloquy.errors import IntegrityError
from siloquy.trust import ledger, roster
from siloquy.trust.ledger import GENESIS, LedgerEntry
from siloquy.types import LedgerHead, NodeId
from tests.siloquy.federation import NOW, Federation
from tests.siloquy.strategies import messages

NORTH = NodeId("north")
ENTRY = LedgerEntry(
    kind="release",
    created=NOW,
    query=bytes(16),
    gateway=NodeId("ward"),
    requester="local",
    purpose="treatment",
    passages=("p1", "p2"),
    withheld={"cap": 1},
    spent=2,
)
chains = st.lists(messages(LedgerEntry), min_size=1, max_size=6)


def book(entries: Sequence[LedgerEntry]) -> sqlite3.Connection:
    """A ledger in memory that holds ``entries``."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(ledger.SCHEMA)
    for entry in entries:
        with transaction(connection):
            ledger.append(connection, entry)
    return connection


def head_of(connection: sqlite3.Connection) -> LedgerHead:
    number, digest = ledger.head(connection)
    return LedgerHead(NORTH, number, digest, NOW)


def numbered(n: int) -> list[LedgerEntry]:
    return [replace(ENTRY, spent=spent) for spent in range(n)]


# -- whole ----------------------------------------------------------------------------------------


@given(chains)
def test_an_untouched_chain_holds(entries: list[LedgerEntry]) -> None:
    with closing(book(entries)) as connection:
        assert ledger.check(connection, (head_of(connection),)) == len(entries)


@given(chains)
def test_entries_come_back_in_order(entries: list[LedgerEntry]) -> None:
    with closing(book(entries)) as connection:
        assert list(ledger.entries(connection)) == entries


@given(chains)
def test_every_head_on_the_way_is_part_of_the_chain(entries: list[LedgerEntry]) -> None:
    with closing(book([])) as connection:
        heads = []
        for entry in entries:
            number, digest = ledger.append(connection, entry)
            heads.append(LedgerHead(NORTH, number, digest, NOW))
        assert ledger.check(connection, tuple(heads)) == len(entries)


def test_an_empty_ledger_holds() -> None:
    with closing(book([])) as connection:
        assert ledger.check(connection) == 0
        assert ledger.head(connection) == (0, GENESIS)


def test_append_tells_the_new_head() -> None:
    with closing(book(numbered(2))) as connection:
        assert ledger.append(connection, ENTRY) == ledger.head(connection)


def test_the_same_entry_twice_gives_two_hashes() -> None:
    with closing(book([ENTRY])) as connection:
        first = ledger.head(connection)
        assert ledger.append(connection, ENTRY)[1] != first[1]


def test_a_ledger_outlives_its_connection(tmp_path: Path) -> None:
    with (
        closing(connect(tmp_path / "silo.db", ledger.SCHEMA)) as connection,
        transaction(connection),
    ):
        written = ledger.append(connection, ENTRY)
    with closing(connect(tmp_path / "silo.db", ledger.SCHEMA)) as connection:
        assert (ledger.check(connection), ledger.head(connection)) == (1, written)


def test_a_rolled_back_release_leaves_no_entry() -> None:
    def fail_after_append(connection: sqlite3.Connection) -> None:
        with transaction(connection):
            ledger.append(connection, ENTRY)
            raise KeyError

    with closing(book(numbered(2))) as connection:
        before = ledger.head(connection)
        with pytest.raises(KeyError):
            fail_after_append(connection)
        assert ledger.head(connection) == before
        assert ledger.check(connection) == 2


# -- tampered with --------------------------------------------------------------------------------


@given(chains, st.data())
def test_a_changed_entry_is_found(entries: list[LedgerEntry], data: st.DataObject) -> None:
    with closing(book(entries)) as connection:
        number = data.draw(st.integers(1, len(entries)))
        old = encode(entries[number - 1])
        other = data.draw(messages(LedgerEntry).filter(lambda entry: encode(entry) != old))
        connection.execute("UPDATE ledger SET body = ? WHERE number = ?", (encode(other), number))
        with pytest.raises(IntegrityError, match=f"entry {number} was changed"):
            ledger.check(connection)


@given(chains, st.data())
def test_a_flipped_byte_of_an_entry_is_found(
    entries: list[LedgerEntry], data: st.DataObject
) -> None:
    with closing(book(entries)) as connection:
        number = data.draw(st.integers(1, len(entries)))
        column = data.draw(st.sampled_from(["body", "hash"]))
        query = f"SELECT {column} FROM ledger WHERE number = ?"  # noqa: S608 - one of two words
        changed = bytearray(connection.execute(query, (number,)).fetchone()[0])
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
        update = f"UPDATE ledger SET {column} = ? WHERE number = ?"  # noqa: S608 - as above
        connection.execute(update, (bytes(changed), number))
        with pytest.raises(IntegrityError, match=f"entry {number} was changed"):
            ledger.check(connection)


@given(st.integers(2, 7), st.data())
def test_a_dropped_entry_is_found(n: int, data: st.DataObject) -> None:
    with closing(book(numbered(n))) as connection:
        number = data.draw(st.integers(1, n - 1))
        connection.execute("DELETE FROM ledger WHERE number = ?", (number,))
        with pytest.raises(IntegrityError, match=f"entry {number} was changed, dropped"):
            ledger.check(connection)


@given(st.integers(2, 7), st.data())
def test_a_dropped_entry_is_found_when_the_rest_is_renumbered(n: int, data: st.DataObject) -> None:
    with closing(book(numbered(n))) as connection:
        number = data.draw(st.integers(1, n - 1))
        connection.execute("DELETE FROM ledger WHERE number = ?", (number,))
        connection.execute("UPDATE ledger SET number = number - 1 WHERE number > ?", (number,))
        with pytest.raises(IntegrityError, match=f"entry {number} was changed, dropped"):
            ledger.check(connection)


@given(st.integers(2, 7), st.data())
def test_exchanged_entries_are_found(n: int, data: st.DataObject) -> None:
    with closing(book(numbered(n))) as connection:
        one, other = sorted(
            data.draw(st.lists(st.integers(1, n), min_size=2, max_size=2, unique=True))
        )
        connection.execute("UPDATE ledger SET number = 0 WHERE number = ?", (one,))
        connection.execute("UPDATE ledger SET number = ? WHERE number = ?", (one, other))
        connection.execute("UPDATE ledger SET number = ? WHERE number = 0", (other,))
        with pytest.raises(IntegrityError, match=f"entry {one} was changed, dropped or reordered"):
            ledger.check(connection)


@given(st.integers(1, 7), st.data())
def test_a_truncated_ledger_is_found_by_its_signed_head(n: int, data: st.DataObject) -> None:
    with closing(book(numbered(n))) as connection:
        head = head_of(connection)
        kept = data.draw(st.integers(0, n - 1))
        connection.execute("DELETE FROM ledger WHERE number > ?", (kept,))
        with pytest.raises(IntegrityError, match=f"ends at entry {kept}, a signed head says {n}"):
            ledger.check(connection, (head,))


@given(st.integers(1, 7), st.data())
def test_a_rewritten_ledger_is_found_by_any_head_it_gave(n: int, data: st.DataObject) -> None:
    with closing(book(numbered(n))) as connection:
        head = head_of(connection)
    changed = numbered(n)
    place = data.draw(st.integers(0, n - 1))
    changed[place] = replace(changed[place], passages=())
    with closing(book([*changed, ENTRY])) as rewritten:
        assert ledger.check(rewritten) == n + 1
        with pytest.raises(IntegrityError, match=f"entry {n} is not what its signed head says"):
            ledger.check(rewritten, (head,))


def test_an_entry_slipped_in_before_the_first_is_found() -> None:
    with closing(book(numbered(2))) as connection:
        connection.execute("INSERT INTO ledger VALUES (-1, ?, ?)", (encode(ENTRY), bytes(32)))
        with pytest.raises(IntegrityError, match="entry 1 was changed"):
            ledger.check(connection)


def test_two_different_heads_of_one_length_are_found() -> None:
    with closing(book(numbered(3))) as connection:
        true = head_of(connection)
        for heads in ((replace(true, hash=bytes(32)), true), (true, replace(true, hash=b""))):
            with pytest.raises(IntegrityError):
                ledger.check(connection, heads)


def test_a_wrong_head_of_an_empty_ledger_is_found() -> None:
    with closing(book(numbered(1))) as connection, pytest.raises(IntegrityError):
        ledger.check(connection, (LedgerHead(NORTH, 0, b"\1" * 32, NOW),))


def test_a_right_head_of_an_empty_ledger_holds() -> None:
    with closing(book(numbered(1))) as connection:
        assert ledger.check(connection, (LedgerHead(NORTH, 0, GENESIS, NOW),)) == 1


def test_an_entry_turned_into_text_is_found() -> None:
    with closing(book(numbered(2))) as connection:
        connection.execute("UPDATE ledger SET body = 'text' WHERE number = 2")
        with pytest.raises(IntegrityError):
            ledger.check(connection)


# -- signed heads ---------------------------------------------------------------------------------


def test_a_signed_head_says_where_the_ledger_stands(federation: Federation) -> None:
    with closing(book(numbered(3))) as connection:
        signed = ledger.signed_head(connection, federation.north, NOW)
        body = roster.open_signed(federation.roster, signed, ledger.HEAD_CONTEXT, "silo")
        assert decode(LedgerHead, body) == head_of(connection)


def test_the_head_of_another_silo_does_not_pass(federation: Federation) -> None:
    with closing(book(numbered(3))) as connection:
        signed = ledger.signed_head(connection, federation.north, NOW)
    forged = replace(signed, signer=federation.south.node)
    with pytest.raises(IntegrityError, match="signature of ledger head"):
        roster.open_signed(federation.roster, forged, ledger.HEAD_CONTEXT, "silo")


def test_a_changed_head_does_not_pass(federation: Federation) -> None:
    with closing(book(numbered(3))) as connection:
        signed = ledger.signed_head(connection, federation.north, NOW)
    shorter = encode(replace(decode(LedgerHead, signed.body), entries=2))
    with pytest.raises(IntegrityError, match="signature of ledger head"):
        roster.open_signed(
            federation.roster, replace(signed, body=shorter), ledger.HEAD_CONTEXT, "silo"
        )


@given(st.binary(min_size=32, max_size=32), st.integers(1, 2**40), st.binary(max_size=20))
def test_a_hash_covers_the_number(previous: bytes, number: int, body: bytes) -> None:
    assert ledger.link(previous, number, body) != ledger.link(previous, number + 1, body)
