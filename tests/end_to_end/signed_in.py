"""The demo's gateway with sign-in, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import httpx

from siloquy import settings as settings_files
from siloquy.serve.demo import Demo
from siloquy.serve.local import GATEWAY
from siloquy.settings import GatewaySettings, SignInSettings
from tests.end_to_end.processes import siloquy, until

PASSWORD = "correct horse battery"
Invite = Callable[..., str]


@contextmanager
def signed_in(made: Demo, sign_in: SignInSettings | None = None) -> Iterator[Invite]:
    """The gateway started anew with sign-in; gives links of accounts, by name and roles."""
    folder = made.layout.of(GATEWAY)
    before = settings_files.read(GatewaySettings, folder, {})
    wanted = sign_in or SignInSettings(kind="local")

    def invite(name: str, *roles: str) -> str:
        asked = [part for role in roles for part in ("--role", role)]
        told = siloquy("gateway", "invite", name, *asked, "--folder", folder, "--json")
        assert told.code == 0, told.out + told.err
        return str(told.json["link"])

    _restart(made, replace(before, sign_in=wanted))
    try:
        yield invite
    finally:
        _restart(made, before)


def _restart(made: Demo, settings: GatewaySettings) -> None:
    made.processes.stop(GATEWAY)
    settings_files.write(settings, made.layout.of(GATEWAY))
    made.processes.start(GATEWAY)
    until(lambda: _ready(made.layout.gateway_url), "the gateway does not come back", 60)


def _ready(url: str) -> bool:
    try:
        return httpx.get(url + "/readyz", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
