"""A real OpenID provider in a process of its own, and somebody at a browser who signs in at it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest
from joserfc.jwk import ECKey, RSAKey

from siloquy.settings import SignInSettings
from tests.gateway.ward import HOME, Browser

FOLDER = Path(__file__).resolve().parents[1] / "oidc"
CALLBACK = f"{HOME}/v1/session/oidc/callback"
SECRET = "a secret: with %odd/ signs"
SECRET_FILE = "client.secret"
Key = RSAKey | ECKey


def lacking() -> str:
    """What keeps the provider from being run here; empty when nothing does."""
    if shutil.which("node") is None:
        return "no node found"
    if not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        return "no oidc-provider: npm ci --prefix tests/oidc"
    return ""


def needed() -> None:
    """Skip the test where the provider cannot be run; CI must be able to."""
    if why := lacking():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)


def new_key(kid: str) -> RSAKey:
    """A key that a provider signs with."""
    return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256", "kid": kid})


@dataclass
class OpenId:
    """One running provider."""

    issuer: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.issuer.rpartition(":")[2])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def settings(self, **more: object) -> SignInSettings:
        """Settings of a gateway whose people sign in here."""
        told: dict[str, object] = {
            "kind": "oidc",
            "url": HOME,
            "issuer": self.issuer,
            "client_id": "ward",
            "client_secret_file": SECRET_FILE,
            "roles_claim": "realm_access.roles",
            "role_names": ("ward-doctor=clinician", "ward-quality=evaluator"),
            "provider": "Hospital",
        }
        return SignInSettings(**{**told, **more})  # type: ignore[arg-type]


@contextlib.contextmanager
def openid(key: Key, port: int = 0, **more: object) -> Iterator[OpenId]:
    """A provider that signs with ``key``."""
    needed()
    told = {
        "port": port,
        "redirect": CALLBACK,
        "logout": f"{HOME}/",
        "keys": [key.as_dict(private=True)],
        **more,
    }
    process = subprocess.Popen(  # noqa: S603 - a script of this repository
        ["node", str(FOLDER / "provider.mjs"), json.dumps(told)],  # noqa: S607
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        line = ""
        while not line.startswith("http"):
            line = process.stdout.readline()
            assert line, "the provider ended"
        made = OpenId(line.strip(), process)
        try:
            yield made
        finally:
            made.stop()


def write_secret(folder: Path) -> None:
    """The file with the client's secret."""
    path = folder / SECRET_FILE
    path.write_text(SECRET + "\n")
    path.chmod(0o600)


async def begun(browser: Browser) -> str:
    """Where the gateway sends somebody who wants to sign in."""
    reply = await browser.http.get("/v1/session/oidc")
    assert reply.status_code == 302, reply.text
    return str(reply.headers["location"])


async def at_provider(url: str, name: str) -> str:
    """Where the provider sends ``name`` back to, once it knows who it is."""
    async with httpx.AsyncClient() as http:
        reply = await http.get(url)
        for _ in range(12):
            if 300 <= reply.status_code < 400:
                url = urljoin(url, reply.headers["location"])
                if url.startswith(HOME):
                    return url
                reply = await http.get(url)
                continue
            prompt = re.search(r'name="prompt" value="(\w+)"', reply.text)
            action = re.search(r'action="([^"]+)"', reply.text)
            assert prompt is not None, reply.text
            assert action is not None
            url = urljoin(url, action[1])
            form = {"prompt": prompt[1], "login": name, "password": "any"}
            reply = await http.post(url, data=form)
    raise AssertionError("the provider never sent anybody back")


async def back(browser: Browser, url: str) -> str:
    """Where the gateway sends the browser that came back, within the page."""
    reply = await browser.http.get(url.removeprefix(HOME))
    assert reply.status_code == 302, reply.text
    return str(reply.headers["location"]).removeprefix(HOME)


async def sign_in(browser: Browser, name: str) -> str:
    """The whole way; where the page is opened in the end."""
    return await back(browser, await at_provider(await begun(browser), name))
