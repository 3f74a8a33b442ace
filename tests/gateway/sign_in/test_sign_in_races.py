"""What happens to an account while its holder's password is being looked at counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.gateway.ward import OTHER, PASSWORD, Browser, Ward, ward

Change = Callable[[Ward], object]
CHANGES = {
    "disabled": lambda clinic: clinic.accounts.change("anna", disabled=True),
    "demoted": lambda clinic: clinic.accounts.change("anna", roles=["clinician"]),
    "removed": lambda clinic: clinic.accounts.remove("anna"),
}


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Ward]:
    async with ward(tmp_path) as made:
        await made.member("root", "silo_admin")
        yield made


@pytest.fixture
async def anna(clinic: Ward) -> Browser:
    return await clinic.member("anna", "clinician", "silo_admin")


def meanwhile(clinic: Ward, monkeypatch: pytest.MonkeyPatch, change: Change) -> None:
    """Let ``change`` happen while the next password is compared."""
    passwords = clinic.authenticator.local._passwords
    matches = passwords.matches

    async def slow(kept: str | None, password: str) -> bool:
        monkeypatch.setattr(passwords, "matches", matches)
        held = await matches(kept, password)
        change(clinic)
        return held

    monkeypatch.setattr(passwords, "matches", slow)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_ends_a_sign_in_that_has_not_ended_yet(
    clinic: Ward, anna: Browser, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    browser = clinic.browser()
    meanwhile(clinic, monkeypatch, change)
    assert (await browser.sign_in("anna")).status_code == 401
    assert not await browser.signed_in()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_nobody_keeps_a_role_by_changing_the_password_meanwhile(
    clinic: Ward, anna: Browser, monkeypatch: pytest.MonkeyPatch, change: Change
) -> None:
    meanwhile(clinic, monkeypatch, change)
    reply = await anna.call("PUT", "/v1/session/password", {"old": PASSWORD, "new": OTHER})
    stays = change is CHANGES["demoted"]
    assert reply.status_code == (200 if stays else 401)
    assert await anna.signed_in() is stays
    assert (await anna.call("GET", "/v1/accounts")).status_code == (403 if stays else 401)


async def test_a_sign_in_with_a_password_that_is_being_changed_is_refused(
    clinic: Ward, anna: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = clinic.browser()
    token = clinic.accounts.invite("anna", ["clinician", "silo_admin"]).token
    made = await clinic.authenticator.local._passwords.hashed(OTHER, "anna")
    meanwhile(clinic, monkeypatch, lambda clinic: clinic.accounts.join(token, "Anna", made))
    assert (await browser.sign_in("anna")).status_code == 401
    assert not await browser.signed_in()
