"""Heads of ledgers at a gateway: what a silo signed once it cannot take back."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from siloquy.codec import decode
from siloquy.errors import IntegrityError, PolicyDenied, SiloquyError
from siloquy.trust import roster as rosters
from siloquy.trust.heads import HeadBook
from siloquy.trust.identity import Identity
from siloquy.trust.ledger import HEAD_CONTEXT
from siloquy.types import LedgerHead, NodeId, SignedMessage
from tests.siloquy.federation import NOW, Federation, new_federation

NORTH, SOUTH = NodeId("north"), NodeId("south")


class Desk:
    """A gateway's book, and silos that sign heads."""

    def __init__(self, federation: Federation, path: Path) -> None:
        self.federation = federation
        self.path = path
        self.book = HeadBook(path)

    def head(self, entries: int, mark: int = 0, **other: Any) -> SignedMessage:
        """A head of north's ledger; ``mark`` tells one history from another."""
        signer: Identity = other.pop("signer", self.federation.north)
        context = other.pop("context", HEAD_CONTEXT)
        value = LedgerHead(NORTH, entries, bytes([mark]) * 32, NOW + entries)
        return signer.sign(context, replace(value, **other))

    def accept(self, signed: SignedMessage, silo: NodeId = NORTH) -> None:
        self.book.accept(self.federation.roster, signed, silo)


@pytest.fixture
def desk(federation: Federation, tmp_path: Path) -> Desk:
    return Desk(federation, tmp_path / "heads.sqlite")


def test_a_growing_ledger_is_accepted(desk: Desk) -> None:
    for entries in (0, 1, 5, 6):
        desk.accept(desk.head(entries, mark=entries))


def test_the_same_head_is_accepted_again(desk: Desk) -> None:
    for _ in range(2):
        desk.accept(desk.head(3))


def test_heads_may_arrive_out_of_order(desk: Desk) -> None:
    for entries in (5, 4):
        desk.accept(desk.head(entries, mark=entries))


def test_two_heads_of_one_length_show_a_rewritten_ledger(desk: Desk) -> None:
    desk.accept(desk.head(3, mark=1))
    with pytest.raises(IntegrityError, match="the ledger of north was rewritten"):
        desk.accept(desk.head(3, mark=2))


def test_the_book_survives_a_restart(desk: Desk) -> None:
    desk.accept(desk.head(3, mark=1))
    desk.book = HeadBook(desk.path)
    with pytest.raises(IntegrityError, match="rewritten"):
        desk.accept(desk.head(3, mark=2))


def test_silos_do_not_disturb_each_other(desk: Desk) -> None:
    desk.accept(desk.head(3, mark=1))
    desk.accept(desk.head(3, mark=2, silo=SOUTH, signer=desk.federation.south), SOUTH)


def test_a_refused_head_is_not_kept(desk: Desk) -> None:
    desk.accept(desk.head(3, mark=1))
    with pytest.raises(IntegrityError):
        desk.accept(desk.head(3, mark=2))
    desk.accept(desk.head(3, mark=1))


def test_a_shortened_ledger_shows(desk: Desk) -> None:
    desk.accept(desk.head(7, mark=1))
    with pytest.raises(IntegrityError):
        desk.accept(desk.head(5, mark=2, created=NOW + 60_000))


def test_a_kept_head_can_be_shown_to_others(desk: Desk) -> None:
    signed = desk.head(3)
    desk.accept(signed)
    (kept,) = sqlite3.connect(desk.path).execute("SELECT signed FROM heads").fetchone()
    shown = decode(SignedMessage, kept)
    assert shown == signed
    rosters.open_signed(desk.federation.roster, shown, HEAD_CONTEXT, "silo")


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({"silo": SOUTH}, IntegrityError),
        ({"context": "other"}, IntegrityError),
        ({"signer": "south"}, IntegrityError),
        ({"signer": "hub"}, PolicyDenied),
        ({"signer": "ward"}, PolicyDenied),
        ({"signer": "stranger"}, IntegrityError),
    ],
    ids=str,
)
def test_a_head_that_is_not_the_silos_is_refused(
    desk: Desk, other: dict[str, Any], error: type[SiloquyError]
) -> None:
    if "signer" in other:
        stranger = new_federation().north
        other = {"signer": getattr(desk.federation, other["signer"], stranger)}
    with pytest.raises(error):
        desk.accept(desk.head(3, **other))


def test_a_changed_head_is_refused(desk: Desk) -> None:
    changed = replace(desk.head(3), body=desk.head(4).body)
    with pytest.raises(IntegrityError, match="signature"):
        desk.accept(changed)
