"""A silo as the console shows it: read from its folder, whether it is being served or not."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from siloquy import settings as settings_files
from siloquy.codec import to_json
from siloquy.process import serving_since
from siloquy.settings import SiloSettings
from siloquy.silo_node import pause, spending
from siloquy.silo_node.console import audit_log, policy_text
from siloquy.silo_node.console.audit_log import AuditLogFilter, AuditLogPage, LedgerVerdict
from siloquy.silo_node.console.overview import DocumentPage, overview, shelf
from siloquy.silo_node.pause import Pause
from siloquy.silo_node.profiler import Profiler
from siloquy.silo_node.store import Store, opened_to_read
from siloquy.text.embed import encoder_spec
from siloquy.trust import identity as identities
from siloquy.trust.identity import fingerprint
from siloquy.trust.roster import membership
from siloquy.types import EncoderSpec
from siloquy.watch import health
from siloquy.watch.health import Probe

MOST_QUARANTINED = 500


@dataclass(frozen=True, slots=True)
class SiloCondition:
    """How the silo's process does.

    line      whether the hub can reach it; None where nobody can tell: no monitor.port is set
    lacking   what is not well, then what it lacks to be asked, by the codes of
              ``siloquy.watch.health``
    """

    serving: bool
    line: bool | None
    status: str
    lacking: tuple[str, ...]


class SiloFolder:
    """One silo's folder; every call reads anew and holds up no process that serves it."""

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        self.card = identities.load(folder).card
        self._folder = folder
        self._path = folder / "silo.sqlite"
        self._clock = clock
        # Made where there is none yet, and brought to the tables of this version.
        Store(self._path).close()

    @cached_property
    def _spec(self) -> EncoderSpec:
        # Cached: it hashes the encoder's weights.
        return encoder_spec(self._settings().encoder)

    def _settings(self) -> SiloSettings:
        return settings_files.read(SiloSettings, self._folder)

    def state(self) -> dict[str, Any]:
        """All of ``GET /v1/silo`` as JSON data."""
        settings = self._settings()
        with opened_to_read(self._path) as store:
            seen = to_json(overview(store, settings.policy, self._clock()))
            profiler = Profiler(store, self._spec, settings.profile, self._clock)
            privacy = spending.told(profiler, settings.profile, self._clock())
        quarantined = seen.pop("quarantined")
        return {
            "node": self.card.node,
            "organisation": self.card.organisation,
            "fingerprint": fingerprint(self.card.signing_key),
            "rostered": membership(self._folder, self.card),
            **self._condition(settings),
            **seen,
            "quarantined": quarantined[:MOST_QUARANTINED],
            "quarantined_total": len(quarantined),
            "policy": to_json(
                (*policy_text.policy(settings.policy), *policy_text.profile(settings.profile))
            ),
            "privacy": privacy,
        }

    def _condition(self, settings: SiloSettings) -> dict[str, Any]:
        since = serving_since(self._folder)
        found = condition(since is not None, settings.monitor.port, self._probes())
        return {
            "serving": found.serving,
            "line": found.line,
            "health": {"status": found.status, "lacking": list(found.lacking)},
            "restart_needed": since is not None and self._settings_written() > since,
        }

    def _probes(self) -> dict[str, Probe]:
        # Not the probe that writes: it would hold up the serving silo.
        return {"database": health.readable(self._path), "disk space": health.roomy(self._folder)}

    def _settings_written(self) -> int:
        return (self._folder / settings_files.FILE_NAME).stat().st_mtime_ns

    def ledger(self, wanted: AuditLogFilter, before: int | None, limit: int) -> AuditLogPage:
        """A page of what has left."""
        with opened_to_read(self._path) as store:
            return audit_log.page(store.connection, wanted, before, limit)

    def verify(self) -> LedgerVerdict:
        """Whether ledger and budget hold; takes a while with many entries."""
        with opened_to_read(self._path) as store:
            return audit_log.verified(store.connection, self._clock())

    def documents(self, query: str, after: str, limit: int) -> DocumentPage:
        """A page of what it holds, without text."""
        with opened_to_read(self._path) as store:
            return shelf(store, query, after, limit)

    def pause(self, by: str, reason: str) -> Pause:
        """Let nothing leave from now on; the pause in force."""
        with closing(Store(self._path)) as store:
            return pause.begin(store.connection, self._clock(), by, reason)

    def resume(self, by: str) -> None:
        """End a pause."""
        with closing(Store(self._path)) as store:
            pause.end(store.connection, self._clock(), by)


def condition(serving: bool, port: int, probes: dict[str, Probe]) -> SiloCondition:
    """How the silo does by its own word on ``port``, else by what can be seen from outside."""
    told = health.heard(port, "/healthz") if serving and port else None
    ready = health.heard(port, "/readyz") if serving and port else None
    if told is None or ready is None:
        lacking = tuple(code for code, holds in probes.items() if not _holds(holds))
        line = None if serving else False
        return SiloCondition(serving, line, "failing" if lacking else "ok", lacking)
    lacks = [str(code) for code in ready.get("lacking", ())]
    ill = [str(code) for code in told.get("lacking", ())]
    line = "hub line" not in lacks
    return SiloCondition(serving, line, "failing" if ill else "ok", (*ill, *lacks))


def _holds(probe: Probe) -> bool:
    try:
        return probe()
    except (OSError, sqlite3.Error):
        return False
