"""The silo's profile: when it is made anew, and what that may cost.

Without noise it follows the content. With noise each making tells a little more of the documents,
is charged to the year's budget first, and is kept: until the next it is sent again as it is,
whatever was deleted meanwhile. When one is made is not hidden: it tells of an ingest after
``refresh_days``, or of one that changed the size by half. Nor is it hidden that a silo is empty.

The account knows one unit: who changes ``unit`` to patients has told more of them before, by
documents, than the account says.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np

from siloquy import crash
from siloquy.codec import decode, encode
from siloquy.database import file_failed, transaction
from siloquy.errors import BudgetExhausted
from siloquy.ports import Embedder
from siloquy.settings import ProfileSettings
from siloquy.silo_node.index import Ids
from siloquy.silo_node.privacy import Draw, Releases, period_of, sigma
from siloquy.silo_node.sketch import Content, noised_sketch, sketch
from siloquy.silo_node.store import Store
from siloquy.text import lexicon as lexicons
from siloquy.text import topics as topic_lists
from siloquy.text.lexicon import Lexicon
from siloquy.text.topics import Topics
from siloquy.types import EncoderSpec, NodeId, Profile
from siloquy.wire.calls import MOST_PROFILE_BYTES

LIFETIME_MS = 24 * 3600 * 1000
DAY_MS = 24 * 3600 * 1000
# A silo that has grown or shrunk by so much, and by more than the noise of its size, is described
# anew at once.
GROWN, LEAST_GROWN = 1.5, 40
LOCK_NAME = "profile.lock"
# Format of the kept content: one of another version is made anew.
_FORM = 1
Renewal = Literal["made", "kept", "spent"]
"""A noised profile was made; the kept one serves on; or it would, had the budget not been spent."""
_log = logging.getLogger(__name__)


def describe(
    store: Store, encoder: Embedder, settings: ProfileSettings, clock: Callable[[], int]
) -> Renewal:
    """After an ingest: keep the topics' vectors, and renew a noised profile that is due."""
    topic_lists.prepare(store.connection, encoder)
    return Profiler(store, encoder.spec, settings, clock).renew()


@dataclass(frozen=True, slots=True)
class _Kept:
    """A noised content, when it was made, and of which and how many passages."""

    content: bytes
    made: int
    fingerprint: bytes
    passages: int


class Profiler:
    """Profiles of one store, under the silo's settings."""

    def __init__(
        self,
        store: Store,
        spec: EncoderSpec,
        settings: ProfileSettings,
        clock: Callable[[], int],
        draw: Draw = os.urandom,
    ) -> None:
        self._store = store
        self._spec = spec
        self._settings = settings
        self._clock = clock
        self._draw = draw
        self._failed = -DAY_MS

    @property
    def noised(self) -> bool:
        """Whether this silo's profiles are differentially private."""
        return self._settings.epsilon < math.inf

    def spent(self) -> float:
        """Epsilon of this year's noised profiles together."""
        with self._store.lock:
            releases = Releases(self._store.connection)
            return releases.spent(period_of(self._clock()), self._settings.delta)

    def profile(self, silo: NodeId, version: int, lexicon: Lexicon) -> Profile:
        """The profile to send now under ``version``."""
        now, settings = self._clock(), self._settings
        content = self._noised_content() if self.noised else self._plain_content()
        whole = Profile(
            silo=silo,
            version=version,
            created=now,
            expires=now + LIFETIME_MS,
            encoder=self._spec,
            anchors=topic_lists.anchors(self._spec),
            epsilon=settings.epsilon if self.noised else None,
            delta=settings.delta if self.noised else 0.0,
            unit=settings.unit,
            frequencies=b"" if self.noised or not content.topics else self._words(lexicon),
            **{field.name: getattr(content, field.name) for field in fields(content)},
        )
        return fitting(whole)

    def told(self) -> Content:
        """What is told of the content now, without making a noised one for it."""
        if not self.noised:
            return self._plain_content()
        with self._store.lock:
            if not len(self._store.numbers()):
                return Content(0)
            kept = self._kept()
        return decode(Content, kept.content) if kept else Content(1)

    def made(self) -> int:
        """When the noised content in use was made; 0 where there is none."""
        with self._store.lock:
            kept = self._kept()
        return kept.made if kept else 0

    def renew(self) -> Renewal:
        """Make a noised profile if one is due; after an ingest, so that no half of it is told."""
        if not self.noised:
            return "kept"
        try:
            return "made" if self.make(self._due) else "kept"
        except BudgetExhausted as error:
            _log.warning("profile kept: %s", error.message)
            return "spent"

    def make(self, wanted: Callable[[], bool] = lambda: True) -> bool:
        """Whether a noised profile was made: not unless ``wanted``, nor of a silo without passages.

        One process at a time: what is wanted is asked when no other makes one. BudgetExhausted
        when the year's budget does not allow it.
        """
        with self._alone():
            with self._store.lock:
                ready = len(self._store.numbers()) and self._topics() and wanted()
            if ready:
                self._make()
            return bool(ready)

    # -- without noise --------------------------------------------------------------------------

    def _plain_content(self) -> Content:
        with self._store.snapshot():
            _, vectors = self._store.vectors()
            groups, topics = self._store.groups(self._settings.unit), self._topics()
        if topics is None:
            return Content(len(vectors))
        return sketch(vectors, groups, topics, self._settings.least_passages)

    def _words(self, lexicon: Lexicon) -> bytes:
        with self._store.lock:
            return lexicons.pack(self._store.frequencies(lexicon))

    def _topics(self) -> Topics | None:
        found = topic_lists.read(self._store.connection, self._spec)
        if found is None:
            _log.warning("no topics here yet: only the size is told; run `siloquy silo ingest`")
        return found

    # -- with noise -----------------------------------------------------------------------------

    def _noised_content(self) -> Content:
        """The kept content; made first where there is none of these settings.

        Where that fails, for want of budget or of disk, a day passes before it is tried again: each
        try may have been charged. Until then it is told that the silo is not empty, as it is while
        there are no topics.
        """
        with self._store.lock:
            missing = self._kept() is None and self._topics() is not None
        if missing and self._clock() - self._failed >= DAY_MS:
            try:
                self.make(lambda: self._kept() is None)
            except BudgetExhausted as error:
                self._failed = self._clock()
                _log.warning("only told that the silo is not empty: %s", error.message)
            except Exception:
                self._failed = self._clock()
                raise
        return self.told()

    def _make(self) -> None:
        """Charge, then draw the noise: a crash between the two costs budget only."""
        now, settings, store = self._clock(), self._settings, self._store
        epsilon, delta = settings.epsilon, settings.delta
        # Loads dp-accounting, which takes seconds: not while searches wait for the lock.
        multiplier = sigma(epsilon, delta)
        with store.snapshot():
            numbers, vectors = store.vectors()
            groups, topics = store.groups(settings.unit), self._topics()
        if topics is None:
            return
        with store.lock:
            Releases(store.connection).charge(
                now, multiplier, epsilon, delta, period_of(now), settings.yearly
            )
        crash.point("profile-charged")
        least = settings.least_passages
        content = noised_sketch(vectors, groups, topics, least, epsilon, delta, self._draw)
        row = (self._recipe(), encode(content), now, _fingerprint(numbers), len(numbers))
        with store.lock, transaction(store.connection) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO profile_contents VALUES (?, ?, ?, ?, ?)", row
            )

    def _due(self) -> bool:
        """Whether the content has changed enough, or long enough ago."""
        kept = self._kept()
        if kept is None:
            return True
        numbers = self._store.numbers()
        if kept.fingerprint == _fingerprint(numbers):
            return False
        fewer, more = sorted((max(len(numbers), 1), max(kept.passages, 1)))
        jumped = more >= GROWN * fewer and more - fewer >= LEAST_GROWN
        return jumped or self._clock() - kept.made >= self._settings.refresh_days * DAY_MS

    def _kept(self) -> _Kept | None:
        row = self._store.connection.execute(
            "SELECT content, made, fingerprint, passages FROM profile_contents WHERE recipe = ?",
            (self._recipe(),),
        ).fetchone()
        return None if row is None else _Kept(*row)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread or process makes a profile of this store meanwhile."""
        (_, _, path), *_ = self._store.connection.execute("PRAGMA database_list")
        lock_path = Path(path).with_name(LOCK_NAME)
        try:
            lock = lock_path.open("w")
        except OSError as error:
            raise file_failed(lock_path, error) from None
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _recipe(self) -> str:
        """What a content depends on beside the documents."""
        settings, about = self._settings, topic_lists.anchors(self._spec)
        return f"{_FORM}/{about}/{settings.epsilon}/{settings.delta}/{settings.unit}"


def _fingerprint(numbers: Ids) -> bytes:
    """Changes with every passage that comes or goes."""
    return hashlib.sha256(np.ascontiguousarray(numbers, dtype="<i8").tobytes()).digest()


def fitting(profile: Profile) -> Profile:
    """The profile within 32 KB: with fewer directions a cell, at last without word counts."""
    while len(encode(profile)) > MOST_PROFILE_BYTES and profile.rank:
        profile = _narrower(profile)
    return (
        profile if len(encode(profile)) <= MOST_PROFILE_BYTES else replace(profile, frequencies=b"")
    )


def _narrower(profile: Profile) -> Profile:
    """The profile with one direction less of each cell."""
    cells, rank = len(profile.counts), profile.rank
    kept = np.arange(cells * rank) % rank != rank - 1
    rows = np.frombuffer(profile.directions, dtype=np.uint8).reshape(cells * rank, -1)
    return replace(
        profile,
        rank=rank - 1,
        directions=rows[kept].tobytes(),
        variances=tuple(np.array(profile.variances)[kept].tolist()),
    )
