"""The corpus's own questions, asked of a running federation and of one index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from siloquy import settings as settings_files
from siloquy.errors import SiloquyError
from siloquy.eval.answers import gold, withheld
from siloquy.eval.answers.context import AnswersContext
from siloquy.eval.answers.gold import GoldCase
from siloquy.eval.answers.report import AnswerRow
from siloquy.eval.shelf import Shelf
from siloquy.generator.abstention import evidence, lacking
from siloquy.serve import demo, local
from siloquy.serve.demo import Demo
from siloquy.settings import AskSettings, GatewaySettings, ModelSettings, ReleasePolicy
from siloquy.types import Progress, Source

ASK_TIMEOUT_S = 120.0


# -- the running federation -----------------------------------------------------------------------


def all_kept(context: AnswersContext) -> Iterator[AnswerRow]:
    """Every question, nothing withheld."""
    documents = context.documents
    with _federation(context, context.corpus) as running:
        for name, case in _each(context, running):
            yield _ask(running, case, AnswerRow("gold", name, case.id, case.group), documents)


def half_withheld(context: AnswersContext) -> Iterator[AnswerRow]:
    """Every question, the relevant documents of one half taken out of the silos."""
    shelf, documents = context.shelf, context.documents
    dealt = withheld.deal(context.cases, context.config.seed)
    left = withheld.write_without(context.corpus, dealt.documents, context.place / "without")
    with _federation(context, left) as running:
        for name, case in _each(context, running):
            row = AnswerRow("withheld", name, case.id, case.group, dealt.conditions[case.id])
            row = _ask(running, case, row, documents)
            yield _weighed(running, case, row, shelf, documents)


def _each(context: AnswersContext, running: Demo) -> Iterator[tuple[str, GoldCase]]:
    """Each model in turn, by the gateway's name for it, with each question."""
    for model in context.config.models:
        name = _switch(running, model)
        for i, case in enumerate(context.cases, start=1):
            yield name, case
            _progress(context.told, name, i, len(context.cases))


@contextmanager
def _federation(context: AnswersContext, corpus: Path) -> Iterator[Demo]:
    policy = ReleasePolicy(passages_per_day=10**9, most_per_question=AskSettings().most_released)
    with demo.federation(
        corpus, None, context.told, cache=context.config.cache, policy=policy
    ) as running:
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


def with_and_without(context: AnswersContext) -> Iterator[AnswerRow]:
    """Every question twice in one index: with and without its relevant documents."""
    shelf, documents = context.shelf, context.documents
    for i, case in enumerate(context.cases, start=1):
        for condition, gone in (("kept", frozenset[str]()), ("withheld", case.relevant)):
            row = AnswerRow("sweep", "one index", case.id, case.group, condition)
            sources = shelf.find(case.text, gone)
            lacks = lacking(case.text, sources, AskSettings().answer_floor)
            yield judged(replace(row, abstained=bool(lacks)), case, sources, documents)
        _progress(context.told, "one index", i, len(context.cases))


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
