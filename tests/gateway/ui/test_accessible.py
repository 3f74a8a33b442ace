"""axe-core finds nothing in any view, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from siloquy.errors import Unreachable
from siloquy.os_user import OsUser
from siloquy.process import now_ms
from siloquy.serve.local import free_port
from siloquy.settings import ApiSettings
from siloquy.silo_node.console.app import application
from siloquy.silo_node.console.folder import SiloFolder
from siloquy.silo_node.console.sessions import ConsoleSessions
from siloquy.types import CitedSpan, Conflict
from tests.browser import NARROW, WIDE, Tab, tab
from tests.gateway.clinic import serving
from tests.gateway.served import ABSTAINED, ANSWER, Federation, desktop
from tests.gateway.ward import PASSWORD
from tests.serving import in_thread
from tests.silo_node.console import test_app as test_console

folder = test_console.folder
THEMES, SIZES = ("light", "dark"), (WIDE, NARROW)
RICH = replace(
    ANSWER,
    mode="sealed",
    conflicts=(
        Conflict("dose", (CitedSpan(1, 0, 9), CitedSpan(2, 0, 9)), "1 g in [1], 2 g in [2]"),
    ),
    notes=("A wider round was asked.",),
    flagged={"north": "its passages do not fit"},
    suggestions=("What is given in children?",),
    extractive=False,
)
"""An answer with all that an answer can have."""

View = Callable[[Tab], None]


@dataclass(frozen=True, slots=True)
class Sighted:
    """Where a sweep begins, and the views that it comes by."""

    url: str
    views: tuple[tuple[str, View], ...]


def check(browser: Browser, seen: Sighted) -> None:
    """axe-core says nothing of any view in both themes and widths."""
    said = []
    for theme in THEMES:
        for size in SIZES:
            with tab(browser, seen.url, theme=theme, size=size) as shown:
                for name, come in seen.views:
                    come(shown)
                    said += [f"{name}, {theme}, {size[0]}: {it}" for it in shown.violations()]
    assert not said, "\n".join(said)


def go(place: str, testid: str) -> View:
    """To a page of the site."""

    def come(shown: Tab) -> None:
        shown.page.evaluate(f"location.hash = {place!r}")
        shown(testid).wait_for()

    return come


def panel(name: str, testid: str) -> View:
    """To one of the panels beside an answer."""

    def come(shown: Tab) -> None:
        if not shown.page.get_by_role("tab", name=name).is_visible():
            shown("show-evidence").last.click()
        shown.page.get_by_role("tab", name=name).click()
        shown(testid).first.wait_for()

    return come


# -- the chat -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chat() -> Iterator[tuple[str, Federation]]:
    federation = Federation(answer=RICH)
    with desktop(federation, ApiSettings()) as desk, in_thread(desk.app) as served:
        yield served.url, federation


def ask(federation: Federation, answer: object, error: Exception | None = None) -> View:
    def come(shown: Tab) -> None:
        federation.answer, federation.error = answer, error  # type: ignore[assignment]
        shown.page.keyboard.press("Escape")
        shown.ask("Which dose?")
        shown.wait("turn", "failed" if error else "answered")

    return come


def held_back(shown: Tab) -> None:
    shown.page.keyboard.press("Escape")
    shown.ask("Mrs Hester Nullington, born 5.5.1959: which dose?")
    shown("identifiers").wait_for()


def options(shown: Tab) -> None:
    shown("redact").click()
    shown("options").locator("summary").click()


def judging(shown: Tab) -> None:
    shown.page.keyboard.press("Escape")
    shown("judge").last.locator("summary").click()
    shown("judge-save").last.wait_for()


def citing(shown: Tab) -> None:
    shown("cite").first.click()
    shown("passage").first.wait_for()


def renaming(shown: Tab) -> None:
    shown.page.keyboard.press("Escape")
    if shown("drawer").is_visible():
        shown("drawer").click()
    shown("conversation").first.hover()
    shown("conversation").first.get_by_role("button").first.click()
    shown("rename-dialog").wait_for()


def helping(shown: Tab) -> None:
    shown.page.keyboard.press("Escape")
    shown.page.keyboard.press("Escape")
    shown("help-open").click()
    shown("help").wait_for()


def from_history(shown: Tab) -> None:
    shown.page.keyboard.press("Escape")
    shown.page.reload()
    shown("kept").first.wait_for()


@pytest.mark.slow
def test_the_chat_has_no_violation(chat: tuple[str, Federation], browser: Browser) -> None:
    url, federation = chat
    views = (
        ("welcome", lambda shown: shown("question").wait_for()),
        ("answer", ask(federation, RICH)),
        ("a citation", citing),
        ("why", panel("Why these silos", "why")),
        ("what left", panel("What left", "left")),
        ("receipt", panel("Receipt", "receipt")),
        ("judging", judging),
        ("not found", ask(federation, ABSTAINED)),
        ("an error", ask(federation, RICH, Unreachable("no silo", "wait"))),
        ("identifiers", held_back),
        ("options", options),
        ("renaming", renaming),
        ("help", helping),
        ("from the history", from_history),
    )
    check(browser, Sighted(url, views))


def test_the_pages_beside_the_chat_have_none(
    chat: tuple[str, Federation], browser: Browser
) -> None:
    views = (
        ("federation", go("#/federation", "silos-table")),
        ("roster", go("#/roster", "roster")),
        ("judgements", go("#/judgements", "judgements")),
        ("settings", go("#/settings", "settings")),
    )
    check(browser, Sighted(chat[0], views))


# -- signing in -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_signing_in_and_its_pages_have_none(tmp_path: Path, browser: Browser) -> None:

    def refused(shown: Tab) -> None:
        shown("sign-in-name").fill("nora")
        shown("sign-in-password").fill("wrong")
        shown("sign-in-go").click()
        shown("failure").wait_for()

    def entered(shown: Tab) -> None:
        go("#/sign-in", "sign-in-page")(shown)
        shown("sign-in-name").fill("nora")
        shown("sign-in-password").fill(PASSWORD)
        shown("sign-in-go").click()
        go("#/judgements", "wall")(shown)

    def invited(shown: Tab) -> None:
        go("#/people", "people")(shown)
        shown("invite-name").fill("anna")
        shown("invite-make").click()
        shown("invitation").wait_for()

    views = (
        ("sign-in", lambda shown: shown("sign-in-page").wait_for()),
        ("refused", refused),
        ("join", go("#/join/abc", "join")),
        ("a wall", entered),
        ("people", invited),
        ("sign-ins", go("#/sign-ins", "sign-ins")),
        ("settings", go("#/settings", "password")),
    )
    with serving(tmp_path) as clinic:
        clinic.join("nora", "silo_admin", "auditor")
        check(browser, Sighted(clinic.url, views))


# -- the silo console -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_silo_console_has_none(folder: Path, browser: Browser) -> None:
    port, sessions = free_port(), ConsoleSessions()
    served = application(SiloFolder(folder, now_ms), sessions, OsUser("nora", "Nora"), port)

    def entered(shown: Tab) -> None:
        go("#/open/" + sessions.invite(), "policy")(shown)

    def pausing(shown: Tab) -> None:
        go("#/silo", "policy")(shown)
        shown("pause").click()
        shown("pause-dialog").wait_for()

    def paused(shown: Tab) -> None:
        shown("pause-sure").click()
        shown("paused").wait_for()

    def resumed(shown: Tab) -> None:
        shown("resume").click()
        shown("pause").wait_for()

    def verified(shown: Tab) -> None:
        go("#/ledger", "ledger-table")(shown)
        shown("verify-ledger").click()
        shown("ledger-verified").wait_for()

    views = (
        ("no link", lambda shown: shown("no-link").wait_for()),
        ("the silo", entered),
        ("pausing", pausing),
        ("paused", paused),
        ("running", resumed),
        ("the ledger", verified),
        ("documents", go("#/documents", "documents")),
    )
    with in_thread(served, port) as listening:
        check(browser, Sighted(listening.url, views))
