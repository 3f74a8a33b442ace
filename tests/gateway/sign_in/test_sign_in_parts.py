"""The parts of sign-in by themselves: limits, cookies, names, sessions."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siloquy.errors import SettingsError
from siloquy.gateway.ask import check_query
from siloquy.gateway.sign_in.passwords import AT_ONCE, Passwords
from siloquy.gateway.sign_in.people import (
    MOST_SHOWN_CHARACTERS,
    ROLES,
    as_text,
    from_text,
    of_account,
    of_key,
    of_provider,
    shown_name,
)
from siloquy.gateway.sign_in.rate_limits import MOST_NAMES, RateLimit, Waits
from siloquy.gateway.sign_in.records import FILE_NAME
from siloquy.gateway.sign_in.secret_file import read_secret
from siloquy.gateway.sign_in.sessions import Sessions
from siloquy.gateway.sign_in.sign_in_log import SignInLog
from siloquy.settings import ApiSettings, GatewaySettings, SignInSettings
from siloquy.types import Query
from siloquy.web.cookies import Cookie, cookies
from siloquy.web.refusals import Overloaded
from tests.gateway.ward import Clock

ANNA = of_account("1", "anna", "Anna", ["clinician"])

# -- limits ---------------------------------------------------------------------------------------


def test_a_limit_says_when_to_come_back() -> None:
    clock = Clock()
    limit = RateLimit(2, 60.0, clock.monotonic)
    limit.take()
    clock.sleep(10)
    limit.take()
    with pytest.raises(Overloaded) as refused:
        limit.take()
    assert refused.value.retry_after_s == 50
    limit.give_back()
    limit.take()
    clock.sleep(50)
    limit.take()


def test_an_hour_of_peace_makes_a_names_waits_begin_anew() -> None:
    clock = Clock()
    waits = Waits(clock.monotonic)
    for _ in range(3):
        waits.take("anna")
    with pytest.raises(Overloaded):
        waits.take("ANNA")
    clock.sleep(2)
    waits.take("anna")
    clock.sleep(3603)
    for _ in range(3):
        waits.take("anna")


def test_names_that_were_tried_do_not_fill_the_memory() -> None:
    waits = Waits(Clock().monotonic)
    for n in range(MOST_NAMES + 10):
        waits.take(str(n))
    assert len(waits._tries) == MOST_NAMES


async def test_two_passwords_are_worked_on_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords, running, most, lock = Passwords(), 0, 0, threading.Lock()
    verify = passwords._verified

    def counted(kept: str, password: str) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        found = verify(kept, password)
        with lock:
            running -= 1
        return found

    monkeypatch.setattr(passwords, "_verified", counted)
    await asyncio.gather(*(passwords.matches(None, "x") for _ in range(6)))
    assert most == AT_ONCE
    passwords.close()


async def test_a_hash_that_is_damaged_lets_nobody_in() -> None:
    passwords = Passwords()
    assert not await passwords.matches("$argon2id$x", "x")
    assert not await passwords.matches(passwords._dummy, "y" * 5000)
    passwords.close()


# -- cookies --------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=30), max_size=4))
def test_no_header_makes_the_reading_of_cookies_fail(headers: list[str]) -> None:
    assert isinstance(Cookie("a", "/", secure=False, strict=True).read(headers), str)


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], ""),
        (["siloquy-80=x"], "x"),
        (["a=b; siloquy-80=x; c=d"], "x"),
        (["siloquy-80=x=y"], "x=y"),
        (["siloquy-80=x", "siloquy-80=y"], ""),
        (["siloquy-80=x; siloquy-80=x"], ""),
        (["siloquy-800=x"], ""),
        (["Siloquy-80=x"], ""),
    ],
)
def test_a_cookie_is_read_where_it_is_the_only_one_of_its_name(
    headers: list[str], value: str
) -> None:
    session, _ = cookies("http://localhost", strict=True)
    assert session.read(headers) == value


# -- names ----------------------------------------------------------------------------------------


@given(issuer=st.text(max_size=20), subject=st.text(max_size=20), name=st.text(max_size=80))
def test_whatever_a_provider_calls_somebody_the_ledgers_can_show(
    issuer: str, subject: str, name: str
) -> None:
    person = of_provider(issuer, subject, name, name, ["clinician"])
    assert check_query(Query("Which dose?", requester=person.name)).requester == person.name
    assert len(person.shown) <= max(MOST_SHOWN_CHARACTERS, len(name))


def test_two_people_of_one_name_are_two() -> None:
    told = [
        of_provider(issuer, subject, "anna", "Anna", [])
        for issuer, subject in (("a", "bc"), ("ab", "c"), ("a", "b"))
    ]
    told += [of_key("anna"), of_account("1", "anna", "Anna", []), of_account("2", "anna", "", [])]
    assert len({person.owner for person in told}) == 6
    assert len({person.name for person in told}) == 4


@given(st.sets(st.sampled_from(ROLES)))
def test_roles_come_back_as_they_were_written(roles: set[str]) -> None:
    assert from_text(as_text(roles)) == roles  # type: ignore[arg-type]
    assert from_text("boss  emperor") == frozenset()


def test_a_provider_s_name_without_a_letter_to_show_is_not_shown_as_it_is() -> None:
    assert of_provider("https://id.example", "7", "\u200b\n" * 4000, "", ()).shown == "person"


def test_a_shown_name_is_one_line() -> None:
    assert shown_name(" Anna\n\u202eIto\x00 ") == "AnnaIto"
    assert len(shown_name("x" * 500)) == MOST_SHOWN_CHARACTERS


# -- sessions and their log -----------------------------------------------------------------------


def test_reading_often_does_not_write_often(tmp_path: Path) -> None:
    clock = Clock()
    sessions = Sessions(tmp_path / FILE_NAME, clock.now_ms, "local", 900_000, 3_600_000)
    token = sessions.open(ANNA)
    before = sessions._connection.total_changes
    for _ in range(9):
        clock.sleep(1)
        assert sessions.find(token, quiet=False) == ANNA
    assert sessions._connection.total_changes == before
    clock.sleep(1)
    sessions.find(token, quiet=False)
    assert sessions._connection.total_changes == before + 1
    sessions.close()


def test_sessions_that_have_ended_are_deleted_with_the_next_sign_in(tmp_path: Path) -> None:
    clock = Clock()
    sessions = Sessions(tmp_path / FILE_NAME, clock.now_ms, "local", 900_000, 3_600_000)
    sessions.open(of_account("2", "bob", "Bob", ["clinician"]))
    clock.sleep(901)
    sessions.open(ANNA)
    rows = sessions._connection.execute("SELECT name FROM sessions").fetchall()
    assert rows == [("anna",)]
    sessions.close()


def test_the_oldest_entries_of_the_log_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("siloquy.gateway.sign_in.sign_in_log.MOST_ENTRIES", 3)
    log = SignInLog(tmp_path / FILE_NAME, Clock().now_ms)
    for n in range(5):
        log.add(str(n), "local")
    assert [entry.who for entry in log.last(10)] == ["4", "3", "2"]
    assert [entry.who for entry in log.last(10, before=4)] == ["2"]
    log.close()


def test_what_anybody_can_make_pushes_nobody_out_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siloquy.gateway.sign_in.sign_in_log.MOST_ENTRIES", 3)
    monkeypatch.setattr("siloquy.gateway.sign_in.sign_in_log.MOST_OF_NOBODY", 2)
    log = SignInLog(tmp_path / FILE_NAME, Clock().now_ms)
    log.add("anna", "local")
    for _ in range(9):
        log.add("", "join", "the link is not valid")
    log.add("anna", "local", "wrong password")
    assert [entry.who for entry in log.last(10)] == ["anna", "", "", "anna"]
    log.close()


# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n", "a\x00b"])
def test_a_secret_file_holds_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "client.secret"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SettingsError, match="holds no secret"):
        read_secret("sign_in.client_secret_file", path)
    with pytest.raises(SettingsError, match="No such file"):
        read_secret("sign_in.client_secret_file", tmp_path / "none")


def test_a_key_for_everything_and_sign_in_contradict_each_other() -> None:
    with pytest.raises(SettingsError, match="require_key"):
        GatewaySettings(api=ApiSettings(require_key=True), sign_in=SignInSettings(kind="local"))
