"""``siloquy bench answers``: what answers cite and say against gold, and when they abstain."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from siloquy import settings as settings_files
from siloquy.errors import SiloquyError, UsageError
from siloquy.eval import beir
from siloquy.eval.answers import (
    abstention,
    gold,
    withheld,
)
from siloquy.eval.answers import (
    report as answer_report,
)
from siloquy.eval.answers import (
    tracks as other_tracks,
)
from siloquy.eval.answers.gold import GoldCase
from siloquy.eval.answers.report import AnswerRow
from siloquy.eval.manifest import manifest
from siloquy.eval.shelf import Shelf
from siloquy.generator.abstention import evidence, lacking
from siloquy.serve import demo, local
from siloquy.serve.demo import Demo
from siloquy.settings import AskSettings, GatewaySettings, ModelSettings, ReleasePolicy
from siloquy.types import Progress, Source

TRACKS = ("gold", "withheld", "sweep", "citations", "conflicts", "followups")
ASK_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class AnswersConfig:
    """One run; ``corpus`` None stands for the demo hospitals and their questions.

    sets   folder of all public sets, for the tracks that read several
    """

    corpus: Path | None
    out: Path
    tracks: tuple[str, ...]
    models: tuple[ModelSettings, ...] = (ModelSettings(),)
    split: str = "test"
    limit: int | None = None
    seed: int = 0
    cache: Path | None = None
    sets: Path | None = None


def run(config: AnswersConfig, told: Progress) -> dict[str, Any]:
    """Run the tracks, write everything to ``config.out``, give back ``results.json``."""
    if config.out.exists() and any(config.out.iterdir()):
        raise UsageError(f"{config.out} is not empty", "name a new folder with --out")
    with tempfile.TemporaryDirectory(prefix="siloquy-answers-") as place:
        corpus = config.corpus or withheld.write_hospitals(Path(place) / "hospitals")
        config.out.mkdir(parents=True, exist_ok=True)
        rows = list(_kept(_asked(config, corpus, Path(place), told), config.out))
        results = other_tracks.run(config.tracks, _wanted(config), told)
        _write(config, corpus, rows, results)
    return results


def _kept(rows: Iterator[AnswerRow], out: Path) -> Iterator[AnswerRow]:
    """The rows, each on disk before the next question is asked."""
    with (out / "per_query.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()
            yield row


def _wanted(config: AnswersConfig) -> other_tracks.TrackInputs:
    cache = config.cache or demo.cache_file()
    return other_tracks.TrackInputs(config.sets, config.out, config.seed, cache)


def _asked(config: AnswersConfig, corpus: Path, place: Path, told: Progress) -> Iterator[AnswerRow]:
    """The tracks that ask the corpus's own questions."""
    wanted = {"gold", "withheld", "sweep"} & set(config.tracks)
    if not wanted:
        return
    cases = gold.load(corpus, config.split, config.limit, config.seed)
    if "gold" in wanted:
        yield from _answered(config, corpus, cases, told)
    if not wanted - {"gold"}:
        return
    told("one index over the corpus")
    shelf = Shelf(corpus, place, config.cache or demo.cache_file())
    try:
        if "withheld" in wanted:
            yield from _withheld(config, corpus, cases, shelf, place, told)
        if "sweep" in wanted:
            yield from _sweep(corpus, cases, shelf, told)
    finally:
        shelf.close()


# -- the running federation -----------------------------------------------------------------------


def _answered(
    config: AnswersConfig, corpus: Path, cases: Sequence[GoldCase], told: Progress
) -> Iterator[AnswerRow]:
    """Every question, nothing withheld."""
    documents = gold.texts(corpus, _relevant(cases))
    with _federation(config, corpus, told) as running:
        for model in config.models:
            name = _switch(running, model)
            for i, case in enumerate(cases, start=1):
                yield _ask(running, case, AnswerRow("gold", name, case.id, case.group), documents)
                _progress(told, name, i, len(cases))


def _withheld(
    config: AnswersConfig,
    corpus: Path,
    cases: Sequence[GoldCase],
    shelf: Shelf,
    place: Path,
    told: Progress,
) -> Iterator[AnswerRow]:
    """Every question, the relevant documents of one half taken out of the silos."""
    dealt = withheld.deal(cases, config.seed)
    documents = gold.texts(corpus, _relevant(cases))
    left = withheld.write_without(corpus, dealt.documents, place / "without")
    with _federation(config, left, told) as running:
        for model in config.models:
            name = _switch(running, model)
            for i, case in enumerate(cases, start=1):
                row = AnswerRow("withheld", name, case.id, case.group, dealt.conditions[case.id])
                row = _ask(running, case, row, documents)
                yield _weighed(running, case, row, shelf, documents)
                _progress(told, name, i, len(cases))


@contextmanager
def _federation(config: AnswersConfig, corpus: Path, told: Progress) -> Iterator[Demo]:
    policy = ReleasePolicy(passages_per_day=10**9, most_per_question=AskSettings().most_released)
    with demo.federation(corpus, None, told, cache=config.cache, policy=policy) as running:
        yield running


def _switch(running: Demo, model: ModelSettings) -> str:
    """Have the gateway answer with ``model``, started again if need be; the name it gives it."""
    folder, processes = running.layout.of(local.GATEWAY), running.processes
    before = settings_files.read(GatewaySettings, folder)
    if before.model != model:
        settings_files.write(replace(before, model=model), folder)
        gateway = processes.running[local.GATEWAY]
        gateway.terminate()
        gateway.wait(30)
        processes.start(local.GATEWAY)
        processes.wait_ready()
    return str(local.get(f"{running.layout.gateway_url}/v1/status", 10.0)["model"])


def _ask(running: Demo, case: GoldCase, row: AnswerRow, documents: dict[str, str]) -> AnswerRow:
    body = {"question": case.text, "purpose": "treatment"}
    try:
        answer = local.post(f"{running.layout.gateway_url}/v1/ask", body, ASK_TIMEOUT_S)
    except SiloquyError as error:
        return replace(row, error=f"{error.code}: {error.message}")
    return replace(
        row,
        abstained=bool(answer["abstained"]),
        measured=gold.measure(answer, case, documents),
        released=sum(answer["released"].values()),
        rounds=len(answer["rounds"]),
        total_ms=answer["timings_ms"]["total"],
    )


def _weighed(
    running: Demo, case: GoldCase, row: AnswerRow, shelf: Shelf, documents: dict[str, str]
) -> AnswerRow:
    """The row with the evidence of one retrieval, which an abstention does not show."""
    body = {"question": case.text, "purpose": "treatment", "rescore": False}
    try:
        found = local.post(f"{running.layout.gateway_url}/v1/retrieve", body, ASK_TIMEOUT_S)
    except SiloquyError as error:
        return replace(row, error=row.error or f"{error.code}: {error.message}")
    return judged(row, case, shelf.weigh(case.text, found["passages"]), documents)


def _progress(told: Progress, name: str, i: int, n: int) -> None:
    if i % 10 == 0:
        told(f"{name}: asked {i} of {n} questions")


# -- in one process -------------------------------------------------------------------------------


def _sweep(
    corpus: Path, cases: Sequence[GoldCase], shelf: Shelf, told: Progress
) -> Iterator[AnswerRow]:
    """Every question twice in one index: with and without its relevant documents."""
    documents = gold.texts(corpus, _relevant(cases))
    for i, case in enumerate(cases, start=1):
        for condition, gone in (("kept", frozenset[str]()), ("withheld", case.relevant)):
            row = AnswerRow("sweep", "one index", case.id, case.group, condition)
            sources = shelf.find(case.text, gone)
            lacks = lacking(case.text, sources, AskSettings().answer_floor)
            yield judged(replace(row, abstained=bool(lacks)), case, sources, documents)
        _progress(told, "one index", i, len(cases))


def judged(
    row: AnswerRow, case: GoldCase, sources: Sequence[Source], documents: dict[str, str]
) -> AnswerRow:
    """The row with the evidence, and with what of the answer is left in the passages."""
    passages = [f"{source.title}. {source.text}" for source in sources]
    relevant = [documents[name] for name in sorted(case.relevant) if name in documents]
    return replace(
        row,
        held_out=case.held_out,
        evidence=round(evidence(case.text, sources), 4),
        found_relevant=any(source.document in case.relevant for source in sources),
        near_duplicate=gold.repeats(passages, relevant),
        states_gold=gold.remains(case, passages),
    )


def _relevant(cases: Sequence[GoldCase]) -> frozenset[str]:
    return frozenset().union(*(case.relevant for case in cases))


# -- writing --------------------------------------------------------------------------------------


def _write(
    config: AnswersConfig, corpus: Path, rows: list[AnswerRow], results: dict[str, Any]
) -> None:
    out = config.out
    results |= answer_report.summarise(rows, config.seed)
    settings = {**asdict(config), "corpus": corpus.name, "out": out.name}
    settings |= {"cache": bool(config.cache), "sets": bool(config.sets)}
    settings["models"] = [{**asdict(m), "key_file": bool(m.key_file)} for m in config.models]
    made = manifest(settings, beir.file_hashes(corpus, config.split), config.seed)
    (out / "manifest.json").write_text(json.dumps(made, indent=1) + "\n")
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    curves = answer_report.curves(rows)
    if curves:
        abstention.write_csv(curves, out / "curve.csv")
        abstention.draw(curves, out / "curve.png")
        abstention.draw(curves, out / "curve.svg")
