"""Released passages as evidence: scored and reranked here, checked against what silos claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from siloquy.gateway.evidence import select, unscored
from siloquy.gateway.reranking import ranked_between, rerank
from siloquy.gateway.rounds import RoundResult
from siloquy.generator.untrusted import orders
from siloquy.text.batcher import Batcher
from siloquy.text.words import embedded_text
from siloquy.types import NodeId, Passage, Source, Vector

UNSCORED = (
    "no time was left to score the passages here: their order and scores are the silos' own word"
)
# A sealed round's passages come in the order of their cosines: so many, evenly spread over the
# ranks, are encoded first, and the others' cosines lie between. Encoding takes most of the time.
ANCHORS = 4


@dataclass(frozen=True, slots=True)
class WeighedEvidence:
    """What was released as sources, and silos to be wary of; ``notes`` say what was left out.

    best   rows of the released passages that were wanted, best first; empty where all were, in
           their order
    """

    sources: tuple[Source, ...]
    flagged: dict[str, str]
    notes: tuple[str, ...]
    verified: Mapping[NodeId, int] = field(default_factory=dict)
    false: Mapping[NodeId, int] = field(default_factory=dict)
    best: tuple[int, ...] = ()


async def weigh(rounds: Sequence[RoundResult], encoder: Batcher, until: float) -> WeighedEvidence:
    """Evidence of all rounds, scored here until the deadline; after it by what the silos claim.

    until   the event loop's time
    """
    passages = [passage for item in rounds for passage in item.passages]
    try:
        async with asyncio.timeout_at(until):
            rows = await _worth_reading(rounds, encoder)
            read = [passages[row] for row in rows]
            vectors = await _encoded(read, encoder)
    except TimeoutError:
        wanted = [passage for item in rounds for passage in item.passages[: item.k]]
        return WeighedEvidence(unscored(wanted), _ordering(passages), (UNSCORED,))
    of_passage = [i for i, item in enumerate(rounds) for _ in item.passages]
    of_round = [of_passage[row] for row in rows]
    queries = np.stack([item.vector for item in rounds])
    terms = [item.terms for item in rounds]
    best = _best(rounds, read, of_round, vectors)
    evidence = select(read, vectors, queries, of_round, len(read), terms, best)
    return WeighedEvidence(
        sources=evidence.sources,
        flagged=evidence.flagged | _ordering(passages),
        notes=(),
        verified={NodeId(silo): count for silo, count in evidence.verified.items()},
        false={NodeId(silo): count for silo, count in evidence.false.items()},
        best=tuple(rows[place] for place in best),
    )


async def _encoded(passages: Sequence[Passage], encoder: Batcher) -> Vector:
    return await encoder.encode([embedded_text(p.title, p.text) for p in passages])


async def _worth_reading(rounds: Sequence[RoundResult], encoder: Batcher) -> list[int]:
    """Rows of the passages that may be among the best: all, but for what a sealed round took more.

    Its passages came in the order of their cosines: with a few of them encoded the others' are
    known to lie between, and with their words who may be among the k best. Over 60 questions of
    mediqa_sites that changed nDCG@10 by .0005.
    """
    rows, first = list[int](), 0
    for item in rounds:
        n = len(item.passages)
        kept: Sequence[int] = range(n)
        if item.plan.mode == "sealed" and n > item.k + ANCHORS:
            anchors = np.unique(np.linspace(0, n - 1, ANCHORS).astype(int)).tolist()
            vectors = await _encoded([item.passages[i] for i in anchors], encoder)
            cosines = ranked_between(n, anchors, vectors @ item.vector)
            kept = sorted({*anchors, *rerank(item.passages, cosines, item.terms)[: item.k]})
        rows += [first + i for i in kept]
        first += n
    return rows


def _best(
    rounds: Sequence[RoundResult],
    read: Sequence[Passage],
    of_round: Sequence[int],
    vectors: Vector,
) -> list[int]:
    """Places in ``read`` of the k best passages of each round: a sealed one took more."""
    best: list[int] = []
    for number, item in enumerate(rounds):
        places = [place for place, of in enumerate(of_round) if of == number]
        order: Sequence[int] = range(len(places))
        if item.plan.mode == "sealed":
            own = [read[place] for place in places]
            order = rerank(own, vectors[places] @ item.vector, item.terms)
        best += [places[i] for i in order[: item.k]]
    return best


def _ordering(passages: Sequence[Passage]) -> dict[str, str]:
    """Silos with a passage that speaks to a language model instead of to a reader."""
    return {
        passage.silo: "a passage holds orders to a language model; they are left out"
        for passage in passages
        if orders(f"{passage.title}\n{passage.section}\n{passage.text}")
    }
