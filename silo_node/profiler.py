"""The silo's profile: when it is made anew, and what that may cost.

Without noise it follows the content. With noise each making tells a little more of the documents,
is charged to the year's budget first, and is kept: until the next it is sent again as it is.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Literal

import numpy as np

from siloquy import lexicon as lexicons
from siloquy import topics as topic_lists
from siloquy.codec import decode, encode
from siloquy.database import transaction
from siloquy.errors import BudgetExhausted
from siloquy.lexicon import Lexicon
from siloquy.ports import Embedder
from siloquy.settings import ProfileSettings
from siloquy.silo_node.privacy import Draw, Releases, period_of, sigma
from siloquy.silo_node.sketch import Content, noised_sketch, sketch
from siloquy.silo_node.store import Store
from siloquy.topics import Topics
from siloquy.types import EncoderSpec, NodeId, Profile

MOST_BYTES = 32 * 1024
LIFETIME_MS = 24 * 3600 * 1000
DAY_MS = 24 * 3600 * 1000
# A silo that has grown or shrunk by so much is described anew at once.
GROWN = 1.5
Renewal = Literal["made", "kept", "spent"]
"""A noised profile was made; the kept one serves on; or it would, had the budget not been spent."""
_log = logging.getLogger(__name__)


def describe(
    store: Store, encoder: Embedder, settings: ProfileSettings, clock: Callable[[], int]
) -> Renewal:
    """After an ingest: keep the topics' vectors, and renew a noised profile that is due."""
    topic_lists.prepare(store.connection, encoder)
    return Profiler(store, encoder.spec, settings, clock).renew()


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
        """The profile to send now under ``version``.

        BudgetExhausted when there is none yet and the year's budget does not allow one.
        """
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
        return _fitting(whole)

    def made(self) -> int:
        """When the noised content in use was made; 0 where there is none."""
        with self._store.lock:
            kept = self._kept()
        return kept[1] if kept else 0

    def renew(self) -> Renewal:
        """Make a noised profile if one is due; after an ingest, so that no half of it is told."""
        with self._store.lock:
            if not self.noised or not len(self._store.numbers()) or not self._due():
                return "kept"
            try:
                self._make()
            except BudgetExhausted as error:
                _log.warning("profile kept: %s", error.message)
                return "spent"
            return "made"

    # -- without noise --------------------------------------------------------------------------

    def _plain_content(self) -> Content:
        with self._store.lock:
            _, vectors = self._store.vectors()
            groups = self._store.groups(self._settings.unit)
            topics = self._topics()
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
        """The kept content; made first where there is none of these settings."""
        with self._store.lock:
            if not len(self._store.numbers()):
                return Content(0)
            if self._topics() is None:
                # Nothing about it is noised, so nothing about it is told but that it is not empty.
                return Content(1)
            kept = self._kept()
            if kept is None:
                self._make()
                kept = self._kept()
            assert kept is not None  # noqa: S101 - just made, under the same lock
            return decode(Content, kept[0])

    def _make(self) -> None:
        """Charge, then draw the noise: a crash between the two costs budget only."""
        now, settings = self._clock(), self._settings
        topics = self._topics()
        if topics is None:
            return
        _, vectors = self._store.vectors()
        groups = self._store.groups(settings.unit)
        Releases(self._store.connection).charge(
            now,
            sigma(settings.epsilon, settings.delta),
            settings.epsilon,
            settings.delta,
            period_of(now),
            settings.yearly,
        )
        content = noised_sketch(
            vectors,
            groups,
            topics,
            settings.least_passages,
            settings.epsilon,
            settings.delta,
            self._draw,
        )
        row = (self._recipe(), encode(content), now, self._fingerprint(), len(vectors))
        with transaction(self._store.connection) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO profile_contents VALUES (?, ?, ?, ?, ?)", row
            )

    def _due(self) -> bool:
        """Whether the content has changed enough, or long enough ago."""
        kept = self._kept()
        if kept is None:
            return True
        _, made, fingerprint, passages = kept
        if fingerprint == self._fingerprint():
            return False
        now = max(self._store.counts().passages, 1)
        grown = max(now / max(passages, 1), max(passages, 1) / now) >= GROWN
        return grown or self._clock() - made >= self._settings.refresh_days * DAY_MS

    def _kept(self) -> tuple[bytes, int, bytes, int] | None:
        """Content, when it was made, from what, and of how many passages."""
        found = self._store.connection.execute(
            "SELECT content, made, fingerprint, passages FROM profile_contents WHERE recipe = ?",
            (self._recipe(),),
        ).fetchone()
        return None if found is None else (found[0], found[1], found[2], found[3])

    def _recipe(self) -> str:
        """What a content depends on beside the documents."""
        settings = self._settings
        return (
            f"{topic_lists.anchors(self._spec)}/{settings.epsilon}/{settings.delta}/{settings.unit}"
        )

    def _fingerprint(self) -> bytes:
        """Changes with every passage that comes or goes."""
        numbers = np.ascontiguousarray(self._store.numbers(), dtype="<i8")
        return hashlib.sha256(numbers.tobytes()).digest()


def _fitting(profile: Profile) -> Profile:
    """The profile with as many directions a cell as 32 KB allow."""
    while len(encode(profile)) > MOST_BYTES and profile.rank:
        profile = _narrower(profile)
    return profile


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
