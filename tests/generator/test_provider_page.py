"""Signing in at a real OpenID provider, in a real browser, and what the page says when it fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, expect

from siloquy.generator.api import api_keys
from siloquy.generator.api import conversations as kept
from siloquy.generator.api.service import app
from siloquy.generator.api.sign_in_service import Site
from siloquy.generator.sign_in.authenticator import Authenticator
from siloquy.local import free_port
from siloquy.settings import ApiSettings
from tests.browser import Tab, tab
from tests.generator.openid import OpenId, new_key, openid, write_secret
from tests.generator.served import Federation
from tests.serving import in_thread

KEY = new_key("one")


@contextmanager
def clinic(folder: Path) -> Iterator[tuple[str, OpenId]]:
    """A gateway whose people sign in at a provider; where its page is."""
    port = free_port()
    home = f"http://127.0.0.1:{port}"
    write_secret(folder)

    def now() -> int:
        return time.time_ns() // 1_000_000

    redirect = f"{home}/v1/session/oidc/callback"
    with (
        openid(KEY, redirect=redirect, logout=f"{home}/") as provider,
        closing(api_keys.Keys(folder / api_keys.FILE_NAME, now)) as keys,
        closing(kept.Conversations(folder / kept.FILE_NAME, now)) as conversations,
        closing(Authenticator(provider.settings(url=home), folder, home, now)) as authenticator,
    ):
        site = Site("ward", "St Anna")
        service = app(
            Federation(),
            ApiSettings(),
            conversations,
            keys,
            authenticator=authenticator,
            site=site,
        )
        with in_thread(service, port):
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
