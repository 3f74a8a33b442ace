"""The two phases at the gateway: ask, check what the hub makes of it, collect the winners.

Nothing that the hub says is taken on trust: winners, tickets, refusals and passages must fit the
question, and a silo whose part does not is missing with its reason.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from siloquy.codec import decode
from siloquy.errors import IntegrityError, SiloquyError
from siloquy.ports import Hub
from siloquy.sealed import scoring as sealed
from siloquy.text.ranking import most_bm25
from siloquy.trust import roster as rosters
from siloquy.trust.heads import HeadBook
from siloquy.trust.identity import REPLY_CONTEXT, SEALING_CONTEXT, TICKET_CONTEXT, Identity
from siloquy.trust.roster import PinnedRoster
from siloquy.types import (
    Handle,
    MergeReply,
    Missing,
    NodeId,
    Passage,
    QueryId,
    ReleaseReply,
    ReleaseRequest,
    SealedRequest,
    SealingKey,
    SearchReply,
    SearchRequest,
    SignedMessage,
    Term,
    Ticket,
    Vector,
)
from siloquy.watch.tracing import span
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import (
    MOST_PASSAGE_CHARACTERS,
    MOST_SECTION_CHARACTERS,
    MOST_TITLE_CHARACTERS,
)

_SPARE_LIFETIME_S = 30
_DATED = re.compile(r"|\d{4}(?:-\d\d){0,2}")
# The ceiling of word scores is told to the hub in steps of a quarter, so that it says little.
CEILING_STEP = 1.25
LEAST_CEILING = CEILING_STEP**-20


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Phase 1: the hub's checked merge, the tickets that hold, and who is missing."""

    merged: MergeReply
    tickets: dict[NodeId, tuple[SignedMessage, Ticket]]
    missing: tuple[Missing, ...]


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """Phase 2: passages best first, what each silo let out and held back, who failed."""

    passages: tuple[Passage, ...]
    replies: dict[NodeId, ReleaseReply]
    failed: tuple[Missing, ...]
    traffic: dict[str, int]


class Phases:
    """Search and release of one gateway."""

    def __init__(
        self,
        identity: Identity,
        pinned: PinnedRoster,
        hub: Hub,
        head_book: HeadBook,
        clock: Callable[[], int],
    ) -> None:
        self._identity = identity
        self._pinned = pinned
        self._hub = hub
        self._head_book = head_book
        self._clock = clock

    async def search(
        self,
        request: SearchRequest | SealedRequest,
        asked: Sequence[NodeId],
        timeout_s: float,
        quotas: Mapping[NodeId, int] | None = None,
    ) -> SearchResult:
        """Ask ``asked`` through the hub; IntegrityError when its answer oversteps the question.

        quotas   most winners of a silo; k for one that is not named. The hub and every asked silo
                 read them all
        """
        query_id, k = QueryId(os.urandom(16)), request.k
        limits = {silo: min(quotas.get(silo, k), k) for silo in asked} if quotas else {}
        with span("search", query_id, silos=len(asked), k=k) as note:
            envelope = self._seal_search(request, asked, query_id, timeout_s, limits)
            merged = await self._hub.gather(envelope, timeout_s)
            missing = self._check_merge(merged, query_id, asked, k, limits)
            is_sealed = isinstance(request, SealedRequest)
            tickets, cheated = self._check_tickets(merged, request.k, sealed=is_sealed)
            note.add(winners=len(merged.winners), missing=len(missing) + len(cheated))
            return SearchResult(merged, tickets, (*missing, *cheated))

    async def seal(
        self, vector: Vector, k: int, purpose: str, requester: str, timeout_s: float
    ) -> SealedRequest:
        """``vector`` encrypted so that silos can score it and not read it.

        Incompatible where this gateway or the hub has no sealed scoring; IntegrityError when the
        hub's key is not its own, or hides nothing.
        """
        signed = await self._hub.sealing_key(timeout_s)
        key = decode(
            SealingKey,
            rosters.open_signed(self._pinned.current, signed, SEALING_CONTEXT, "hub"),
        )
        now = self._clock()
        if key.created > now + envelopes.CLOCK_SKEW_MS or key.expires < now:
            raise IntegrityError("the hub's key is of another time", "compare the nodes' clocks")
        query = await asyncio.to_thread(sealed.seal_query, vector, key.public)
        return SealedRequest(
            key=signed,
            query=query.query,
            dimension=len(vector),
            offset=query.offset,
            k=k,
            purpose=purpose,
            requester=requester,
        )

    async def release(self, won: SearchResult, timeout_s: float) -> ReleaseResult:
        """The winners' passages, of the silos whose reply holds."""
        with span("release", won.merged.query_id, silos=len(won.tickets)):
            replies, failed, sizes = await self._release(won.merged, won.tickets, timeout_s)
        found = {p.handle: p for reply in replies.values() for p in reply.passages}
        ranked = tuple(found[w.handle] for w in won.merged.winners if w.handle in found)
        return ReleaseResult(ranked, replies, tuple(failed), sizes)

    def _seal_search(
        self,
        request: SearchRequest | SealedRequest,
        asked: Sequence[NodeId],
        query_id: QueryId,
        timeout_s: float,
        limits: Mapping[NodeId, int],
    ) -> bytes:
        roster = self._pinned.current
        return envelopes.seal(
            self._identity,
            [roster.member(silo, "silo") for silo in asked],
            "search",
            query_id,
            request,
            roster=roster,
            now=self._clock(),
            lifetime_ms=_lifetime_ms(timeout_s),
            k=request.k,
            quotas=tuple(limits.values()),
            **_told_in_clear(request),
        )

    def _check_merge(
        self,
        merged: MergeReply,
        query_id: QueryId,
        asked: Sequence[NodeId],
        k: int,
        limits: Mapping[NodeId, int],
    ) -> list[Missing]:
        """Who is missing; IntegrityError when the hub's answer oversteps the question."""
        handles = [winner.handle for winner in merged.winners]
        if merged.query_id != query_id or len(handles) > k or len(set(handles)) != len(handles):
            raise IntegrityError("the hub's winners do not fit the question")
        won = Counter(winner.silo for winner in merged.winners)
        if won.keys() - set(asked):
            raise IntegrityError("the hub names winners of silos that were not asked")
        if any(count > limits.get(silo, k) for silo, count in won.items()):
            raise IntegrityError("the hub's winners exceed a silo's quota")
        silent = [item for item in merged.silence if item.silo in asked]
        refused = [
            self._read_refusal(signed, query_id)
            for signed in merged.refusals
            if signed.signer in asked
        ]
        told: set[str] = {item.silo for item in (*silent, *refused)}
        told |= won.keys() | merged.silo_ms.keys()
        dropped = [
            Missing(silo, "unreachable", "the hub says nothing of it")
            for silo in asked
            if silo not in told
        ]
        return [*silent, *refused, *dropped]

    def _check_tickets(
        self, merged: MergeReply, k: int, *, sealed: bool
    ) -> tuple[dict[NodeId, tuple[SignedMessage, Ticket]], list[Missing]]:
        """The ticket of each silo with winners, and silos whose ticket does not hold."""
        good: dict[NodeId, tuple[SignedMessage, Ticket]] = {}
        for signed in merged.tickets:
            ticket = self._read_ticket(signed, merged, k, sealed=sealed)
            if ticket is not None:
                good[ticket.silo] = signed, ticket
        cheated = [
            Missing(silo, "integrity", "the hub sent no ticket that fits its winners")
            for silo in dict.fromkeys(winner.silo for winner in merged.winners)
            if silo not in good
        ]
        return good, cheated

    def _read_refusal(self, signed: SignedMessage, query_id: QueryId) -> Missing:
        """A silo's own refusal; the hub cannot make one up."""
        try:
            body = rosters.open_signed(self._pinned.current, signed, REPLY_CONTEXT, "silo")
            reply = decode(SearchReply, body)
            if reply.query_id != query_id or reply.silo != signed.signer or not reply.refusal:
                raise IntegrityError("a refusal of another silo or question")
        except SiloquyError as error:
            return Missing(signed.signer, "integrity", error.message)
        return dataclasses.replace(reply.refusal, silo=signed.signer)

    def _read_ticket(
        self, signed: SignedMessage, merged: MergeReply, k: int, *, sealed: bool
    ) -> Ticket | None:
        """The hub's ticket when it is for this question and covers its silo's winners.

        Of a sealed question it must tell no score.
        """
        try:
            body = rosters.open_signed(self._pinned.current, signed, TICKET_CONTEXT, "hub")
            ticket = decode(Ticket, body)
        except SiloquyError:
            return None
        wanted = _handles(merged, ticket.silo)
        named = (ticket.query_id, ticket.gateway, ticket.k)
        fits = named == (merged.query_id, self._identity.node, k)
        count = 0 if sealed else len(ticket.handles)
        told = count == len(ticket.claims) == len(ticket.lexical)
        return ticket if fits and wanted and told and set(wanted) <= set(ticket.handles) else None

    async def _release(
        self,
        merged: MergeReply,
        tickets: dict[NodeId, tuple[SignedMessage, Ticket]],
        timeout_s: float,
    ) -> tuple[dict[NodeId, ReleaseReply], list[Missing], dict[str, int]]:
        asked = list(tickets.values())
        sizes = {"release_requests": 0, "release_replies": 0}
        results = await asyncio.gather(
            *(
                self._release_one(signed, ticket, merged, sizes, timeout_s)
                for signed, ticket in asked
            ),
            return_exceptions=True,
        )
        replies: dict[NodeId, ReleaseReply] = {}
        failed: list[Missing] = []
        for (_, ticket), result in zip(asked, results, strict=True):
            if isinstance(result, ReleaseReply):
                replies[ticket.silo] = result
            elif isinstance(result, SiloquyError):
                failed.append(Missing(ticket.silo, result.missing, result.message))
            else:
                raise result
        return replies, failed, sizes

    async def _release_one(
        self,
        signed: SignedMessage,
        ticket: Ticket,
        merged: MergeReply,
        sizes: dict[str, int],
        timeout_s: float,
    ) -> ReleaseReply:
        roster, now = self._pinned.current, self._clock()
        wanted = _handles(merged, ticket.silo)
        request = ReleaseRequest(signed, wanted)
        envelope = envelopes.seal(
            self._identity,
            [roster.member(ticket.silo, "silo")],
            "release",
            merged.query_id,
            request,
            roster=roster,
            now=now,
            lifetime_ms=_lifetime_ms(timeout_s),
        )
        data = await self._hub.collect(ticket.silo, envelope, timeout_s)
        sizes["release_requests"] += len(envelope)
        sizes["release_replies"] += len(data)
        received = envelopes.receive(data, roster, role="silo", kind="passages", now=self._clock())
        if received.header.id != merged.query_id:
            raise IntegrityError("passages of another question")
        reply = envelopes.open_body(received, self._identity, ReleaseReply)
        sender = received.sender.node
        _check_release(reply, sender, ticket, wanted)
        # In a thread: it writes to the disk, and other questions must not wait for that.
        await asyncio.to_thread(self._head_book.accept, roster, reply.head, sender)
        return reply


def _told_in_clear(request: SearchRequest | SealedRequest) -> dict[str, Any]:
    """What else the header tells of the question, by its mode."""
    if isinstance(request, SealedRequest):
        return {"mode": "sealed", "key_hash": hashlib.sha256(request.key.body).digest()}
    return {"unit": request.unit, "lexical_ceiling": lexical_ceiling(request.terms)}


def lexical_ceiling(terms: Sequence[Term]) -> float:
    """A power of 1.25 that no honest silo's BM25 for ``terms`` is above, told to the hub in clear.

    The sum of the weights tells roughly how many rare words a question has; rounded up it tells
    that within a quarter, of some thirty values in all. It is never 0, which would mean none.

    >>> lexical_ceiling([Term("dose", 2.0), Term("apixaban", 3.0)]) == 1.25**11
    True
    """
    most = most_bm25(terms)
    if most <= LEAST_CEILING:
        return LEAST_CEILING
    return max(CEILING_STEP ** math.ceil(math.log(most, CEILING_STEP)), most)


def _check_release(
    reply: ReleaseReply, sender: NodeId, ticket: Ticket, wanted: Sequence[bytes]
) -> None:
    """IntegrityError when the passages are not what this silo's winners were."""
    named = {reply.silo, *(passage.silo for passage in reply.passages)}
    if sender != ticket.silo or named != {ticket.silo} or reply.query_id != ticket.query_id:
        raise IntegrityError("passages of another silo or question")
    handles = [passage.handle for passage in reply.passages]
    if len(set(handles)) != len(handles) or set(handles) - set(wanted):
        raise IntegrityError("passages that were not asked for")
    # Tickets of sealed questions hold no scores: then a passage must not claim one either.
    dense = dict(zip(ticket.handles, ticket.claims, strict=False))
    if any(passage.dense != dense.get(passage.handle) for passage in reply.passages):
        raise IntegrityError("a passage claims another similarity than it won with")
    lexical = dict(zip(ticket.handles, ticket.lexical, strict=False))
    if any(passage.lexical != lexical.get(passage.handle) for passage in reply.passages):
        raise IntegrityError("a passage claims another word score than it won with")
    if any(not _readable(passage) for passage in reply.passages):
        raise IntegrityError(
            "a passage, its title, section, date or document's name is too long or no single line"
        )


def _readable(passage: Passage) -> bool:
    """Whether it is of a size that a person reads, and its names are single plain lines."""
    names = (passage.title, passage.document, passage.section)
    held = (passage.text, MOST_PASSAGE_CHARACTERS), (passage.section, MOST_SECTION_CHARACTERS)
    return (
        all(len(text) <= most for text, most in held)
        and all(len(name) <= MOST_TITLE_CHARACTERS for name in names)
        and all(name.splitlines() in ([], [name]) for name in names)
        and _DATED.fullmatch(passage.dated) is not None
    )


def _handles(merged: MergeReply, silo: NodeId) -> tuple[Handle, ...]:
    return tuple(winner.handle for winner in merged.winners if winner.silo == silo)


def _lifetime_ms(timeout_s: float) -> int:
    return int(1000 * (timeout_s + _SPARE_LIFETIME_S))
