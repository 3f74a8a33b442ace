"""Accounts as they are managed: over HTTP by who has the role, and never without an admin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from siloquy.errors import UsageError
from siloquy.gateway.sign_in.accounts import MOST_ACCOUNTS, Accounts
from siloquy.gateway.sign_in.records import FILE_NAME
from tests.gateway.ward import Browser, Clock, Ward, ward


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Ward]:
    async with ward(tmp_path) as made:
        yield made


@pytest.fixture
async def admin(clinic: Ward) -> Browser:
    return await clinic.member("root", "silo_admin")


async def test_an_admin_invites_and_the_link_is_told_once(clinic: Ward, admin: Browser) -> None:
    body = {"name": "anna", "roles": ["evaluator", "clinician"]}
    made = await admin.call("POST", "/v1/accounts", body)
    assert (made.status_code, set(made.json())) == (201, {"name", "token", "expires"})
    listed = (await admin.call("GET", "/v1/accounts")).json()["accounts"]
    assert listed[0] == {
        "name": "anna",
        "shown": "",
        "roles": ["clinician", "evaluator"],
        "created": clinic.clock.ms,
        "last_seen": None,
        "disabled": False,
        "waiting": True,
    }
    assert made.json()["token"] not in str(listed)
    anna = clinic.browser()
    assert (await anna.join(made.json()["token"])).status_code == 200
    listed = (await admin.call("GET", "/v1/accounts")).json()["accounts"]
    assert (listed[0]["waiting"], listed[0]["last_seen"]) == (False, clinic.clock.ms)


@pytest.mark.parametrize("change", [{"roles": ["auditor"]}, {"disabled": True}])
async def test_a_change_ends_the_persons_sessions(
    clinic: Ward, admin: Browser, change: dict[str, object]
) -> None:
    anna = await clinic.member("anna", "clinician")
    reply = await admin.call("PATCH", "/v1/accounts/anna", change)
    assert reply.status_code == 200
    assert {**reply.json(), **change} == reply.json()
    assert not await anna.signed_in()
    assert await admin.signed_in()


async def test_an_account_may_be_enabled_again(clinic: Ward, admin: Browser) -> None:
    await clinic.member("anna", "clinician")
    for disabled, status in ((True, 401), (False, 200)):
        await admin.call("PATCH", "/v1/accounts/anna", {"disabled": disabled})
        clinic.clock.sleep(10)
        assert (await clinic.browser().sign_in("anna")).status_code == status


async def test_the_last_admin_stays_one(clinic: Ward, admin: Browser) -> None:
    # One that nobody uses yet, and one that is disabled, could not manage anything.
    clinic.accounts.invite("waiting", ["silo_admin"])
    await clinic.member("out", "silo_admin")
    clinic.accounts.change("out", disabled=True)
    for method, body in (
        ("DELETE", None),
        ("PATCH", {"disabled": True}),
        ("PATCH", {"roles": ["clinician"]}),
    ):
        reply = await admin.call(method, "/v1/accounts/root", body)
        assert (reply.status_code, "last account" in reply.text) == (400, True)
    reply = await admin.call("POST", "/v1/accounts", {"name": "root", "roles": ["clinician"]})
    assert reply.status_code == 400
    await clinic.member("second", "silo_admin")
    assert (await admin.call("DELETE", "/v1/accounts/root")).status_code == 204
    assert not await admin.signed_in()


async def test_an_account_that_is_not_there_is_not_found(admin: Browser) -> None:
    for method, body in (("PATCH", {"disabled": True}), ("DELETE", None)):
        assert (await admin.call(method, "/v1/accounts/nobody", body)).status_code == 404


@pytest.mark.parametrize("name", ["", "a b", "a:b", "local", "Router", "x" * 65, "ä", "a\n"])
def test_a_name_that_ledgers_could_not_show_is_refused(tmp_path: Path, name: str) -> None:
    accounts = Accounts(tmp_path / FILE_NAME, Clock().now_ms)
    with pytest.raises(UsageError):
        accounts.invite(name, ["clinician"])
    accounts.close()


@pytest.mark.parametrize("roles", [[], ["boss"], ["clinician", "boss"]])
def test_an_account_has_roles_that_there_are(tmp_path: Path, roles: list[str]) -> None:
    accounts = Accounts(tmp_path / FILE_NAME, Clock().now_ms)
    with pytest.raises(UsageError):
        accounts.invite("anna", roles)
    assert accounts.all() == ()
    accounts.close()


def test_names_that_differ_in_case_alone_are_one_account(tmp_path: Path) -> None:
    accounts = Accounts(tmp_path / FILE_NAME, Clock().now_ms)
    accounts.invite("Anna", ["clinician"])
    assert accounts.invite("anna", ["clinician"]).name == "Anna"
    assert len(accounts.all()) == 1
    accounts.close()


def test_there_is_an_end_to_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_ACCOUNTS > 1000
    monkeypatch.setattr("siloquy.gateway.sign_in.accounts.MOST_ACCOUNTS", 1)
    accounts = Accounts(tmp_path / FILE_NAME, Clock().now_ms)
    accounts.invite("anna", ["clinician"])
    with pytest.raises(UsageError, match="at most 1"):
        accounts.invite("bob", ["clinician"])
    accounts.invite("anna", ["auditor"])
    accounts.close()
