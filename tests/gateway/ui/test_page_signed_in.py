"""The page of a gateway with accounts: whose it is, when sessions end and when people change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser import NARROW, Tab, tab
from tests.gateway.clinic import Clinic, serving
from tests.gateway.served import Federation
from tests.gateway.ward import PASSWORD

QUESTION = "Which dose?"


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    with serving(tmp_path) as made:
        yield made


def sign_in(shown: Tab, name: str) -> None:
    shown("sign-in-name").fill(name)
    shown("sign-in-password").fill(PASSWORD)
    shown("sign-in-go").click()
    expect(shown("who")).to_have_text(name.title())


def end_session(clinic: Clinic, shown: Tab) -> None:
    """As an administrator or the clock ends it: the page is not told."""
    cookies = {item["name"]: item["value"] for item in shown.page.context.cookies()}
    csrf = shown.page.request.get(clinic.url + "v1/session").json()["csrf"]
    httpx.delete(
        clinic.url + "v1/session", cookies=cookies, headers={"X-CSRF-Token": csrf}, trust_env=False
    ).raise_for_status()
    shown.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    shown("sign-in-again").wait_for()


def test_there_is_no_way_around_signing_in_again(clinic: Clinic, browser: Browser) -> None:
    clinic.join("anna", "clinician")
    with tab(browser, clinic.url) as shown:
        sign_in(shown, "anna")
        shown("question").fill(QUESTION)
        end_session(clinic, shown)
        for _ in range(3):
            shown.page.keyboard.press("Escape")
        expect(shown("sign-in-again")).to_be_visible()
        sign_in(shown, "anna")
        expect(shown("sign-in-again")).to_have_count(0)
        expect(shown("question")).to_have_value(QUESTION)


def test_who_signs_in_after_somebody_else_sees_nothing_of_theirs(
    clinic: Clinic, browser: Browser
) -> None:
    clinic.join("anna", "clinician")
    clinic.join("bert", "clinician")
    with tab(browser, clinic.url) as shown:
        sign_in(shown, "anna")
        shown.answered(QUESTION)
        shown("question").fill("What anna has typed")
        end_session(clinic, shown)
        sign_in(shown, "bert")
        expect(shown("history")).to_contain_text("No conversation yet.")
        expect(shown("question")).to_have_value("")
        expect(shown("sentences")).to_have_count(0)


def test_signing_out_clears_the_other_tabs_too(clinic: Clinic, browser: Browser) -> None:
    clinic.join("anna", "clinician")
    with tab(browser, clinic.url) as shown:
        sign_in(shown, "anna")
        shown.answered(QUESTION)
        other = shown.page.context.new_page()
        other.goto(clinic.url)
        other.get_by_test_id("sign-out").click()
        other.get_by_test_id("sign-in-page").wait_for()
        shown("sign-in-page").wait_for()
        assert QUESTION not in shown.page.content()


def test_an_account_is_not_removed_by_one_click(clinic: Clinic, browser: Browser) -> None:
    clinic.join("nora", "silo_admin")
    clinic.join("bert", "clinician")
    with tab(browser, clinic.url) as shown:
        sign_in(shown, "nora")
        shown.page.get_by_role("link", name="People").first.click()
        expect(shown.page.get_by_label("Remove nora")).to_be_disabled()
        shown.page.get_by_label("Remove bert").click()
        expect(shown("remove-account")).to_contain_text("Remove bert for good?")
        shown("remove-account").get_by_role("button", name="Cancel").click()
        expect(shown.page.get_by_label("Remove bert")).to_be_focused()
        shown.page.get_by_label("Remove bert").click()
        shown("remove-account-sure").click()
        expect(shown.page.get_by_label("Remove bert")).to_have_count(0)


def test_the_header_fits_a_telephone_in_german(clinic: Clinic, browser: Browser) -> None:
    clinic.join("anna", "clinician", "auditor")
    with tab(browser, clinic.url, size=NARROW, language="de-DE") as shown:
        shown("sign-in-name").fill("anna")
        shown("sign-in-password").fill(PASSWORD)
        shown("sign-in-go").click()
        shown("status").wait_for()
        expect(shown("sign-out")).to_be_in_viewport(ratio=1)
        expect(shown.page.get_by_role("link", name="Einstellungen")).to_be_visible()
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= NARROW[0]


def test_a_session_that_ends_in_the_middle_of_a_stream_is_taken_up_again(
    tmp_path: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siloquy.gateway.api.streams.KEEP_ALIVE_S", 0.1)
    federation = Federation(paced=True)
    with serving(tmp_path, federation=federation) as clinic:
        clinic.join("anna", "clinician")
        with tab(browser, clinic.url) as shown:
            sign_in(shown, "anna")
            shown.ask("Which dose?")
            shown.wait("way")
            shown("question").fill("And in children?")
            end_session(clinic, shown)
            expect(shown("sign-in-again")).to_be_visible()
            deadline = time.monotonic() + 20
            while not federation.cancelled:
                assert time.monotonic() < deadline, "the silos go on"
                time.sleep(0.05)
            again = shown("sign-in-again")
            again.get_by_test_id("sign-in-name").fill("anna")
            again.get_by_test_id("sign-in-password").fill(PASSWORD)
            again.get_by_test_id("sign-in-go").click()
            expect(shown("sign-in-again")).to_have_count(0)
            expect(shown("asked")).to_have_text("Which dose?")
            expect(shown("question")).to_have_value("And in children?")
            expect(shown("again")).to_be_enabled()
