"""The contract between parties: who may call what on whom, with which message, within what limits.

| verb          | from        | to   | request         | reply                         |
|---------------|-------------|------|-----------------|-------------------------------|
| `enrol`       | a newcomer  | hub  | `Enrolment`     | nothing                       |
| `publish`     | silo        | hub  | sealed profile  | nothing                       |
| `gather`      | gateway     | hub  | `Gather`        | `MergeReply`                  |
| `collect`     | gateway     | hub  | `Collect`       | sealed `ReleaseReply`         |
| `profiles`    | gateway     | hub  | nothing         | `Profiles`                    |
| `sealing_key` | gateway     | hub  | nothing         | signed `SealingKey`           |
| `search`      | hub         | silo | sealed question | signed `SearchReply`          |
| `release`     | hub         | silo | sealed request  | sealed `ReleaseReply`         |
| `roster`      | hub         | any  | `SignedRoster`  | nothing                       |

Messages that are values of the whole project, such as ``SearchReply``, stand in
``siloquy/types.py``; those of one call alone stand here. A new verb is a row of ``CALLS``, a
handler at its callee, and for a gateway's own calls a method in ``siloquy.wire.remote``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from siloquy.sealed.handles import HANDLE_BYTES as HANDLE_BYTES
from siloquy.trust.roster import SignedRoster
from siloquy.types import MergeReply, NodeId, SealingKey, SearchReply
from siloquy.wire.envelope import Envelope

Party = Literal["newcomer", "silo", "gateway", "hub"]


class Verb(StrEnum):
    """What a node may be asked to do; the only place where a verb is spelled."""

    ENROL = "enrol"
    PUBLISH = "publish"
    GATHER = "gather"
    COLLECT = "collect"
    PROFILES = "profiles"
    SEALING_KEY = "sealing_key"
    SEARCH = "search"
    RELEASE = "release"
    ROSTER = "roster"


# -- messages that are no values of the whole project --------------------------------------------


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a newcomer sends after its handshake."""

    secret: bytes


@dataclass(frozen=True, slots=True)
class Gather:
    """A gateway's phase-1 call."""

    envelope: bytes


@dataclass(frozen=True, slots=True)
class Collect:
    """A gateway's phase-2 call for one silo."""

    silo: NodeId
    envelope: bytes


@dataclass(frozen=True, slots=True)
class Profiles:
    """Sealed profiles that a gateway may open."""

    envelopes: tuple[bytes, ...]


# -- the calls -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """Who may call a verb on whom, and what goes there and back.

    request, reply   what the bytes decode to; None for none. An ``Envelope`` stays sealed to all
                     but its recipients
    signed           whether the reply is a ``Signed`` whose body decodes to ``reply``
    """

    callers: tuple[Party, ...]
    callees: tuple[Party, ...]
    request: type | None
    reply: type | None
    signed: bool = False


CALLS: Mapping[Verb, Call] = {
    Verb.ENROL: Call(("newcomer",), ("hub",), Enrolment, None),
    Verb.PUBLISH: Call(("silo",), ("hub",), Envelope, None),
    Verb.GATHER: Call(("gateway",), ("hub",), Gather, MergeReply),
    Verb.COLLECT: Call(("gateway",), ("hub",), Collect, Envelope),
    Verb.PROFILES: Call(("gateway",), ("hub",), None, Profiles),
    Verb.SEALING_KEY: Call(("gateway",), ("hub",), None, SealingKey, signed=True),
    Verb.SEARCH: Call(("hub",), ("silo",), Envelope, SearchReply, signed=True),
    Verb.RELEASE: Call(("hub",), ("silo",), Envelope, Envelope),
    Verb.ROSTER: Call(("hub",), ("silo", "gateway"), SignedRoster, None),
}


def callable_by(caller: Party, callee: Party) -> frozenset[Verb]:
    """The verbs that ``callee`` must answer to ``caller``, and no others."""
    return frozenset(
        verb for verb, call in CALLS.items() if caller in call.callers and callee in call.callees
    )


# -- limits: what one party sends and another refuses beyond --------------------------------------

MOST_K = 100
"""Passages of one question."""
MOST_DEPTH = 200
"""Candidates of each of a silo's two rankings."""
MOST_TERMS = 64
"""Weighted words of one question."""
MOST_WORD_CHARACTERS = 64
MOST_TERM_WEIGHT = 1e6
"""Far above any idf; sums of scores stay finite."""
QUERY_WORD = re.compile(rf"\w{{1,{MOST_WORD_CHARACTERS}}}")
"""What a word of a question looks like."""
UNIT_TOLERANCE = 1e-3
"""How far the length of a question's vector may be from 1."""
MOST_HITS = 2 * MOST_DEPTH
"""Candidates in one silo's reply: those of both rankings."""
TAG_BYTES = 8
"""Of a document's tag; a handle has ``HANDLE_BYTES``."""
MOST_PROFILE_BYTES = 32 * 1024
"""A profile, before it is sealed."""
MOST_PASSAGE_CHARACTERS = 60_000
"""Far above what chunks of 2,048 word pieces come to, far below what would stop a gateway."""
MOST_TITLE_CHARACTERS = 10_000
"""The title of a passage's document, and the document's name."""
MOST_SECTION_CHARACTERS = 200
"""The headings that a passage stands under."""
