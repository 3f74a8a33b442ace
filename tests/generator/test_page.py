"""The page in a real browser: it loads under its strict policy, its script runs, asks and stops."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn

from siloquy.settings import ApiSettings
from tests.generator.browser import FLAGS, chromium, tab
from tests.generator.served import ANSWER, EVENTS, Federation, desktop

READY = "document.getElementById('status')?.textContent.includes('Hub line up')"
ASK = """
    document.getElementById('question').value = 'Which dose?';
    document.getElementById('ask').click();
"""
TEXT = "document.getElementById('{}').textContent"


class Page:
    """A gateway in a thread of its own, whose federation answers step by step."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None

    def step(self, n: int = 1) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self.federation.step, n)

    def serve(self, server: uvicorn.Server, bound: socket.socket) -> None:
        async def work() -> None:
            self._loop = asyncio.get_running_loop()
            await server.serve([bound])

        asyncio.run(work())


@pytest.fixture
def page() -> Iterator[Page]:
    served = Page(Federation(paced=True))
    with (
        closing(socket.socket()) as bound,
        desktop(served.federation, ApiSettings(keep_s=30)) as desk,
    ):
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(desk.app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=served.serve, args=(server, bound))
        thread.start()
        while not server.started:
            time.sleep(0.02)
        served.url = f"http://127.0.0.1:{bound.getsockname()[1]}/"
        yield served
        server.should_exit = server.force_exit = True
        thread.join()


def test_the_page_runs_its_script_and_tells_how_many_silos_it_knows(
    page: Page, tmp_path: Path
) -> None:
    command = [chromium(), *FLAGS, "--virtual-time-budget=4000", f"--user-data-dir={tmp_path}"]
    done = subprocess.run(  # noqa: S603 - the browser that was found
        [*command, "--enable-logging=stderr", "--dump-dom", page.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Hub line up, 1 of 2 silos with a profile" in done.stdout
    assert "Content Security Policy" not in done.stderr
    assert "Uncaught" not in done.stderr


def test_stages_and_sentences_show_as_they_come_then_the_answer(page: Page, tmp_path: Path) -> None:
    with tab(page.url, tmp_path) as shown:
        shown.until(READY)
        shown.run(ASK)
        page.step(4)
        shown.until(
            f"{TEXT.format('heard')} === '1 of 2 silos answered, 1 missing, 3 passages released.'"
        )
        assert shown.run("document.querySelector('[aria-current]').textContent").startswith(
            "The silos with the best passages"
        )
        page.step(4)
        shown.until(f"{TEXT.format('draft')} === 'Give 1 g. [1]'")
        page.step(2)
        assert "Give 2 g." in shown.until("document.querySelector('.answer')?.textContent")
        assert shown.run("document.getElementById('waiting').hidden")


def test_a_line_that_breaks_is_taken_up_where_it_broke(page: Page, tmp_path: Path) -> None:
    broken = """
        const whole = window.fetch;
        window.fetch = async (path, options) => {
          const reply = await whole(path, options);
          if (options?.method !== "POST") return reply;
          const cut = new TransformStream({
            transform(piece, line) {
              line.enqueue(piece);
              if (new TextDecoder().decode(piece).includes("id: 4")) line.error(new Error("cut"));
            },
          });
          return new Response(reply.body.pipeThrough(cut), { headers: reply.headers });
        };
    """
    with tab(page.url, tmp_path) as shown:
        shown.until(READY)
        shown.run(broken)
        shown.run(ASK)
        page.step(20)
        assert "Give 2 g." in shown.until("document.querySelector('.answer')?.textContent")
        assert shown.run("document.querySelectorAll('#draft li').length") == 2
    assert len(page.federation.asked) == 1


def test_stop_cancels_the_question_at_the_silos(page: Page, tmp_path: Path) -> None:
    with tab(page.url, tmp_path) as shown:
        shown.until(READY)
        shown.run(ASK)
        page.step(2)
        shown.until(f"{TEXT.format('heard')} !== ''")
        shown.run("document.getElementById('stop').click()")
        assert "Stopped" in shown.until("document.querySelector('.answer h2')?.textContent")
        deadline = time.monotonic() + 10
        while not page.federation.cancelled:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_what_comes_from_outside_is_shown_as_text(page: Page, tmp_path: Path) -> None:
    hostile = (
        "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    )
    sentence = replace(ANSWER.sentences[0], text=hostile)
    source = replace(ANSWER.sources[0], text=hostile, title=hostile)
    page.federation.events = (*EVENTS[:4], source, sentence)
    page.federation.answer = replace(
        ANSWER, sentences=(sentence,), sources=(source,), answer=hostile
    )
    with tab(page.url, tmp_path) as shown:
        shown.until(READY)
        shown.run(ASK)
        page.step(6)
        shown.until(f"{TEXT.format('draft')}.includes('onerror')")
        page.step(2)
        shown.until("document.querySelector('.answer')?.textContent.includes('onerror')")
        assert shown.run("document.querySelectorAll('main img, main script').length") == 0
        assert shown.run("document.title") == "Siloquy"
