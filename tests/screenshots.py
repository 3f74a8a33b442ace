"""Pictures of the main views, taken from the demo: ``python -m tests.screenshots FOLDER``."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser

from siloquy.serve import demo
from siloquy.serve.demo import Demo
from tests.browser import NARROW, Tab, launched, tab
from tests.end_to_end.processes import Console
from tests.end_to_end.signed_in import PASSWORD, signed_in

APIXABAN = "When can full-dose apixaban be restarted after a procedure with high bleeding risk?"
VANCOMYCIN = "What is the loading dose of intravenous vancomycin in adults?"
TYRE = "Which tyre pressure suits an ambulance?"
COLOURS = 256


class Album:
    """Pictures in a folder, small enough for a repository."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, shown: Tab, name: str) -> None:
        """One picture of what is seen now."""
        shown.page.wait_for_timeout(400)
        picture = Image.open(io.BytesIO(shown.page.screenshot()))
        path = self._folder / f"{name}.png"
        picture.convert("RGB").quantize(COLOURS).save(path, optimize=True)
        sys.stdout.write(f"{path}  {path.stat().st_size // 1024} KB\n")


def of_chat(album: Album, browser: Browser, url: str) -> None:
    """Questions, answers, evidence."""
    with tab(browser, url) as shown:
        shown.page.get_by_test_id("status").filter(has_text="5 of 5").wait_for()
        album.take(shown, "ask")
        shown.answered(VANCOMYCIN)
        shown("new").click()
        shown.answered(APIXABAN)
        shown("cite").first.click()
        album.take(shown, "answer")
        for name, picture in (
            ("Why these silos", "why"),
            ("What left", "left"),
            ("Receipt", "receipt"),
        ):
            shown.page.get_by_role("tab", name=name).click()
            if picture == "receipt":
                shown("check-receipt").click()
                shown("receipt-check").wait_for()
            album.take(shown, picture)
        shown("new").click()
        shown("question").fill("Mrs Hester Nullington, born 5 May 1959: restart apixaban when?")
        shown("ask").click()
        album.take(shown, "identifiers")
    with tab(browser, url, theme="dark") as shown:
        shown("options").locator("summary").click()
        shown.page.get_by_label("Ask all silos", exact=True).check(force=True)
        shown.page.get_by_label("Sealed", exact=True).check(force=True)
        shown.answered(VANCOMYCIN)
        shown("cite").first.click()
        album.take(shown, "sealed-dark")
    with tab(browser, url) as shown:
        shown.answered(TYRE)
        album.take(shown, "not-found")
    with tab(browser, url, size=NARROW, language="de-DE") as shown:
        shown.answered(APIXABAN)
        album.take(shown, "telephone-german")
        shown("cite").first.click()
        album.take(shown, "telephone-source")


def of_site(album: Album, browser: Browser, url: str) -> None:
    """Pages beside the chat."""
    with tab(browser, url + "/#/federation") as shown:
        shown("silos-table").wait_for()
        album.take(shown, "federation")
        shown.page.get_by_role("link", name="Roster").click()
        shown("roster").wait_for()
        album.take(shown, "roster")
        shown("settings-open").click()
        shown("settings").wait_for()
        album.take(shown, "settings")


def of_console(album: Album, browser: Browser, made: Demo) -> None:
    """A hospital's own pages."""
    console = Console(made.layout.of(made.layout.silos[-1]))
    address, token = console.link()
    with tab(browser, f"{address}/#/open/{token}") as shown:
        shown("policy").wait_for()
        album.take(shown, "silo")
        shown.page.get_by_role("link", name="Ledger").click()
        shown("verify-ledger").click()
        shown("ledger-verified").wait_for()
        album.take(shown, "ledger")
    console.end()


def of_people(album: Album, browser: Browser, made: Demo) -> None:
    """Signing in, and who may."""
    with signed_in(made) as link, tab(browser, made.layout.gateway_url) as shown:
        shown("sign-in-page").wait_for()
        album.take(shown, "sign-in")
        shown.page.goto(link("nora", "silo_admin", "auditor"))
        shown("join-shown").fill("Nora Berg")
        shown("join-password").fill(PASSWORD)
        shown("join-repeat").fill(PASSWORD)
        shown("join-go").click()
        shown.page.get_by_role("link", name="People").first.click()
        shown("invite-name").fill("anna")
        shown("invite-make").click()
        shown("invitation").wait_for()
        album.take(shown, "people")


def main(folder: Path) -> None:
    """Take them all."""
    album = Album(folder)
    with (
        tempfile.TemporaryDirectory() as made_in,
        demo.federation(None, Path(made_in) / "nodes", lambda text: None) as made,
        launched() as browser,
    ):
        url = made.layout.gateway_url
        httpx.post(url + "/v1/ask", json={"question": VANCOMYCIN}, timeout=60).raise_for_status()
        of_chat(album, browser, url)
        of_site(album, browser, url)
        of_console(album, browser, made)
        of_people(album, browser, made)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
