"""``siloquy bench load``: the running federation under load, beside one central index.

Real processes over the production channel, asked by one more. Query vectors come from a cache and
the encoder's own time stands beside; event streams and overload are asked with the encoder at work.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import psutil

from siloquy.errors import SiloquyError, UsageError
from siloquy.eval import beir
from siloquy.eval.beir import EvalQuestion
from siloquy.eval.central import run_central
from siloquy.eval.load import page
from siloquy.eval.load.client import HttpCall, LoadPlan, Volley, fire
from siloquy.eval.load.report import report
from siloquy.eval.manifest import manifest
from siloquy.gateway.api import conversations
from siloquy.serve import demo
from siloquy.serve.demo import Demo
from siloquy.serve.local import GATEWAY
from siloquy.settings import ApiSettings, AskSettings, EncoderSettings, ReleasePolicy
from siloquy.text.embed import SentenceEncoder, embedder, encoder_spec
from siloquy.text.words import clean
from siloquy.types import Progress

Part = Literal["latency", "throughput", "soak", "streams", "overload", "page"]
PARTS: tuple[Part, ...] = ("latency", "throughput", "soak", "streams", "overload", "page")
K = 10
WARM_QUESTIONS = 50
ENCODER_QUESTIONS = 30
AT_ONCE = (1, 4, 16)
SOAK_AT_ONCE, SOAK_EARLY = 8, 1_000
STREAMS = 200
PAGE_QUESTIONS = 30
# Overload: ten times what the gateway takes in, work and queue together.
OVERLOAD_API = ApiSettings(at_once=8, waiting=32)
OVERLOAD_TIMES = 10
RECOVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class LoadConfig:
    """One benchmark run.

    corpus      a BEIR folder whose field ``source`` names the silo; None for the demo's hospitals
    questions   of the latency part
    seconds     of each step of throughput, and of the overload
    soak        questions of the soak
    """

    out: Path
    corpus: Path | None = None
    parts: tuple[Part, ...] = PARTS
    questions: int = 200
    seconds: float = 10.0
    soak: int = 10_000
    split: str = "test"
    seed: int = 0
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class LoadRows:
    """Rows of single requests and of whole volleys, as they are written."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, part: str, at_once: int, volley: Volley, **costs: Any) -> None:
        """Take in one volley."""
        number = len(self.runs)
        self.rows.extend({"part": part, "run": number, **asdict(s)} for s in volley.shots)
        own = {
            "began": volley.began,
            "wall_s": volley.wall_s,
            "client_cpu_s": volley.client_cpu_s,
        }
        self.runs.append({"part": part, "at_once": at_once, **own, **costs})

    def time(self, part: str, question: str, ms: float) -> None:
        """Take in one time of something that is not the federation."""
        self.rows.append({"part": part, "id": question, "wall_ms": round(ms, 3)})


def run(config: LoadConfig, told: Progress) -> dict[str, Any]:
    """Measure the parts, write everything to ``config.out``, give back ``results.json``."""
    if config.out.exists() and any(config.out.iterdir()):
        raise UsageError(f"{config.out} is not empty", "name a new folder with --out")
    questions = _questions(config)
    config.out.mkdir(parents=True, exist_ok=True)
    measured = LoadRows()
    if {"latency", "throughput", "soak"} & set(config.parts):
        _with_vectors(config, questions, measured, told)
    if "streams" in config.parts:
        _streams(config, questions, measured, told)
    if "overload" in config.parts:
        _overload(config, questions, measured, told)
    if "page" in config.parts:
        _page(config, questions, measured, told)
    results = {
        "corpus": config.corpus.name if config.corpus else "demo",
        "questions": len(questions),
        **report(measured.rows, measured.runs),
    }
    _write(config, measured, results)
    return results


def _questions(config: LoadConfig) -> list[EvalQuestion]:
    if config.corpus is not None:
        return list(beir.load(config.corpus, config.split, None, config.seed).questions)
    lines = (demo.HOSPITALS / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [EvalQuestion(str(record["_id"]), str(record["text"])) for record in records]


# -- with ready vectors ---------------------------------------------------------------------------


def _with_vectors(
    config: LoadConfig, questions: Sequence[EvalQuestion], measured: LoadRows, told: Progress
) -> None:
    cache = config.cache or demo.cache_file()
    told("encoding the questions")
    for question, ms in zip(questions, _encode(cache, questions), strict=False):
        measured.time("encoder", question.id, ms)
    calls = [_retrieval(question) for question in questions]
    with _federation(config, told, question_cache=cache) as running:
        desk = _Desk(running, calls, measured, told)
        desk.ask("warm", LoadPlan(4, count=WARM_QUESTIONS))
        if "latency" in config.parts:
            desk.ask("latency", LoadPlan(1, count=config.questions))
        if "throughput" in config.parts:
            for at_once in AT_ONCE:
                desk.ask("throughput", LoadPlan(at_once, seconds=config.seconds))
        if "soak" in config.parts:
            desk.ask("soak", LoadPlan(SOAK_AT_ONCE, count=SOAK_EARLY))
            desk.ask("soak", LoadPlan(SOAK_AT_ONCE, count=config.soak - SOAK_EARLY))
    if config.corpus is not None and "latency" in config.parts:
        told("asking the central index")
        with tempfile.TemporaryDirectory(prefix="siloquy-central-") as folder:
            central = run_central(config.corpus, questions, Path(folder), cache, K)
        for question, ms in zip(questions, central.search_ms, strict=True):
            measured.time("central", question.id, ms)


def _retrieval(question: EvalQuestion) -> HttpCall:
    body = {"question": question.text, "route": "all", "unit": "document", "k": K}
    return HttpCall(question.id, "/v1/retrieve", json.dumps({**body, "rescore": False}).encode())


def _encode(cache: Path, questions: Sequence[EvalQuestion]) -> list[float]:
    """Milliseconds of the encoder for each of the first questions; all vectors are in the cache.

    In a child process, which loads the encoder and leaves the memory when it is done.
    """
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe(duplex=False)
    child = context.Process(target=_encode_child, args=(cache, list(questions), far), daemon=True)
    child.start()
    far.close()
    try:
        times: list[float] = near.recv()
    except EOFError:
        raise SiloquyError("the encoder failed; its error stands above") from None
    finally:
        child.join()
    return times


def _encode_child(cache: Path, questions: Sequence[EvalQuestion], pipe: Any) -> None:
    settings = EncoderSettings(cache=str(cache))
    texts = [" ".join(clean(question.text).split()) for question in questions]
    embedder(settings, cache.parent).encode(texts)
    encoder = SentenceEncoder(settings, encoder_spec(settings))
    encoder.encode(texts[:1])
    times = []
    for text in texts[:ENCODER_QUESTIONS]:
        start = perf_counter()
        encoder.encode([text])
        times.append(1000 * (perf_counter() - start))
    pipe.send(times)


# -- with the encoder at work ---------------------------------------------------------------------


def _streams(
    config: LoadConfig, questions: Sequence[EvalQuestion], measured: LoadRows, told: Progress
) -> None:
    calls = [_asking(question, stream=True) for question in questions]
    with _federation(config, told) as running:
        desk = _Desk(running, calls, measured, told)
        desk.ask("warm", LoadPlan(1, count=2))
        desk.ask("streams", LoadPlan(1, count=min(len(calls), config.questions)))
        desk.ask("streams", LoadPlan(STREAMS, count=STREAMS))


def _overload(
    config: LoadConfig, questions: Sequence[EvalQuestion], measured: LoadRows, told: Progress
) -> None:
    """Ten times too many connections for some seconds, then one that sees when it is over."""
    calls = [_asking(question, stream=False) for question in questions]
    most = OVERLOAD_TIMES * (OVERLOAD_API.at_once + OVERLOAD_API.waiting)
    with _federation(config, told, api=OVERLOAD_API) as running:
        desk = _Desk(running, calls, measured, told)
        desk.ask("before", LoadPlan(1, count=10))
        desk.ask("overload", LoadPlan(most, seconds=config.seconds, pause_s=1.0, abandon=True))
        desk.ask("recovery", LoadPlan(1, seconds=RECOVERY_S))


def _page(
    config: LoadConfig, questions: Sequence[EvalQuestion], measured: LoadRows, told: Progress
) -> None:
    """The page in a browser, one question at a time; the first ones are not counted."""
    with _federation(config, told) as running:
        calls = [_asking(question, stream=True) for question in questions]
        _Desk(running, calls, measured, told).ask("warm", LoadPlan(1, count=2))
        told("page: one browser")
        file = running.layout.of(GATEWAY) / conversations.FILE_NAME
        asked = questions[: min(config.questions, PAGE_QUESTIONS)]
        for what, question, ms in page.measure(running.layout.gateway_url, file, asked):
            measured.rows.append({"part": "page", "what": what, "id": question, "ms": round(ms, 3)})


def _asking(question: EvalQuestion, *, stream: bool) -> HttpCall:
    body = json.dumps({"question": question.text, "route": "all"}).encode()
    return HttpCall(question.id, "/v1/ask", body, stream)


# -- measuring ------------------------------------------------------------------------------------


@contextmanager
def _federation(config: LoadConfig, told: Progress, **gateway: Any) -> Iterator[Demo]:
    policy = ReleasePolicy(passages_per_day=10**9, most_per_question=K)
    with demo.federation(
        config.corpus, None, told, cache=config.cache, policy=policy, ask=AskSettings(), **gateway
    ) as running:
        yield running


class _Desk:
    """Asks one running federation and notes what every process took for it."""

    def __init__(
        self, running: Demo, calls: Sequence[HttpCall], measured: LoadRows, told: Progress
    ) -> None:
        self._port = running.layout.gateway_port
        self._calls = calls
        self._measured = measured
        self._told = told
        self._processes = {
            str(node): psutil.Process(process.pid)
            for node, process in running.processes.running.items()
        }

    def ask(self, part: str, plan: LoadPlan) -> None:
        """One volley."""
        self._told(f"{part}: {plan.at_once} at once")
        before = self._cpu_s()
        volley = fire(self._port, self._calls, plan)
        spent = {node: round(s - before[node], 3) for node, s in self._cpu_s().items()}
        memory = {
            node: round(process.memory_info().rss / 2**20, 2)
            for node, process in self._processes.items()
        }
        self._measured.add(part, plan.at_once, volley, cpu_s=spent, rss_mb=memory)

    def _cpu_s(self) -> dict[str, float]:
        times = {node: process.cpu_times() for node, process in self._processes.items()}
        return {node: used.user + used.system for node, used in times.items()}


def _write(config: LoadConfig, measured: LoadRows, results: dict[str, Any]) -> None:
    settings = {
        key: value.name if isinstance(value, Path) else value
        for key, value in asdict(config).items()
    }
    data = beir.file_hashes(config.corpus, config.split) if config.corpus else {}
    written = manifest(settings, data, config.seed)
    (config.out / "manifest.json").write_text(json.dumps(written, indent=1) + "\n")
    (config.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    for name, rows in (("per_query", measured.rows), ("runs", measured.runs)):
        with (config.out / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
