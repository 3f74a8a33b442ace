"""The page of a gateway with sign-in, behind a proxy under a path: accounts, walls, expiry."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from playwright.sync_api import Browser, expect

from siloquy.serve.local import free_port
from siloquy.settings import SignInSettings
from tests.browser import Tab, tab
from tests.end_to_end.processes import VANCOMYCIN, Federation
from tests.end_to_end.signed_in import PASSWORD, Invite, signed_in
from tests.serving import in_thread, under

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

PATH = "/wards/siloquy"


@dataclass(frozen=True, slots=True)
class Clinic:
    """Where people find the page, and who makes their links."""

    url: str
    invite: Invite


@pytest.fixture(scope="module")
def clinic(fed: Federation) -> Iterator[Clinic]:
    """The gateway with accounts, behind a proxy under a path."""
    port = free_port()
    url = f"http://127.0.0.1:{port}{PATH}/"
    settings = SignInSettings(kind="local", url=url, idle_minutes=1)
    with (
        signed_in(fed.demo, settings) as invite,
        in_thread(under(PATH, fed.layout.gateway_url), port),
    ):
        yield Clinic(url, invite)


def joined(clinic: Clinic, shown: Tab, name: str, *roles: str) -> None:
    """Somebody uses their link."""
    shown.page.goto(clinic.invite(name, *roles))
    shown("join-shown").fill(name.title())
    shown("join-password").fill(PASSWORD)
    shown("join-repeat").fill(PASSWORD)
    shown("join-go").click()
    expect(shown("who")).to_have_text(name.title())


def signed(clinic: Clinic, shown: Tab, name: str, password: str = PASSWORD) -> None:
    shown("sign-in-name").fill(name)
    shown("sign-in-password").fill(password)
    shown("sign-in-go").click()


def test_a_clinician_joins_asks_under_the_path_and_signs_out(
    clinic: Clinic, browser: Browser
) -> None:
    with tab(browser, clinic.url) as shown:
        shown("sign-in-page").wait_for()
        expect(shown("question")).to_have_count(0)
        joined(clinic, shown, "anna", "clinician")
        shown.answered(VANCOMYCIN)
        expect(shown("sentences")).to_contain_text("25 mg/kg")
        shown("cite").first.click()
        expect(shown.page.locator("mark.current")).to_contain_text("25 mg/kg")
        shown.page.reload()
        shown("kept").wait_for()
        assert all(address.startswith(clinic.url) for address in shown.requests)
        cookies = shown.page.context.cookies()
        assert len(cookies) == 2
        assert all((item["httpOnly"], item["path"]) == (True, PATH) for item in cookies)
        assert shown.page.evaluate("document.cookie") == ""
        shown("sign-out").click()
        shown("sign-in-page").wait_for()
        assert VANCOMYCIN not in shown.page.content()


def test_a_wrong_password_says_nothing_of_the_name(clinic: Clinic, browser: Browser) -> None:
    with tab(browser, clinic.url) as shown:
        clinic.invite("bert", "clinician")
        said = []
        for name in ("bert", "nobody"):
            signed(clinic, shown, name, "wrong and long enough")
            expect(shown("failure")).to_be_visible()
            said.append(shown("failure").inner_text())
        assert said[0] == said[1]


def test_everybody_has_conversations_of_their_own(clinic: Clinic, browser: Browser) -> None:
    with tab(browser, clinic.url) as carla, tab(browser, clinic.url) as dora:
        joined(clinic, carla, "carla", "clinician")
        joined(clinic, dora, "dora", "clinician")
        carla.answered(VANCOMYCIN)
        dora("new").click()
        expect(dora("history")).to_contain_text("No conversation yet.")
        dora.page.goto(carla.page.url)
        expect(dora("failure")).to_contain_text("there is no such conversation")


def test_roles_are_walls(clinic: Clinic, browser: Browser) -> None:
    with tab(browser, clinic.url) as shown:
        joined(clinic, shown, "nora", "silo_admin", "auditor")
        shown("federation").wait_for()
        shown.page.evaluate("location.hash = '#/c/somebodys'")
        expect(shown("wall")).to_contain_text("Clinician, Evaluator")
        shown.page.get_by_role("link", name="People").first.click()
        expect(shown("people")).to_contain_text("Silo administrator")
        shown.page.get_by_role("link", name="Sign-ins").first.click()
        expect(shown("sign-ins")).to_contain_text("nora")
        refused = shown.page.request.get(clinic.url + "v1/conversations")
        assert refused.status == 403
    with tab(browser, clinic.url) as shown:
        joined(clinic, shown, "emil", "clinician")
        expect(shown.page.get_by_role("link", name="People")).to_have_count(0)
        shown.page.evaluate("location.hash = '#/people'")
        expect(shown("wall")).to_contain_text("Silo administrator")
        assert shown.page.request.get(clinic.url + "v1/accounts").status == 403
        assert shown.page.request.get(clinic.url + "v1/feedback").status == 403


def test_an_administrator_invites_and_disables(clinic: Clinic, browser: Browser) -> None:
    with tab(browser, clinic.url) as admin, tab(browser, clinic.url) as guest:
        joined(clinic, admin, "olga", "silo_admin")
        admin.page.get_by_role("link", name="People").first.click()
        admin("invite-name").fill("fritz")
        admin("invite-make").click()
        link = admin("invitation-link").inner_text()
        assert link.startswith(clinic.url)
        guest.page.goto(link)
        guest.page.reload()
        guest("join-shown").fill("Fritz")
        guest("join-password").fill(PASSWORD)
        guest("join-repeat").fill("something else that is long")
        guest("join-go").click()
        expect(guest("failure")).to_contain_text("The two passwords differ.")
        guest("join-repeat").fill(PASSWORD)
        guest("join-go").click()
        expect(guest("who")).to_have_text("Fritz")
        admin.page.get_by_label("Disable fritz").click()
        expect(admin.page.get_by_label("Enable fritz")).to_be_visible()
        # At the latest when the page next looks how the gateway is.
        expect(guest("sign-in-again")).to_be_visible(timeout=20_000)


def test_a_session_that_ends_while_it_streams_loses_nothing(
    clinic: Clinic, browser: Browser
) -> None:
    with tab(browser, clinic.url) as shown:
        joined(clinic, shown, "gerd", "clinician")
        shown.answered(VANCOMYCIN)
        shown("question").fill("And in children?")
        cookies = {item["name"]: item["value"] for item in shown.page.context.cookies()}
        csrf = shown.page.request.get(clinic.url + "v1/session").json()["csrf"]
        headers = {"X-CSRF-Token": csrf}
        ended = httpx.delete(clinic.url + "v1/session", cookies=cookies, headers=headers)
        assert ended.status_code in (200, 204)
        shown("ask").click()
        expect(shown("sign-in-again")).to_contain_text("nothing that you typed is lost")
        again = shown("sign-in-again")
        again.get_by_test_id("sign-in-name").fill("gerd")
        again.get_by_test_id("sign-in-password").fill(PASSWORD)
        again.get_by_test_id("sign-in-go").click()
        expect(shown("sign-in-again")).to_have_count(0)
        expect(shown("asked").last).to_have_text("And in children?")
        shown("again").last.click()
        shown("turn").nth(2).get_by_test_id("answer").wait_for()


def test_who_has_left_is_warned_and_signed_out(clinic: Clinic, browser: Browser) -> None:
    with tab(browser, clinic.url) as shown:
        joined(clinic, shown, "hanna", "clinician")
        shown.answered(VANCOMYCIN)
        # A minute's idle time, of which the warning has the second half.
        away = "localStorage.setItem('siloquy.active', String(Date.now() - {}))"
        shown.page.evaluate(away.format(40_000))
        expect(shown("leaving")).to_contain_text("You are signed out in")
        shown("stay").click()
        expect(shown("leaving")).to_have_count(0)
        shown.page.evaluate(away.format(61_000))
        shown("sign-in-page").wait_for()
        assert VANCOMYCIN not in shown.page.content()


def test_a_person_chooses_how_long_conversations_are_kept(clinic: Clinic, browser: Browser) -> None:
    with tab(browser, clinic.url) as shown:
        joined(clinic, shown, "ida", "clinician")
        shown("settings-open").click()
        expect(shown("keep-days")).to_have_value("0")
        shown("keep-days").fill("30")
        shown("keep-save").click()
        expect(shown("keep")).to_contain_text("Saved.")
        shown.page.reload()
        expect(shown("keep-days")).to_have_value("30")
