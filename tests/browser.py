"""A headless Chromium that tests drive, and that notices what a page must not do."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from siloquy.errors import SettingsError
from siloquy.eval.load.page import FLAGS, browser_path

AXE = Path(__file__).resolve().parents[1] / "gateway/ui/node_modules/axe-core/axe.min.js"
WIDE, NARROW = (1440, 900), (360, 740)
# Other jobs share the machine.
expect.set_options(timeout=15_000)
# What a browser says of every reply that is a refusal; the page shows those itself.
_REFUSAL = "Failed to load resource"


def chromium() -> str:
    """Path of the browser; skips where there is none, and fails in CI."""
    try:
        return browser_path()
    except SettingsError:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has no Chromium, see .ci/run")
        pytest.skip("no Chromium on this machine")


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A running browser."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


class Tab:
    """One page of a person's own: nobody else's cookies and storage.

    requests   every address that was fetched
    problems   errors of scripts and whatever the content security policy has blocked
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.problems: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda told: self._console(told.type, told.text))

    def _console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not text.startswith(_REFUSAL):
            self.problems.append(text)

    def __call__(self, testid: str) -> Locator:
        return self.page.get_by_test_id(testid)

    def wait(self, testid: str, state: str | None = None, timeout_s: float = 20.0) -> Locator:
        """The newest part of that name as soon as it is seen, in ``state`` where one is named."""
        only = f'[data-testid="{testid}"]' + (f'[data-state="{state}"]' if state else "")
        found = self.page.locator(only).last
        found.wait_for(timeout=timeout_s * 1000)
        return found

    def ask(self, question: str) -> None:
        """Type a question and ask it."""
        self("question").fill(question)
        self("ask").click()

    def answered(self, question: str, then: Callable[[], None] = lambda: None) -> Locator:
        """Ask, do something ``then``, and the question's own turn when it has been answered."""
        turn = self("turn").nth(self("turn").count())
        self.ask(question)
        then()
        expect(turn).to_have_attribute("data-state", "answered", timeout=30_000)
        return turn

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page as it is now, all its rules."""
        self.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: list[dict[str, Any]] = self.page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then((told) => told.violations)"
        )
        return [
            f"{item['id']}: {json.dumps([node['html'][:120] for node in item['nodes'][:3]])}"
            for item in found
        ]


@contextlib.contextmanager
def tab(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = WIDE,
    theme: str = "light",
    language: str = "en-GB",
) -> Iterator[Tab]:
    """A tab at ``url``; nothing foreign is fetched, no script fails, the policy blocks nothing."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
        locale=language,
        permissions=["clipboard-read", "clipboard-write"],
        reduced_motion="reduce",
    )
    context.set_default_timeout(20_000)
    opened = Tab(context.new_page())
    try:
        opened.page.goto(url)
        yield opened
        foreign = [item for item in opened.requests if not _is_local(item, url)]
        assert foreign == []
        assert opened.problems == []
    finally:
        context.close()


def _is_local(address: str, page: str) -> bool:
    """Whether an address is the page's own; what a page makes itself has none."""
    return urlsplit(address).scheme == "blob" or urlsplit(address)[:2] == urlsplit(page)[:2]
