"""Signing in at a real OpenID provider, in a real browser, and what the page says when it fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect

from siloquy.serve.local import free_port
from tests.browser import Tab, tab
from tests.gateway.clinic import serving
from tests.gateway.openid import OpenId, new_key, openid, write_secret

KEY = new_key("one")


@contextmanager
def clinic(folder: Path) -> Iterator[tuple[str, OpenId]]:
    """A gateway whose people sign in at a provider; where its page is."""
    port = free_port()
    home = f"http://127.0.0.1:{port}"
    write_secret(folder)

    redirect = f"{home}/v1/session/oidc/callback"
    with (
        openid(KEY, redirect=redirect, logout=f"{home}/") as provider,
        serving(folder, provider.settings(url=home), home, port),
    ):
        yield home + "/", provider


@contextmanager
def elsewhere_too(browser: Browser, url: str) -> Iterator[Tab]:
    """A tab that may go to the provider; the page itself still fetches nothing foreign."""
    with tab(browser, url) as shown:
        yield shown
        shown.requests[:] = [item for item in shown.requests if item.startswith(url)]
        shown.problems.clear()


def at_provider(shown: Tab, name: str) -> None:
    shown("sign-in-oidc").click()
    shown.page.locator("input[name=login]").fill(name)
    shown.page.locator("input[name=password]").fill("anything")
    shown.page.locator("button[type=submit]").click()
    agree = shown.page.locator("button[type=submit]")
    if "/interaction/" in shown.page.url:
        agree.click()


def test_a_clinician_signs_in_at_the_provider(tmp_path: Path, browser: Browser) -> None:
    with clinic(tmp_path) as (url, _), elsewhere_too(browser, url) as shown:
        expect(shown("sign-in-oidc")).to_have_text("Sign in with Hospital")
        at_provider(shown, "anna")
        expect(shown("who")).to_have_text("Anna Ito")
        shown.answered("Which dose?")


def test_a_provider_that_is_gone_is_said_on_the_page(tmp_path: Path, browser: Browser) -> None:
    with clinic(tmp_path) as (url, provider), elsewhere_too(browser, url) as shown:
        expect(shown("sign-in-oidc")).to_be_visible()
        provider.stop()
        shown("sign-in-oidc").click()
        expect(shown("sign-in-page")).to_contain_text("The provider cannot be reached.")


def test_signing_in_again_at_the_provider_keeps_the_page(tmp_path: Path, browser: Browser) -> None:
    with clinic(tmp_path) as (url, _), elsewhere_too(browser, url) as shown:
        at_provider(shown, "anna")
        shown("question").fill("Which dose?")
        session = url + "v1/session"
        csrf = shown.page.request.get(session).json()["csrf"]
        shown.page.request.delete(session, headers={"X-CSRF-Token": csrf})
        looked_at = "document.dispatchEvent(new Event('visibilitychange'))"
        shown.page.evaluate(looked_at)
        again = shown("sign-in-again")
        with shown.page.context.expect_page() as opened:
            again.get_by_test_id("sign-in-oidc").click()
        # The provider may know her still, or ask again.
        other = Tab(opened.value)
        if not _comes(other):
            other.page.locator("input[name=login]").fill("anna")
            other.page.locator("input[name=password]").fill("anything")
            other.page.locator("button[type=submit]").click()
        expect(other("who")).to_have_text("Anna Ito")
        shown.page.evaluate(looked_at)
        expect(again).to_have_count(0)
        expect(shown("question")).to_have_value("Which dose?")


def _comes(other: Tab) -> bool:
    """Whether the provider let her in unasked."""
    first = other("who").or_(other.page.locator("input[name=login]"))
    first.wait_for()
    return other("who").is_visible()
