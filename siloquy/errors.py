"""Everything that Siloquy raises on purpose.

* SiloquyError             code, message, hint: what happened and what to do
  x UsageError             the call is malformed; correct it                         exit 2
  x SettingsError          a setting is missing or malformed; fix the file           exit 3
  x Unreachable            the node cannot be reached; the answer goes on without    exit 4
    x TimedOut             it did not reply in time                                  exit 4
  x PolicyDenied           the silo refused; do not retry                            exit 5
    x BudgetExhausted      its disclosure budget is spent; retry when it renews      exit 5
  x Incompatible           encoder, dimension or version differ; align the nodes     exit 5
  x IntegrityError         a signature, hash, ticket or chain does not hold          exit 6
  x Busy                   too much at once; retry later                             exit 4
  x StorageFailed          a disk is full, read-only or failing; make room, restart  exit 9

Messages name the key, the limit and the value got. Query and passage text never stand in them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

MissingReason = Literal["timeout", "refused", "unreachable", "failed", "incompatible", "integrity"]
"""How an answer names a silo that did not take part."""


class SiloquyError(Exception):
    """What every deliberate error carries: a code for programs, a message and a hint for people."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    missing: ClassVar[MissingReason] = "failed"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SiloquyError):
    """The call is malformed."""

    code = "usage"
    exit_code = 2


class SettingsError(SiloquyError):
    """A setting is missing or malformed."""

    code = "settings"
    exit_code = 3


class Unreachable(SiloquyError):
    """The node cannot be reached."""

    code = "unreachable"
    exit_code = 4
    missing: ClassVar[MissingReason] = "unreachable"


class TimedOut(Unreachable):
    """The node did not reply in time."""

    code = "timeout"
    missing = "timeout"


class Busy(SiloquyError):
    """Too many requests at once."""

    code = "busy"
    exit_code = 4


class StorageFailed(SiloquyError):
    """A file cannot be written or read: the disk is full, read-only or failing."""

    code = "storage"
    exit_code = 9


class PolicyDenied(SiloquyError):
    """The silo's policy refuses."""

    code = "denied"
    exit_code = 5
    missing = "refused"


class BudgetExhausted(PolicyDenied):
    """The disclosure budget is spent."""

    code = "budget"


class Incompatible(SiloquyError):
    """Encoder, dimension, mode or protocol version differ."""

    code = "incompatible"
    exit_code = 5
    missing = "incompatible"


class IntegrityError(SiloquyError):
    """A signature, hash, ticket or chain does not hold."""

    code = "integrity"
    exit_code = 6
    missing = "integrity"


EXIT_ABSTAINED = 7
EXIT_PARTIAL = 8

BY_CODE: dict[str, type[SiloquyError]] = {
    kind.code: kind
    for kind in (
        SiloquyError,
        UsageError,
        SettingsError,
        Unreachable,
        TimedOut,
        Busy,
        StorageFailed,
        PolicyDenied,
        BudgetExhausted,
        Incompatible,
        IntegrityError,
    )
}


def from_code(code: str, message: str, hint: str = "") -> SiloquyError:
    """The error that a peer reported by ``code``; an unknown code gives a plain SiloquyError."""
    return BY_CODE.get(code, SiloquyError)(message, hint)
