"""The parts of ``siloquy bench load``.

Latency, throughput and soak ask one federation with ready query vectors, and the encoder's own time
stands beside; the others ask each its own, with the encoder at work.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siloquy.eval.beir import EvalQuestion
from siloquy.eval.central import run_central
from siloquy.eval.load import page as browser
from siloquy.eval.load.asking import K
from siloquy.eval.load.client import HttpCall, LoadPlan
from siloquy.eval.load.context import LoadContext
from siloquy.eval.load.report import report
from siloquy.eval.track import Track
from siloquy.gateway.api import conversations
from siloquy.serve.local import GATEWAY
from siloquy.settings import ApiSettings

AT_ONCE = (1, 4, 16)
SOAK_AT_ONCE, SOAK_EARLY = 8, 1_000
STREAMS = 200
PAGE_QUESTIONS = 30
# Overload: ten times what the gateway takes in, work and queue together.
OVERLOAD_API = ApiSettings(at_once=8, waiting=32)
OVERLOAD_TIMES = 10
RECOVERY_S = 5.0


def _figures(context: LoadContext) -> dict[str, Any]:
    """Of all rows so far: some figures set one part against another."""
    return report(context.measured.rows, context.measured.runs)


# -- with ready vectors ---------------------------------------------------------------------------


def latency(context: LoadContext) -> dict[str, Any]:
    """One question at a time."""
    context.shared.ask("latency", LoadPlan(1, count=context.config.questions))
    return _shared_figures(context, "latency")


def throughput(context: LoadContext) -> dict[str, Any]:
    """Several at once, for some seconds each."""
    for at_once in AT_ONCE:
        context.shared.ask("throughput", LoadPlan(at_once, seconds=context.config.seconds))
    return _shared_figures(context, "throughput")


def soak(context: LoadContext) -> dict[str, Any]:
    """Many in a row: memory after the first thousand, and at the end."""
    context.shared.ask("soak", LoadPlan(SOAK_AT_ONCE, count=SOAK_EARLY))
    context.shared.ask("soak", LoadPlan(SOAK_AT_ONCE, count=context.config.soak - SOAK_EARLY))
    return _shared_figures(context, "soak")


def _shared_figures(context: LoadContext, part: str) -> dict[str, Any]:
    """Figures; the last part to ask the shared federation stops it, so that nothing runs beside."""
    parts = context.config.parts
    if part == [name for name in ("latency", "throughput", "soak") if name in parts][-1]:
        context.open.close()
        if context.config.corpus is not None and "latency" in parts:
            _ask_central(context, context.config.corpus)
    return _figures(context)


def _ask_central(context: LoadContext, corpus: Path) -> None:
    context.told("asking the central index")
    with tempfile.TemporaryDirectory(prefix="siloquy-central-") as folder:
        central = run_central(corpus, context.questions, Path(folder), context.cache, K)
    for question, ms in zip(context.questions, central.search_ms, strict=True):
        context.measured.time("central", question.id, ms)


# -- with the encoder at work ---------------------------------------------------------------------


def streams(context: LoadContext) -> dict[str, Any]:
    """Answers as events, one by one and then two hundred at once."""
    calls = [_asking(question, stream=True) for question in context.questions]
    with context.federation() as running:
        asker = context.asker(running, calls)
        asker.ask("warm", LoadPlan(1, count=2))
        asker.ask("streams", LoadPlan(1, count=min(len(calls), context.config.questions)))
        asker.ask("streams", LoadPlan(STREAMS, count=STREAMS))
    return _figures(context)


def overload(context: LoadContext) -> dict[str, Any]:
    """Ten times too many connections for some seconds, then one that sees when it is over."""
    calls = [_asking(question, stream=False) for question in context.questions]
    most = OVERLOAD_TIMES * (OVERLOAD_API.at_once + OVERLOAD_API.waiting)
    seconds = context.config.seconds
    with context.federation(api=OVERLOAD_API) as running:
        asker = context.asker(running, calls)
        asker.ask("before", LoadPlan(1, count=10))
        asker.ask("overload", LoadPlan(most, seconds=seconds, pause_s=1.0, abandon=True))
        asker.ask("recovery", LoadPlan(1, seconds=RECOVERY_S))
    return _figures(context)


def page(context: LoadContext) -> dict[str, Any]:
    """The page in a browser, one question at a time; the first ones are not counted."""
    rows, questions = context.measured.rows, context.questions
    with context.federation() as running:
        calls = [_asking(question, stream=True) for question in questions]
        context.asker(running, calls).ask("warm", LoadPlan(1, count=2))
        context.told("page: one browser")
        file = running.layout.of(GATEWAY) / conversations.FILE_NAME
        asked = questions[: min(context.config.questions, PAGE_QUESTIONS)]
        for what, question, ms in browser.measure(running.layout.gateway_url, file, asked):
            rows.append({"part": "page", "what": what, "id": question, "ms": round(ms, 3)})
    return _figures(context)


def _asking(question: EvalQuestion, *, stream: bool) -> HttpCall:
    body = json.dumps({"question": question.text, "route": "all"}).encode()
    return HttpCall(question.id, "/v1/ask", body, stream)


TRACKS: Mapping[str, Track[LoadContext]] = {
    "latency": Track("time and CPU of one question at a time, beside one central index", latency),
    "throughput": Track("questions a second with 1, 4 and 16 at once", throughput),
    "soak": Track("memory of every process over many questions", soak),
    "streams": Track("the first event, sentence and end of streamed answers", streams),
    "overload": Track("what is shed of ten times too much, and when it is over", overload),
    "page": Track("the page in a real browser: first stage, answer, scrolling", page),
}
