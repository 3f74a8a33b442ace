"""The hub's part in sealed questions: a key of its own for each session, and the merge of scores.

Only here are scores of rows readable, and they go no further: what leaves is who won, by handle.
Masked by each question's own scale and offset, they tell the hub order and distance alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siloquy.aggregator.merge import within
from siloquy.errors import IntegrityError
from siloquy.sealed.handles import KEY_BYTES, handles_of
from siloquy.sealed.scoring import SecretKey
from siloquy.trust.identity import SEALING_CONTEXT, Identity
from siloquy.types import NodeId, SealedScores, SealingKey, SignedMessage, Winner

SESSION_MS = 10 * 60_000
"""How long questions are sealed under one key."""
SPARE_MS = 2 * 60_000
"""How much longer it opens the scores of those on their way."""


@dataclass(frozen=True, slots=True, eq=False)
class _Session:
    secret: SecretKey
    signed: SignedMessage
    expires: int


class SealingSessions:
    """Session keys, in memory alone: a restarted hub opens nothing that was sealed before."""

    def __init__(self, identity: Identity, clock: Callable[[], int]) -> None:
        self._identity = identity
        self._clock = clock
        self._lock = threading.Lock()
        self._current: tuple[int, bytes] | None = None
        self._sessions: dict[bytes, _Session] = {}

    def key(self) -> SignedMessage:
        """The signed public key to seal with now; Incompatible where the library is missing."""
        with self._lock:
            now = self._clock()
            self._sessions = {k: s for k, s in self._sessions.items() if s.expires >= now}
            if self._current is None or self._current[0] < now:
                self._current = now + SESSION_MS, self._begin(now)
            return self._sessions[self._current[1]].signed

    def _begin(self, now: int) -> bytes:
        secret = SecretKey()
        expires = now + SESSION_MS + SPARE_MS
        signed = self._identity.sign(SEALING_CONTEXT, SealingKey(secret.public, now, expires))
        key_hash = hashlib.sha256(signed.body).digest()
        self._sessions[key_hash] = _Session(secret, signed, expires)
        return key_hash

    def check(self, key_hash: bytes) -> None:
        """IntegrityError for a question that no living session's key sealed."""
        self._secret(key_hash)

    def _secret(self, key_hash: bytes) -> SecretKey:
        with self._lock:
            session = self._sessions.get(key_hash)
            if session is None or session.expires < self._clock():
                raise IntegrityError(
                    "the question is sealed under a key of another session", "ask it again"
                )
            return session.secret

    async def best(self, scores: SealedScores, key_hash: bytes, k: int) -> Best:
        """The ``k`` best rows of one silo's reply; IntegrityError when it is malformed."""
        if len(scores.handle_key) != KEY_BYTES:
            raise IntegrityError("the key of a silo's handles is of another size")
        secret = self._secret(key_hash)
        return await asyncio.to_thread(_best, secret, scores, k)


@dataclass(frozen=True, slots=True, eq=False)
class Best:
    """The best rows of one silo, best first: their places and masked scores."""

    handle_key: bytes
    places: NDArray[np.int64]
    _masked: NDArray[np.int32]


def _best(secret: SecretKey, scores: SealedScores, k: int) -> Best:
    masked = secret.open_scores(scores.scores)
    places = np.argsort(-masked, kind="stable")[:k]
    return Best(scores.handle_key, places, masked[places])


def merge_sealed(
    replies: Mapping[NodeId, Best], k: int, quotas: Mapping[NodeId, int] | None = None
) -> list[Winner]:
    """At most ``k`` winners of all silos, best first; ties keep the order of silos and rows.

    quotas   most winners of a silo, see ``merge.merge``
    """
    silos = [silo for silo, best in replies.items() for _ in best.places]
    if not silos:
        return []
    masked = np.concatenate([best._masked for best in replies.values()])
    handles = [
        handle
        for best in replies.values()
        for handle in handles_of(best.handle_key, best.places.tolist())
    ]
    ranked = [(silos[i], handles[i]) for i in np.argsort(-masked, kind="stable").tolist()]
    return [Winner(silo, handle) for silo, handle in within(ranked, quotas or {}, k)]
