"""What an attacker makes of a merge, and how a refusal of it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from siloquy.codec import decode
from siloquy.errors import SiloquyError
from siloquy.types import (
    MergeReply,
    Missing,
    NodeId,
    SearchReply,
    SignedMessage,
    Ticket,
)
from tests.end_to_end.town import (
    Town,
)


def refusal_in(signed: bytes) -> Missing:
    """The refusal that a silo signed."""
    refusal = decode(SearchReply, decode(SignedMessage, signed).body).refusal
    assert refusal is not None
    return refusal


def named(missing: tuple[Missing, ...], silo: NodeId) -> Missing:
    """What is said of ``silo``, once."""
    (item,) = [item for item in missing if item.silo == silo]
    return item


def ticket_of(merged: MergeReply, silo: NodeId) -> SignedMessage:
    """The hub's ticket for ``silo``."""
    (ticket,) = [t for t in merged.tickets if decode(Ticket, t.body).silo == silo]
    return ticket


def with_ticket(
    silo: NodeId, change: Callable[[SignedMessage], SignedMessage]
) -> Callable[[MergeReply], MergeReply]:
    """A merge whose ticket for ``silo`` was changed."""

    def bend(merged: MergeReply) -> MergeReply:
        tickets = [
            change(item) if decode(Ticket, item.body).silo == silo else item
            for item in merged.tickets
        ]
        return replace(merged, tickets=tuple(tickets))

    return bend


async def outcome(town: Town, silo: NodeId) -> str:
    """How the gateway names what became of ``silo``, or of the whole question."""
    try:
        answer = await town.ask()
    except SiloquyError as error:
        return f"{error.code}: {error.message}"
    assert silo not in answer.released
    return f"{named(answer.missing, silo).reason}: {named(answer.missing, silo).detail}"


def without(merged: MergeReply, silo: NodeId) -> MergeReply:
    """A merge in which ``silo`` does not occur at all."""
    return replace(
        merged,
        winners=tuple(w for w in merged.winners if w.silo != silo),
        tickets=tuple(t for t in merged.tickets if decode(Ticket, t.body).silo != silo),
        silo_ms={name: ms for name, ms in merged.silo_ms.items() if name != silo},
    )
