"""Profiles as the gateway uses them: opened, checked, never older than one seen before."""

from __future__ import annotations

import dataclasses
import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siloquy.codec import encode
from siloquy.database import connect, transaction
from siloquy.errors import IntegrityError, MissingReason, SiloquyError, StorageFailed
from siloquy.text import lexicon as lexicons
from siloquy.text import topics as topic_lists
from siloquy.text.lexicon import Lexicon
from siloquy.trust.identity import Identity
from siloquy.trust.roster import SignedRoster
from siloquy.types import EncoderSpec, Missing, NodeId, Profile, Vector
from siloquy.wire import envelope as envelopes
from siloquy.wire.calls import MOST_PROFILE_BYTES

# What sealing for many gateways and padding add at most.
MOST_SEALED_BYTES = 48 * 1024
MOST_CELLS = 16
MOST_RANK = 8
_INT8_SCALE = 127
# Rounding to int8 moves a squared length by .01; noise is that many deviations longer at most.
ROUNDING, SURE = 0.05, 6.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS versions (silo TEXT PRIMARY KEY, version INTEGER NOT NULL)"


@dataclass(frozen=True, slots=True)
class OpenedProfiles:
    """Profiles that hold and, by silo, why another does not."""

    profiles: tuple[Profile, ...]
    refused: tuple[Missing, ...]


class Versions:
    """The newest profile version seen of each silo; survives restarts."""

    def __init__(self, path: Path) -> None:
        self._connection: sqlite3.Connection = connect(path, _SCHEMA)

    def accept(self, silo: NodeId, version: int) -> None:
        """Remember ``version``; IntegrityError when a newer one was seen."""
        query = "SELECT version FROM versions WHERE silo = ?"
        # Called every few seconds: write only when the version is new.
        if self._connection.execute(query, (silo,)).fetchone() == (version,):
            return
        with transaction(self._connection) as connection:
            row = connection.execute(query, (silo,)).fetchone()
            if row and row[0] > version:
                raise IntegrityError(f"profile of {silo} rolled back from {row[0]} to {version}")
            connection.execute("INSERT OR REPLACE INTO versions VALUES (?, ?)", (silo, version))


def open_all(
    sealed: Iterable[bytes],
    identity: Identity,
    roster: SignedRoster,
    versions: Versions,
    now: int,
    kept: Iterable[Profile] = (),
) -> OpenedProfiles:
    """What can be trusted of the sealed profiles that the hub handed over.

    kept   profiles opened before: one whose silo hands over a bad one now serves on until it
           expires, and the refusal is told
    """
    profiles: dict[NodeId, Profile] = {}
    refused: list[Missing] = []
    for data in sealed:
        silo = NodeId("unknown")
        try:
            # The sender's name is the hub's word: it is shown only where the roster holds it.
            silo = roster.member(envelopes.read_header(data).sender, "silo").node
            profile = open_one(data, identity, roster, now)
            versions.accept(profile.silo, profile.version)
            profiles[profile.silo] = profile
        except SiloquyError as error:
            reason: MissingReason = "failed" if isinstance(error, StorageFailed) else "integrity"
            refused.append(Missing(silo, reason, error.message))
    return _with_kept(profiles, refused, kept, now)


def _with_kept(
    profiles: dict[NodeId, Profile], refused: Sequence[Missing], kept: Iterable[Profile], now: int
) -> OpenedProfiles:
    """The good profiles and, where any was refused, the kept ones of silos without a new one.

    All of them: a spoilt one may not even tell whose it was to be.
    """
    for old in kept:
        if refused and old.expires >= now:
            profiles.setdefault(old.silo, old)
    return OpenedProfiles(tuple(profiles[silo] for silo in sorted(profiles)), tuple(refused))


def countable(
    opened: OpenedProfiles, lexicon: Lexicon, now: int = 0, kept: Iterable[Profile] = ()
) -> OpenedProfiles:
    """``opened`` without profiles whose word counts do not fit the lexicon; see ``open_all``."""
    profiles, refused = dict[NodeId, Profile](), list(opened.refused)
    for profile in opened.profiles:
        try:
            if profile.frequencies:
                lexicons.unpack(profile.frequencies, lexicon)
            profiles[profile.silo] = profile
        except IntegrityError as error:
            refused.append(Missing(profile.silo, "integrity", error.message))
    return _with_kept(profiles, refused, kept, now)


def open_one(data: bytes, identity: Identity, roster: SignedRoster, now: int) -> Profile:
    """One profile, sent by the silo that it describes, in this federation's encoder."""
    if len(data) > MOST_SEALED_BYTES:
        raise IntegrityError(f"a sealed profile of {len(data)} bytes, at most {MOST_SEALED_BYTES}")
    received = envelopes.receive(data, roster, role="silo", kind="profile", now=now)
    profile = envelopes.open_body(received, identity, Profile)
    if profile.silo != received.sender.node:
        raise IntegrityError(f"{received.sender.node} sent a profile of another silo")
    if profile.expires < now:
        raise IntegrityError(f"the profile of {profile.silo} has expired")
    check(profile, roster.roster.encoder)
    return profile


def check(profile: Profile, encoder: EncoderSpec) -> None:
    """IntegrityError when a profile's numbers contradict each other or the encoder."""
    of = f"the profile of {profile.silo}"
    size = len(encode(profile))
    if size > MOST_PROFILE_BYTES:
        raise IntegrityError(f"{of} has {size} bytes, at most {MOST_PROFILE_BYTES}")
    if (profile.encoder.sha256, profile.encoder.dimension) != (encoder.sha256, encoder.dimension):
        raise IntegrityError(f"{of} is of another encoder")
    if profile.anchors != topic_lists.anchors(encoder):
        raise IntegrityError(f"{of} is about another list of topics", "update silo or gateway")
    if not _sized(profile, encoder.dimension):
        raise IntegrityError(f"{of} has {len(profile.counts)} cells, or parts of another size")
    numbers = (profile.size, profile.topic_noise, *profile.counts, *profile.noises)
    if any(number < 0 for number in (*numbers, *profile.spreads, *profile.variances)):
        raise IntegrityError(f"{of} holds a negative number")
    if sum(profile.counts) > profile.size * (1 + 1e-6):
        raise IntegrityError(f"{of} counts wrong")
    if profile.epsilon is not None and (profile.epsilon <= 0 or not 0 < profile.delta < 1):
        raise IntegrityError(f"{of} names no privacy that there is")
    if not _possible(profile):
        raise IntegrityError(f"{of} has cells that no vectors of length 1 have")
    if not np.isfinite(near_topics(profile)).all():
        raise IntegrityError(f"{of} holds a topic without a number")


def _sized(profile: Profile, d: int) -> bool:
    """Whether all parts are there and of the size that the others imply."""
    m, r = len(profile.counts), profile.rank
    told = 2 * len(topic_lists.names()) if m else len(profile.topics)
    return (
        m <= MOST_CELLS
        and 0 <= r <= MOST_RANK
        and len(profile.noises) == len(profile.spreads) == m
        and len(profile.centroids) == m * d
        and len(profile.directions) == m * r * ((d + 1) // 2)
        and len(profile.variances) == m * r
        and len(profile.topics) == told
        and len(profile.topics) in (0, 2 * len(topic_lists.names()))
    )


def _possible(profile: Profile) -> bool:
    """Whether vectors of unit length can have these cells, but for noise and rounding.

    Of such vectors the squared length of the mean and the mean squared distance to it are 1
    together. Without this a forged cell could claim to be nearer to any question than can be.
    """
    lengths = np.linalg.norm(centroids(profile), axis=1)
    spreads = np.array(profile.spreads)
    along = np.array(profile.variances).reshape(len(spreads), profile.rank).sum(axis=1)
    noise = (np.sqrt(profile.encoder.dimension) + SURE) * np.array(profile.noises)
    whole = lengths**2 + spreads if profile.epsilon is None else np.maximum(lengths - noise, 0) ** 2
    return bool((whole <= 1 + ROUNDING).all() and (along <= spreads + ROUNDING).all())


def centroids(profile: Profile) -> Vector:
    """(m, d) float32 means of the cells."""
    codes = np.frombuffer(profile.centroids, dtype=np.int8).astype(np.float32)
    return codes.reshape(-1, profile.encoder.dimension) / np.float32(_INT8_SCALE)


def directions(profile: Profile) -> Vector:
    """(m * rank, d) float32 unit vectors; zeros for a direction that the cell does not have."""
    d = profile.encoder.dimension
    packed = np.frombuffer(profile.directions, dtype=np.uint8).reshape(-1, (d + 1) // 2)
    nibbles = np.empty((len(packed), 2 * packed.shape[1]), dtype=np.int8)
    nibbles[:, 0::2], nibbles[:, 1::2] = packed & 0x0F, packed >> 4
    rows = np.where(nibbles > 7, nibbles - 16, nibbles)[:, :d].astype(np.float32)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1))


def near_topics(profile: Profile) -> NDArray[np.float64]:
    """(topics,) how much lies near each topic, noise included; empty when it is not told."""
    return np.frombuffer(profile.topics, dtype="<f2").astype(np.float64)


def content_hash(profile: Profile) -> bytes:
    """The same for two profiles that say the same of the content."""
    plain = dataclasses.replace(profile, version=0, created=0, expires=0)
    return hashlib.sha256(encode(plain)).digest()
