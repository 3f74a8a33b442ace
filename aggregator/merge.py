"""The global top-k from the candidates of all silos, in clear: pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from siloquy.text import ranking
from siloquy.types import Hit, NodeId, SearchReply, Unit, Winner

Offered = tuple[NodeId, Hit]
T = TypeVar("T")


def merge(
    replies: Sequence[SearchReply],
    k: int,
    unit: Unit,
    quotas: Mapping[NodeId, int] | None = None,
) -> list[Winner]:
    """At most ``k`` winners, best first.

    By ``ranking.hybrid_scores`` over all that was offered. Ties keep the order of silos and hits.
    With unit ``document`` each document wins once, by its best passage. What a silo has beyond its
    quota (0 or more; ``k`` where none is given) does not win, and the next best of others takes its
    place. It still counts as offered: quotas change nobody's score.
    """
    offered = [(reply.silo, hit) for reply in replies for hit in reply.hits]
    if not offered:
        return []
    dense = np.array([hit.dense for _, hit in offered], dtype=np.float64)
    lexical = np.array([hit.lexical for _, hit in offered], dtype=np.float64)
    scores = ranking.hybrid_scores(dense, lexical)
    order: Iterable[Offered] = (offered[i] for i in np.argsort(-scores, kind="stable").tolist())
    if unit == "document":
        order = _best_of_each_document(order)
    return [Winner(silo, hit.handle) for silo, hit in within(order, quotas or {}, k)]


def _best_of_each_document(order: Iterable[Offered]) -> Iterator[Offered]:
    seen: set[tuple[NodeId, bytes]] = set()
    for silo, hit in order:
        document = silo, hit.tag
        if document not in seen:
            seen.add(document)
            yield silo, hit


def within(
    order: Iterable[tuple[NodeId, T]], quotas: Mapping[NodeId, int], k: int
) -> Iterator[tuple[NodeId, T]]:
    """The first ``k`` of what silos offer, of each at most its quota."""
    left = dict(quotas)

    def fits(silo: NodeId) -> bool:
        left[silo] = left.get(silo, k) - 1
        return left[silo] >= 0

    return itertools.islice((item for item in order if fits(item[0])), max(k, 0))
