"""A gateway with sign-in, its clock in the test's hand, and browsers that keep its cookies."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from siloquy.gateway.api import api_keys
from siloquy.gateway.api import conversations as kept
from siloquy.gateway.api.app import app
from siloquy.gateway.api.sign_in_service import SiteName
from siloquy.gateway.sign_in.accounts import Accounts
from siloquy.gateway.sign_in.authenticator import Authenticator
from siloquy.settings import ApiSettings, SignInSettings
from tests.gateway.served import Federation

LOCAL = SignInSettings(kind="local")
HOME = "http://127.0.0.1:8080"
PASSWORD = "correct horse battery"
OTHER = "purple monkey dishwasher"


@dataclass
class Clock:
    """Time that passes when it is told to."""

    ms: int = 1_800_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1000

    def sleep(self, seconds: float) -> None:
        self.ms += round(seconds * 1000)


@dataclass
class Browser:
    """One browser: cookies, and the CSRF token that its page was told."""

    http: httpx.AsyncClient
    csrf: str = ""

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        headers = {"X-CSRF-Token": self.csrf} if self.csrf else {}
        return await self.http.request(method, path, json=body, headers=headers, **more)

    async def sign_in(self, name: str, password: str = PASSWORD) -> httpx.Response:
        return self._heard(
            await self.call("POST", "/v1/session", {"name": name, "password": password})
        )

    async def join(
        self, token: str, shown: str = "Anna Ito", password: str = PASSWORD
    ) -> httpx.Response:
        body = {"token": token, "shown": shown, "password": password}
        return self._heard(await self.call("POST", "/v1/accounts/join", body))

    async def session(self, *, quiet: bool = False) -> dict[str, Any]:
        reply = await self.call("GET", f"/v1/session{'?quiet=1' if quiet else ''}")
        assert reply.status_code == 200
        return dict(self._heard(reply).json())

    async def signed_in(self, *, quiet: bool = True) -> bool:
        return (await self.session(quiet=quiet))["person"] is not None

    def _heard(self, reply: httpx.Response) -> httpx.Response:
        if reply.status_code == 200:
            self.csrf = reply.json()["csrf"]
        return reply


@dataclass
class Ward:
    """One running gateway."""

    app: FastAPI
    gateway: Federation
    keys: api_keys.Keys
    conversations: kept.Conversations
    authenticator: Authenticator
    clock: Clock
    home: str
    opened: list[httpx.AsyncClient] = field(default_factory=list)

    @property
    def accounts(self) -> Accounts:
        return self.authenticator.local.accounts

    def browser(self, **headers: str) -> Browser:
        """A browser that has been nowhere yet."""
        transport = httpx.ASGITransport(self.app)
        base = httpx.URL(self.home).copy_with(path="/")
        http = httpx.AsyncClient(transport=transport, base_url=base, headers=headers)
        self.opened.append(http)
        return Browser(http)

    async def member(self, name: str, *roles: str, password: str = PASSWORD) -> Browser:
        """The browser of somebody who has just used a link."""
        browser = self.browser()
        token = self.accounts.invite(name, roles).token
        reply = await browser.join(token, name.title(), password)
        assert reply.status_code == 200, reply.text
        return browser

    def close(self) -> None:
        self.keys.close()
        self.conversations.close()
        self.authenticator.close()


@contextlib.asynccontextmanager
async def ward(
    folder: Path,
    settings: SignInSettings = LOCAL,
    *,
    api: ApiSettings | None = None,
    gateway: Federation | None = None,
    clock: Clock | None = None,
    home: str = "",
) -> AsyncIterator[Ward]:
    """A gateway over the files in ``folder``, so that another one may go on where it ended."""
    clock, gateway = clock or Clock(), gateway or Federation()
    home = home or settings.url or HOME
    keys = api_keys.Keys(folder / api_keys.FILE_NAME, clock.now_ms)
    conversations = kept.Conversations(folder / kept.FILE_NAME, clock.now_ms)
    authenticator = Authenticator(settings, folder, home, clock.now_ms, clock.monotonic)
    service = app(
        gateway,
        api or ApiSettings(),
        conversations,
        keys,
        authenticator=authenticator,
        site=SiteName("ward", "St Anna"),
    )
    made = Ward(service, gateway, keys, conversations, authenticator, clock, home)
    try:
        yield made
    finally:
        for http in made.opened:
            await http.aclose()
        made.close()
