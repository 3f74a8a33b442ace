"""What a silo's monitor shows of its store, read without waiting for the silo's own work."""

from __future__ import annotations

from pathlib import Path

from siloquy.settings import ReleasePolicy
from siloquy.silo_node import guards, pause
from siloquy.silo_node.release import day_of
from siloquy.types import NodeId
from siloquy.watch.health import reader
from siloquy.watch.metrics import Holdings


def holdings(path: Path, policy: ReleasePolicy, now: int) -> Holdings:
    """Counts of the store at ``path``, and what each approved gateway may still get today."""
    with reader(path) as connection:
        documents, passages, entries = connection.execute(
            "SELECT (SELECT count(*) FROM documents), (SELECT count(*) FROM passages), "
            "(SELECT coalesce(max(number), 0) FROM ledger)"
        ).fetchone()
        spent = {
            gateway: guards.spent(connection, NodeId(gateway), day_of(now))
            for gateway in policy.gateways
        }
        paused = pause.current(connection) is not None
    left = {gateway: max(policy.passages_per_day - n, 0) for gateway, n in spent.items()}
    return Holdings(documents, passages, entries, paused, left)
