"""A gateway with sign-in on a port of loopback, for tests that drive a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from siloquy.gateway.api import api_keys
from siloquy.gateway.api import conversations as kept
from siloquy.gateway.api.app import app
from siloquy.gateway.api.sign_in_service import SiteName
from siloquy.gateway.sign_in.authenticator import Authenticator
from siloquy.process import now_ms
from siloquy.settings import ApiSettings, SignInSettings
from tests.gateway.served import Federation
from tests.gateway.ward import LOCAL, PASSWORD
from tests.serving import in_thread


@dataclass(frozen=True, slots=True)
class Clinic:
    """Where people find the page, and who lets them in."""

    url: str
    authenticator: Authenticator

    def join(self, name: str, *roles: str) -> None:
        """An account that can be signed in to."""
        token = self.authenticator.local.accounts.invite(name, roles).token
        body = {"token": token, "shown": name.title(), "password": PASSWORD}
        reply = httpx.post(self.url + "v1/accounts/join", json=body, trust_env=False)
        reply.raise_for_status()


@contextmanager
def serving(
    folder: Path,
    settings: SignInSettings = LOCAL,
    home: str = "http://127.0.0.1",
    port: int = 0,
    federation: Federation | None = None,
) -> Iterator[Clinic]:
    """A gateway over the files in ``folder``, which people reach as ``home``."""
    with (
        closing(api_keys.Keys(folder / api_keys.FILE_NAME, now_ms)) as keys,
        closing(kept.Conversations(folder / kept.FILE_NAME, now_ms)) as conversations,
        closing(Authenticator(settings, folder, home, now_ms)) as authenticator,
    ):
        service = app(
            federation or Federation(),
            ApiSettings(),
            conversations,
            keys,
            authenticator=authenticator,
            site=SiteName("ward", "St Anna"),
        )
        with in_thread(service, port) as served:
            yield Clinic(served.url, authenticator)
