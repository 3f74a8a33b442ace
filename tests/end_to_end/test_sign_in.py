"""Sign-in at a gateway in its own process: invited on the command line, in over HTTP."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from siloquy import settings as settings_files
from siloquy.serve import local
from siloquy.serve.local import GATEWAY
from siloquy.settings import GatewaySettings
from siloquy.types import NodeId
from tests.end_to_end.processes import HOME, siloquy, until

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("cached_vectors"),
]
PASSWORD = "correct horse battery"
SIGN_IN = {"SILOQUY_SIGN_IN_KIND": "local"}


@contextmanager
def serving(folder: Path, url: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The gateway in ``folder``, whose hub is away: nobody needs it to sign in."""
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "siloquy", "gateway", "serve", "--folder", str(folder)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1", **environment},
    )
    try:
        until(lambda: _answers(url), "the gateway does not answer", 60)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v1/session", trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a gateway, and its address."""
    layout = local.create(tmp_path_factory.mktemp("clinic"), [NodeId("north")])
    return layout.of(GATEWAY), layout.gateway_url


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands see the same settings as the gateway."""
    for name, value in SIGN_IN.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("kinds")
def test_somebody_who_was_invited_gets_in_stays_in_over_a_restart_and_is_put_out(
    ward: tuple[Path, str],
) -> None:
    folder, url = ward
    with httpx.Client(base_url=url, trust_env=False) as browser:
        with serving(folder, url, **SIGN_IN):
            assert browser.get("/v1/status").status_code == 401
            told = siloquy("gateway", "invite", "anna", "--role", "clinician", "-f", folder)
            link = told.out.strip()
            assert link.startswith(f"{url}/#/join/")
            body = {"token": link.rpartition("/")[2], "shown": "Anna", "password": PASSWORD}
            joined = browser.post("/v1/accounts/join", json=body)
            assert joined.json()["person"]["roles"] == ["clinician"]
            assert browser.get("/v1/status").status_code == 200
        with serving(folder, url, **SIGN_IN):
            assert browser.get("/v1/session").json()["person"]["name"] == "anna"
            assert siloquy("gateway", "disable", "anna", "-f", folder).code == 0
            assert browser.get("/v1/status").status_code == 401
            body = {"name": "anna", "password": PASSWORD}
            assert browser.post("/v1/session", json=body).status_code == 401


def test_an_address_without_sign_in_is_warned_of_by_gateway_and_doctor(
    ward: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = ward
    assert settings_files.read(GatewaySettings, folder).sign_in.kind == "none"
    monkeypatch.setenv("SILOQUY_SIGN_IN_URL", "https://rag.example")
    with serving(folder, url) as process:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=20)
    assert "sign_in.url is set and nobody has to sign in" in log
    shown = siloquy("doctor", "--folder", folder)
    assert "nobody has to sign in" in " ".join(shown.out.split())
