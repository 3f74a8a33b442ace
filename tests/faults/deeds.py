"""What nodes do in processes of their own, to be killed in the middle of it."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from siloquy import crash
from siloquy.aggregator.registry import Registry
from siloquy.errors import StorageFailed
from siloquy.settings import ProfileSettings
from siloquy.silo_node import ingest as ingesting
from siloquy.silo_node.reading.walk import read
from siloquy.silo_node.store import Store
from siloquy.text.embed import CachedEmbedder
from siloquy.trust import identity as identities
from siloquy.trust import roster as rosters
from siloquy.trust.heads import HeadBook
from siloquy.trust.ledger import HEAD_CONTEXT
from siloquy.types import DocumentId, LedgerHead
from tests.faults import clinic
from tests.silo_node.hospital import CHUNK_TOKENS, WordEmbedder, tokens
from tests.siloquy.federation import NOW

BATCH = 16


def ingest(folder: str, source: str) -> None:
    """``siloquy silo ingest`` with the embedder of words; every progress is acknowledged."""
    ingesting.BATCH_DOCUMENTS = BATCH
    store = Store(Path(folder) / "silo.sqlite")
    embedder = CachedEmbedder(WordEmbedder(), Path(folder) / "embeddings.sqlite")
    acknowledged = (Path(folder) / "acknowledged").open("a", buffering=1)

    def told(report: ingesting.IngestReport) -> None:
        done = report.added + report.replaced + report.unchanged
        acknowledged.write(f"{done} {len(report.rejected)}\n")

    ingesting.ingest(store, read(Path(source)), embedder, tokens, CHUNK_TOKENS, told)
    store.close()


def delete(folder: str, document: str) -> None:
    """``siloquy silo delete``."""
    store = Store(Path(folder) / "silo.sqlite")
    ingesting.remove(store, [DocumentId(document)])
    store.close()


def questions(folder: str, count: str) -> None:
    """A silo that is asked and asked for what won, as often as ``count`` says."""
    asyncio.run(clinic.Clinic(Path(folder)).answer(int(count)))


def cramped(folder: str) -> None:
    """A silo that is asked while its files may not grow, until it says so; then they may again."""
    silo = clinic.Clinic(Path(folder))
    asyncio.run(silo.ask())
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    log = Path(folder) / "silo.sqlite-wal"
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 40_000, hard))
    told = ""
    while not told:
        try:
            asyncio.run(silo.ask())
        except (StorageFailed, AssertionError) as error:
            told = str(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    Path(folder, "told").write_text(told[told.index("silo.sqlite") :])
    asyncio.run(silo.ask())


def profile(folder: str) -> None:
    """A silo that makes its profile."""
    clinic.Clinic(Path(folder)).profile()


def noised_profile(folder: str) -> None:
    """A silo that makes a noised profile, unless it has one."""
    clinic.Clinic(Path(folder), profile=ProfileSettings()).profile()


def keep_head(folder: str, entries: str) -> None:
    """A gateway that keeps a silo's ledger head."""
    federation = clinic.load_people(Path(folder))
    book = HeadBook(Path(folder) / "heads.sqlite")
    head = LedgerHead(clinic.NORTH, int(entries), bytes([int(entries)]) * 32, NOW + int(entries))
    signed = federation.north.sign(HEAD_CONTEXT, head)
    book.accept(federation.roster, signed, clinic.NORTH)


def answer(folder: str) -> None:
    """A gateway that answers a question; hub and silos live in its process."""
    asyncio.run(_answer(Path(folder)))


async def _answer(folder: Path) -> None:
    from siloquy.settings import AskSettings
    from tests.end_to_end.town import K, Town

    town = Town(folder, AskSettings(k=K, deadline_s=20.0))
    await town.start()
    await town.ask()
    await town.stop()


def enrol(folder: str, secret: str, newcomer: str) -> None:
    """A hub that a newcomer shows its invitation to."""
    card = identities.load(Path(newcomer)).card
    Registry(Path(folder) / "hub.sqlite").enrol(bytes.fromhex(secret), card, NOW)


def publish(folder: str, envelope: str) -> None:
    """A hub that is handed a profile."""
    Registry(Path(folder) / "hub.sqlite").publish(clinic.NORTH, envelope.encode(), NOW)


def follow(folder: str, offered: str) -> None:
    """A node that is handed a newer roster."""
    pinned = rosters.PinnedRoster(Path(folder) / "roster.json")
    pinned.follow(rosters.to_bytes(rosters.load(Path(offered))))


def command(*arguments: str) -> None:
    """``siloquy`` with ``arguments``, as a person types them."""
    from siloquy import cli

    ingesting.BATCH_DOCUMENTS = BATCH
    cli.app(list(arguments), standalone_mode=False)


DEEDS: dict[str, Callable[..., None]] = {
    deed.__name__: deed
    for deed in (
        ingest,
        delete,
        questions,
        profile,
        noised_profile,
        cramped,
        keep_head,
        answer,
        enrol,
        publish,
        follow,
        command,
    )
}


def _act(order: dict[str, object]) -> int:
    os.environ[crash.VARIABLE] = str(order["crash_at"])
    importlib.reload(crash)
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, sys.stdin.fileno())
    os.dup2(silence, sys.stdout.fileno())
    arguments = order["arguments"]
    assert isinstance(arguments, list)
    try:
        DEEDS[str(order["deed"])](*arguments)
    except BaseException:  # noqa: BLE001 - the exit code and the trace tell it
        traceback.print_exc()
        return 1
    return 0


def main() -> None:
    """Fork a process for every order; say its id, and after a line of assent how it ended."""
    while line := sys.stdin.readline():
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(_act(json.loads(line)))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        sys.stdin.readline()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
