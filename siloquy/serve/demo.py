"""The demo: synthetic hospitals, or a BEIR corpus, as a running federation on this machine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from siloquy.errors import SiloquyError, UsageError
from siloquy.serve import local
from siloquy.serve.local import Layout, Processes, SiloContent, beir_silos, silo_name
from siloquy.settings import ApiSettings, AskSettings, ProfileSettings, ReleasePolicy
from siloquy.silo_node.ingest import IngestReport
from siloquy.types import NodeId, Progress

HOSPITALS = Path(__file__).resolve().parent / "hospitals"


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo."""

    layout: Layout
    processes: Processes
    reports: dict[NodeId, IngestReport]
    ready_s: float


def cache_file() -> Path:
    """Where demo and benchmarks keep embeddings between runs; real silos keep their own."""
    return platformdirs.user_cache_path("siloquy", ensure_exists=True) / "embeddings.sqlite"


def sources(corpus: Path | None) -> list[SiloContent]:
    """One source a silo: the five synthetic hospitals, or a BEIR corpus by its ``source``."""
    if corpus is None:
        folders = sorted(path for path in HOSPITALS.iterdir() if path.is_dir())
        return [SiloContent(NodeId(path.name), path) for path in folders]
    named = [SiloContent(silo_name(name), corpus, name) for name in beir_silos(corpus)]
    if len({item.silo for item in named}) != len(named):
        raise UsageError("two sources of the corpus give the same silo name")
    return named


@contextmanager
def federation(
    corpus: Path | None,
    folder: Path | None,
    told: Progress,
    *,
    cache: Path | None = None,
    policy: ReleasePolicy | None = None,
    profile: ProfileSettings | None = None,
    ask: AskSettings | None = None,
    api: ApiSettings | None = None,
    question_cache: Path | None = None,
    capture: Path | None = None,
) -> Iterator[Demo]:
    """A federation over ``corpus``, ready to be asked; ended and, unless named, removed after.

    question_cache   where the gateway keeps vectors of what it is asked; None for nowhere
    capture          folder where every process records what it hears and says
                     (``siloquy.watch.capture``)
    """
    with _place(folder) as place:
        start = time.perf_counter()
        found = sources(corpus)
        told(f"making {len(found)} silos, a hub and a gateway")
        layout = local.create(
            place,
            [item.silo for item in found],
            cache=cache or cache_file(),
            policy=policy,
            profile=profile,
            ask=ask,
            api=api,
            question_cache=question_cache,
        )
        reports = _ingest(layout, found, told)
        told("starting the processes")
        with local.running(layout, capture) as processes:
            ready_s = time.perf_counter() - start
            yield Demo(layout, processes, reports, ready_s)


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="siloquy-") as name:
            yield Path(name)
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty", "name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder


def _ingest(
    layout: Layout, found: Sequence[SiloContent], told: Progress
) -> dict[NodeId, IngestReport]:
    total: dict[str, IngestReport] = {}

    def tell(silo: str, report: IngestReport) -> None:
        total[silo] = report
        passages = sum(item.passages for item in total.values())
        told(f"ingesting: {len(total)} of {len(found)} silos, {passages:,} passages")

    return local.ingest_all(layout, found, tell)


def watch(demo: Demo) -> None:
    """Return never; SiloquyError when a process of the demo dies."""
    while True:
        time.sleep(0.5)
        dead = demo.processes.dead()
        if dead:
            raise SiloquyError(demo.processes.obituary(dead[0]), "the demo was shut down")
