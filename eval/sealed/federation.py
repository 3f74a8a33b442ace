"""``siloquy bench sealed``, federation: the same questions, open and sealed, to real processes."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from siloquy import settings as settings_files
from siloquy.errors import SiloquyError, UsageError
from siloquy.eval import beir, metrics
from siloquy.eval.beir import EvalQuestion, JudgedQuestions
from siloquy.serve import demo, local
from siloquy.serve.demo import Demo
from siloquy.serve.local import GATEWAY
from siloquy.settings import AskSettings, GatewaySettings, ReleasePolicy
from siloquy.types import Progress

K = 10
WARM = ("What causes fever?", "How is asthma treated?", "Who should be vaccinated against flu?")
ANSWERED_QUESTIONS = 40
ASK_TIMEOUT_S = 120.0
MOST_FAILURES = 0.02
# What silos do after a sealed reply, for the next one, is not to be measured with what follows.
SETTLE_S = 2.0
# Nothing may be cut off, neither by time nor by a budget: modes are compared, not policies.
POLICY = ReleasePolicy(passages_per_day=10**9, most_per_question=2 * K, sealed_per_day=10**9)
ASK = AskSettings(k=K, most_released=2 * K, deadline_s=ASK_TIMEOUT_S)
Api = Literal["retrieve", "ask"]


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to ask; ``over_fetch`` is the gateway's, and nothing to open questions."""

    name: str
    mode: Literal["open", "sealed"]
    over_fetch: float


OPEN = Setting("open", "open", 2.0)
SEALED_TWICE = Setting("sealed, 2k", "sealed", 2.0)
SEALED_ONCE = Setting("sealed, k", "sealed", 1.0)
SETTINGS = (OPEN, SEALED_TWICE, SEALED_ONCE)


@dataclass(frozen=True, slots=True)
class FederationRow:
    """One question's outcome; no text of it is kept.

    silos      of the federation; all are asked
    ranking    documents of the passages, best first, each once
    released   passages that left the silos
    withheld   winners that they held back
    ndcg       nDCG@10 of the ranking, of retrieval alone
    wall_ms    as the client sees it; ``timings_ms`` are the gateway's own
    load       of the machine, in the minute before
    """

    silos: int
    api: Api
    setting: str
    id: str
    wall_ms: float
    ranking: tuple[str, ...] = ()
    released: int = 0
    withheld: int = 0
    missing: tuple[str, ...] = ()
    abstained: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)
    traffic: dict[str, int] = field(default_factory=dict)
    ndcg: float | None = None
    load: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is asked of whom.

    silos    how many sources, largest first, take part in each federation
    limit    most questions for each of them; None for all
    """

    corpus: Path
    silos: tuple[int, ...]
    split: str
    limit: int | None
    seed: int
    cache: Path | None


def run(scope: Scope, told: Progress) -> list[FederationRow]:
    """Every federation, every setting, one question at a time."""
    sizes = source_sizes(scope.corpus)
    rows: list[FederationRow] = []
    for count in scope.silos:
        with tempfile.TemporaryDirectory(prefix="siloquy-part-") as folder:
            part = subset(scope.corpus, list(sizes)[:count], scope.split, Path(folder))
            rows += _ask_federation(scope, part, count, told)
    return rows


def check(corpus: Path, silos: Sequence[int]) -> None:
    """UsageError for more silos than the corpus has."""
    most = len(source_sizes(corpus))
    if max(silos) > most:
        raise UsageError(
            f"{corpus.name} has {most} silos, {max(silos)} were wanted", f"give --silos {most}"
        )


# -- the largest silos ----------------------------------------------------------------------------


def source_sizes(corpus: Path) -> dict[str, int]:
    """Documents of each source, largest first; names decide ties."""
    counts = Counter(str(record.get("source", "")) for record in beir.records(corpus))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def subset(corpus: Path, kept: Sequence[str], split: str, folder: Path) -> Path:
    """A BEIR folder of the ``kept`` sources' documents and what is judged of them."""
    documents = set()
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for record in beir.records(corpus):
            if record["source"] in kept:
                documents.add(str(record["_id"]))
                file.write(json.dumps(record) + "\n")
    (folder / "queries.jsonl").write_bytes((corpus / "queries.jsonl").read_bytes())
    (folder / "qrels").mkdir()
    head, *judged = (corpus / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
    left = [line for line in judged if line.split("\t")[1] in documents]
    text = "\n".join([head, *left]) + "\n"
    (folder / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
    return folder


# -- asking ---------------------------------------------------------------------------------------


def _ask_federation(scope: Scope, part: Path, count: int, told: Progress) -> list[FederationRow]:
    judged = beir.load(part, scope.split, scope.limit, scope.seed)
    sample = beir.load(part, scope.split, ANSWERED_QUESTIONS, scope.seed).questions
    rows: list[FederationRow] = []
    with demo.federation(part, None, told, cache=scope.cache, policy=POLICY, ask=ASK) as running:
        for setting in SETTINGS:
            told(f"{count} silos, {setting.name}: {len(judged.questions)} questions")
            asked = _pass(running, count, "retrieve", setting, judged.questions)
            rows += _judged(asked, judged)
            if setting is not SEALED_ONCE:
                told(f"{count} silos, {setting.name}: {len(sample)} answers")
                rows += _pass(running, count, "ask", setting, sample)
    _check(rows)
    return rows


def _pass(
    running: Demo, silos: int, api: Api, setting: Setting, questions: Sequence[EvalQuestion]
) -> list[FederationRow]:
    """All questions one after the other, put to a gateway that has embedded none of them yet."""
    _restart(running, setting.over_fetch)
    url = running.layout.gateway_url
    for text in WARM:
        _ask(url, silos, api, setting, EvalQuestion("", text))
    time.sleep(SETTLE_S)
    rows = [_ask(url, silos, api, setting, question) for question in questions]
    time.sleep(SETTLE_S)
    return rows


def _restart(running: Demo, over_fetch: float) -> None:
    """The gateway anew with another ``ask.over_fetch``, and without the vectors it remembers."""
    folder = running.layout.of(GATEWAY)
    settings = settings_files.read(GatewaySettings, folder)
    ask = replace(settings.ask, over_fetch=over_fetch)
    settings_files.write(replace(settings, ask=ask), folder)
    running.processes.stop(GATEWAY)
    running.processes.start(GATEWAY)
    running.processes.wait_ready()


def _ask(url: str, silos: int, api: Api, setting: Setting, question: EvalQuestion) -> FederationRow:
    body: dict[str, Any] = {"question": question.text, "route": "all", "mode": setting.mode}
    if api == "retrieve":
        body |= {"k": K, "rescore": True}
    start = perf_counter()
    try:
        found = local.post(f"{url}/v1/{api}", body, ASK_TIMEOUT_S)
    except SiloquyError as error:
        told = f"{error.code}: {error.message}"
        return FederationRow(silos, api, setting.name, question.id, 0.0, error=told)
    wall_ms = round(1000 * (perf_counter() - start), 2)
    return FederationRow(
        silos,
        api,
        setting.name,
        question.id,
        wall_ms,
        tuple(dict.fromkeys(item["document"] for item in found.get("passages", ()))),
        sum(found["released"].values()),
        sum(found["withheld"].values()),
        tuple(f"{item['silo']}: {item['reason']}" for item in found["missing"]),
        bool(found.get("abstained", False)),
        found["timings_ms"],
        found.get("traffic", {}),
        load=round(os.getloadavg()[0], 2),
    )


def _judged(rows: Sequence[FederationRow], judged: JudgedQuestions) -> list[FederationRow]:
    values = metrics.per_query(judged.qrels, {row.id: row.ranking for row in rows})
    return [replace(row, ndcg=round(values[row.id]["ndcg@10"], 6)) for row in rows]


def _check(rows: Sequence[FederationRow]) -> None:
    """SiloquyError when so much failed that the rest says little, or anything was held back."""
    failed = [row for row in rows if row.error]
    if len(failed) > MOST_FAILURES * len(rows):
        raise SiloquyError(f"{len(failed)} questions failed, the first with: {failed[0].error}")
    withheld = sum(row.withheld for row in rows)
    if withheld:
        raise SiloquyError(f"silos withheld {withheld} passages, so the modes do not compare")


def by_setting(
    rows: Sequence[FederationRow], api: Api
) -> Mapping[tuple[int, str], list[FederationRow]]:
    """Answered rows by silos and setting, in the order in which they were asked."""
    groups: dict[tuple[int, str], list[FederationRow]] = {}
    for row in rows:
        if row.api == api and not row.error:
            groups.setdefault((row.silos, row.setting), []).append(row)
    return groups
