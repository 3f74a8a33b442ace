"""Named places at which a process can be told to die, to try out what survives it.

``SILOQUY_CRASH_AT=release-committed`` kills the process with SIGKILL when it comes to that place,
``release-committed:3`` the third time. Without the variable the places do nothing. Every command
that runs with it says so loudly.
"""

from __future__ import annotations

import difflib
import os
import signal
from itertools import count

from siloquy.errors import SettingsError

VARIABLE = "SILOQUY_CRASH_AT"
POINTS = {
    "batch-embedded": "ingest: a batch has its vectors and is not stored yet",
    "document-stored": "ingest: a document is written, its batch not committed",
    "batch-stored": "ingest: a batch is committed, what it could not read not noted yet",
    "batch-done": "ingest: a batch and its quarantine are committed",
    "rejections-noted": "ingest: rejections are written and not committed",
    "before-settling": "ingest: all batches are done, mended files still in quarantine",
    "document-dropped": "delete: a document is gone, not committed",
    "embeddings-kept": "embedding cache: a block is written and not committed",
    "question-noted": "search: the question is marked as seen, not committed",
    "question-seen": "search: the question is marked as seen for good, not searched for yet",
    "release-begun": "release: nothing is written yet",
    "release-charged": "release: budget and ledger are written, not committed",
    "release-committed": "release: budget and ledger are committed, the passages are still here",
    "profile-numbered": "profile: its number is used up, the profile not made yet",
    "profile-charged": "profile: a noised one is paid for and not made yet",
    "head-noted": "gateway: a ledger head is written and not committed",
    "head-kept": "gateway: a ledger head is kept, its passages not used yet",
    "receipt-signed": "gateway: the receipt is signed, the answer still here",
    "invitation-used": "hub: an invitation is used up, not committed",
    "enrolled": "hub: a newcomer waits for the founders and has not been told",
    "profile-noted": "hub: a silo's profile is written and not committed",
    "roster-written": "any node: a new roster lies beside the old one",
    "roster-adopted": "hub: the new roster is in place, who it signs in still waits",
}

_armed = os.environ.get(VARIABLE, "")
_passed = {name: count(1) for name in POINTS}


def point(name: str) -> None:
    """Return, or never when the variable names this place and passage."""
    if _armed:
        _pass(name)


def armed() -> str:
    """What the variable says; SettingsError when it names no place, empty when it is not set."""
    name, _, passage = _armed.partition(":")
    if name and (name not in POINTS or not (passage or "1").isdecimal()):
        near = difflib.get_close_matches(name, POINTS, n=1) or ["release-committed"]
        raise SettingsError(
            f"{VARIABLE} is {_armed!r}, which names no place", f"such as {near[0]} or {near[0]}:2"
        )
    return _armed


def _pass(name: str) -> None:
    wanted, _, passage = _armed.partition(":")
    if name == wanted and next(_passed[name]) == int(passage or 1):
        os.kill(os.getpid(), signal.SIGKILL)
