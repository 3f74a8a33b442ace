"""Profiles as the gateway uses them: opened, checked, never older than one seen before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siloquy import envelope as envelopes
from siloquy import lexicon as lexicons
from siloquy.database import connect, transaction
from siloquy.errors import IntegrityError, MissingReason, SiloquyError, StorageFailed
from siloquy.identity import Identity
from siloquy.lexicon import Lexicon
from siloquy.roster import SignedRoster
from siloquy.types import EncoderSpec, Missing, NodeId, Profile, Vector

MOST_BYTES = 48 * 1024
MOST_CENTROIDS = 64
_INT8_SCALE = 127
_SCHEMA = "CREATE TABLE IF NOT EXISTS versions (silo TEXT PRIMARY KEY, version INTEGER NOT NULL)"


@dataclass(frozen=True, slots=True)
class Opened:
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
        # Asked every few seconds: a version that is known already needs no write.
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
) -> Opened:
    """What can be trusted of the sealed profiles that the hub handed over."""
    profiles: dict[NodeId, Profile] = {}
    refused: list[Missing] = []
    for data in sealed:
        silo = NodeId("unknown")
        try:
            # The hub's word for the sender counts only where the roster knows the name.
            silo = roster.member(envelopes.read_header(data).sender, "silo").node
            profile = open_one(data, identity, roster, now)
            versions.accept(profile.silo, profile.version)
            profiles[profile.silo] = profile
        except SiloquyError as error:
            reason: MissingReason = "failed" if isinstance(error, StorageFailed) else "integrity"
            refused.append(Missing(silo, reason, error.message))
    return Opened(tuple(profiles[silo] for silo in sorted(profiles)), tuple(refused))


def countable(opened: Opened, lexicon: Lexicon) -> Opened:
    """``opened`` without profiles whose word frequencies do not fit the lexicon."""
    profiles, refused = list[Profile](), list(opened.refused)
    for profile in opened.profiles:
        try:
            lexicons.unpack(profile.frequencies, lexicon)
            profiles.append(profile)
        except IntegrityError as error:
            refused.append(Missing(profile.silo, "integrity", error.message))
    return Opened(tuple(profiles), tuple(refused))


def open_one(data: bytes, identity: Identity, roster: SignedRoster, now: int) -> Profile:
    """One profile, sent by the silo that it describes, in this federation's encoder."""
    if len(data) > MOST_BYTES:
        raise IntegrityError(f"a profile of {len(data)} bytes, at most {MOST_BYTES}")
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
    m = len(profile.counts)
    if (profile.encoder.sha256, profile.encoder.dimension) != (encoder.sha256, encoder.dimension):
        raise IntegrityError(f"the profile of {profile.silo} is of another encoder")
    if m > MOST_CENTROIDS or len(profile.radii) != m:
        raise IntegrityError(f"the profile of {profile.silo} has {m} centroids or odd radii")
    if len(profile.centroids) != m * encoder.dimension:
        raise IntegrityError(f"the profile of {profile.silo} has centroids of another size")
    numbers = (profile.size, *profile.counts, *profile.radii)
    if any(number < 0 for number in numbers) or sum(profile.counts) > profile.size:
        raise IntegrityError(f"the profile of {profile.silo} counts wrong")


def centroids(profile: Profile) -> Vector:
    """(m, d) float32 cluster means."""
    codes = np.frombuffer(profile.centroids, dtype=np.int8).astype(np.float32)
    return codes.reshape(-1, profile.encoder.dimension) / np.float32(_INT8_SCALE)
