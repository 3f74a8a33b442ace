"""The page in a real browser: how soon it can be used, shows its first stage, and how it scrolls.

Measured with the system's Chromium by Playwright, headless, beside the federation that it asks.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from siloquy.errors import SettingsError
from siloquy.eval.beir import EvalQuestion
from siloquy.gateway.api import conversations as kept
from siloquy.types import (
    Answer,
    CitedSpan,
    DocumentId,
    NodeId,
    Plan,
    Round,
    Sentence,
    Source,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LOADS = 5
LONG_TURNS = 250
SCROLL_FRAMES = 300
_USABLE = """() => new Promise((done) => {
  const look = () => document.getElementById("question")
    ? requestAnimationFrame(() => done(performance.now())) : requestAnimationFrame(look);
  look();
})"""
_ASK = """(question) => new Promise((done, failed) => {
  const before = document.querySelectorAll('[data-testid="turn"]').length;
  const of = (part) => `[data-testid="${part}"]`;
  const wanted = {
    first_stage: of("stage-0"),
    silos_named: of("silos") + " li",
    first_sentence: of("draft") + " li",
  };
  const seen = {};
  const start = performance.now();
  const note = (name) => requestAnimationFrame(() => (seen[name] ??= performance.now() - start));
  const watch = new MutationObserver(() => {
    for (const [name, selector] of Object.entries(wanted)) {
      if (!(name in seen) && document.querySelector(selector)) note(name);
    }
    const turn = document.querySelectorAll(of("turn"))[before];
    if (turn?.dataset.state === "asking" || !turn) return;
    watch.disconnect();
    requestAnimationFrame(() => {
      if (turn.dataset.state !== "answered") failed(new Error(turn.dataset.state));
      else done({ ...seen, answer: performance.now() - start });
    });
  });
  watch.observe(document.body, { subtree: true, childList: true, attributes: true });
  const box = document.getElementById("question");
  box.value = question;
  box.dispatchEvent(new Event("input", { bubbles: true }));
  box.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
})"""
_SCROLL = """async (frames) => {
  const box = document.querySelector('[data-testid="thread"]');
  const next = () => new Promise((done) => requestAnimationFrame(done));
  const took = [];
  box.scrollTop = 0;
  let last = await next();
  for (let n = 1; n <= frames; n += 1) {
    box.scrollTop = (n / frames) * (box.scrollHeight - box.clientHeight);
    const now = await next();
    took.push(now - last);
    last = now;
  }
  return took;
}"""


def browser_path() -> str:
    """Where the system's Chromium is; SettingsError when there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise SettingsError("no Chromium found", "install it (on Debian: apt-get install chromium)")
    return found


def measure(
    url: str, conversations: Path, questions: Sequence[EvalQuestion]
) -> Iterator[tuple[str, str, float]]:
    """What was measured, of which question, milliseconds.

    usable          from the request for the page until a question can be typed, each time anew
    first_stage, silos_named, first_sentence, answer    from pressing Enter until it is seen
    opened          from choosing a conversation of 500 messages until it is seen
    frame           between two frames while it is scrolled from end to end
    """
    long = write_long(conversations)
    with _opened(url) as page:
        for _ in range(LOADS):
            page.goto("about:blank")
            page.goto(url)
            yield "usable", "", float(page.evaluate(_USABLE))
        for question in questions:
            for what, ms in page.evaluate(_ASK, question.text).items():
                yield what, question.id, float(ms)
        start = time.perf_counter()
        page.evaluate(f"location.hash = '#/c/{long}'")
        page.get_by_test_id("kept").nth(LONG_TURNS - 1).wait_for(state="attached")
        yield "opened", "", 1000 * (time.perf_counter() - start)
        for ms in page.evaluate(_SCROLL, SCROLL_FRAMES):
            yield "frame", "", float(ms)


@contextmanager
def _opened(url: str) -> Iterator[Page]:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        hint = "install the extra `eval`, or leave the part page out with --part"
        raise SettingsError("Playwright is not installed", hint) from None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        yield page
        browser.close()


def write_long(path: Path) -> str:
    """Write a conversation of 500 messages into a gateway's file; its id."""
    with closing(kept.Conversations(path, lambda: time.time_ns() // 1_000_000)) as file:
        made = file.create("local", "A long conversation").id
        for n in range(LONG_TURNS):
            begun = file.begin("local", made, f"Question {n + 1}: which dose, how often, how long?")
            file.finish(begun, _answer(n))
    return made


def _answer(n: int) -> Answer:
    silos = tuple(NodeId(name) for name in ("north", "south", "east"))
    text = (
        f"Give {n % 5 + 1} g every 8 hours for 7 days, and check the level before the fourth dose."
    )
    sentence = Sentence(text, (1,), 1.0, (CitedSpan(1, 0, len(text)),))
    sources = tuple(
        Source(i, silo, DocumentId(f"protocol-{n}.md"), f"Protocol {n}", text, 0, len(text), 0.8)
        for i, silo in enumerate(silos, 1)
    )
    plan = Plan("open", silos, (), {})
    return Answer(
        question=f"Question {n + 1}",
        answer=" ".join([f"{text} [1]"] * 5),
        abstained=False,
        sentences=(sentence,) * 5,
        sources=sources,
        plan=plan,
        missing=(),
        withheld={},
        released={"north": 3},
        flagged={},
        rounds=(Round("question", f"Question {n + 1}", "0" * 32, silos, {"north": 3}),),
        conflicts=(),
        dropped=0,
        notes=(),
        mode="open",
        model="extractive",
        extractive=True,
        timings_ms={},
        receipt={"body": {}},
    )
