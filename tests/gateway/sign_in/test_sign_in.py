"""Sign-in with accounts of the gateway, over HTTP: passwords, links, sessions, CSRF, limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from argon2 import Parameters, PasswordHasher, extract_parameters

from siloquy.gateway.sign_in.browsers import marked
from siloquy.gateway.sign_in.records import FILE_NAME
from siloquy.settings import ApiSettings, SignInSettings
from tests.gateway.served import SECRET, Federation, blocks, listening, parsed, until
from tests.gateway.ward import HOME, LOCAL, OTHER, PASSWORD, Browser, Clock, Ward, ward

ASK = {"question": "Which dose?"}


@pytest.fixture
async def clinic(tmp_path: Path) -> AsyncIterator[Ward]:
    async with ward(tmp_path) as made:
        yield made


def files_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def cookie_of(reply: httpx.Response) -> str:
    """The session's: the one of the known browser may follow it."""
    return str(reply.headers.get_list("set-cookie")[0])


# -- who gets in ----------------------------------------------------------------------------------


async def test_nobody_is_signed_in_before_signing_in(clinic: Ward) -> None:
    told = await clinic.browser().session()
    assert told == {
        "site": "gateway",
        "node": "ward",
        "organisation": "St Anna",
        "sign_in": "local",
        "provider": "",
        "person": None,
        "csrf": "",
        "idle_s": 900,
        "keep_days": 0,
        "feedback_for_tuning": False,
    }


async def test_a_link_makes_an_account_and_signs_its_holder_in(clinic: Ward) -> None:
    browser = clinic.browser()
    reply = await browser.join(clinic.accounts.invite("anna", ["clinician"]).token)
    person = {"name": "anna", "shown": "Anna Ito", "roles": ["clinician"]}
    assert (reply.status_code, reply.json()["person"]) == (200, person)
    assert (await browser.call("POST", "/v1/ask", ASK)).status_code == 200
    assert clinic.gateway.asked[0].query.requester == "anna"


async def test_the_right_password_signs_in_and_in_any_normal_form(clinic: Ward) -> None:
    composed, decomposed = "Zähne putzen täglich", "Za\u0308hne putzen ta\u0308glich"
    await clinic.member("anna", "clinician", password=composed)
    for typed in (composed, decomposed):
        assert (await clinic.browser().sign_in("Anna", typed)).status_code == 200


@pytest.mark.parametrize(
    "password",
    [
        "too short",
        "aaaaaaaaaaaaaaaaaa",
        "annaannaanna1",
        "anna-itoanna-ito x",
        "x" * 1000 + "éüöäß" * 5,
    ],
)
async def test_a_weak_password_is_refused_and_the_link_stays_good(
    clinic: Ward, password: str
) -> None:
    name = "anna-ito" if "ito" in password else "anna"
    token = clinic.accounts.invite(name, ["clinician"]).token
    browser = clinic.browser()
    reply = await browser.join(token, password=password)
    assert (reply.status_code, password in reply.text) == (400, False)
    assert (await browser.join(token)).status_code == 200


async def test_a_wrong_name_a_wrong_password_and_a_disabled_account_look_alike(
    clinic: Ward,
) -> None:
    await clinic.member("admin", "silo_admin")
    for name in ("anna", "bob"):
        await clinic.member(name, "clinician")
    clinic.accounts.change("bob", disabled=True)
    clinic.accounts.invite("waiting", ["clinician"])
    browser = clinic.browser()
    replies = [
        await browser.sign_in(name, password)
        for name, password in (
            ("anna", OTHER),
            ("nobody", PASSWORD),
            ("bob", PASSWORD),
            ("waiting", ""),
        )
    ]
    assert {reply.status_code for reply in replies} == {401}
    assert len({reply.text for reply in replies}) == 1
    assert not any(reply.headers.get_list("set-cookie") for reply in replies)


async def test_a_wrong_name_takes_the_same_hashing_as_a_wrong_password(
    clinic: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await clinic.member("anna", "clinician")
    costs: list[Parameters] = []
    verify = PasswordHasher.verify

    def counted(hasher: PasswordHasher, kept: str, password: str) -> bool:
        costs.append(extract_parameters(kept))
        return verify(hasher, kept, password)

    monkeypatch.setattr(PasswordHasher, "verify", counted)
    for name in ("anna", "nobody"):
        assert (await clinic.browser().sign_in(name, OTHER)).status_code == 401
    known, unknown = costs
    assert known == unknown


async def test_no_file_and_no_log_holds_a_password_a_token_or_a_session(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with ward(tmp_path) as clinic:
        token = clinic.accounts.invite("anna", ["clinician"]).token
        browser = clinic.browser()
        await browser.join(token)
        await browser.sign_in(SECRET, SECRET)
        session = next(iter(browser.http.cookies.values()))
        kept = files_in(tmp_path)
    for secret in (PASSWORD, token, session, SECRET, browser.csrf):
        assert secret.encode() not in kept
        assert secret not in caplog.text
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o077 == 0


async def test_there_is_no_account_to_begin_with(clinic: Ward) -> None:
    assert clinic.accounts.all() == ()


# -- links ----------------------------------------------------------------------------------------


async def test_a_link_works_once_for_a_day_and_until_the_next_one(clinic: Ward) -> None:
    first = clinic.accounts.invite("anna", ["clinician"]).token
    second = clinic.accounts.invite("anna", ["clinician"]).token
    browser = clinic.browser()
    assert (await browser.join(first)).status_code == 403
    assert (await browser.join(second)).status_code == 200
    assert (await browser.join(second)).status_code == 403
    late = clinic.accounts.invite("anna", ["clinician"]).token
    clinic.clock.sleep(24 * 3600)
    assert (await clinic.browser().join(late)).status_code == 403


async def test_a_new_link_gives_the_account_a_new_password_and_ends_its_sessions(
    clinic: Ward,
) -> None:
    old = await clinic.member("anna", "clinician")
    token = clinic.accounts.invite("anna", ["clinician"]).token
    assert await old.signed_in()
    assert (await clinic.browser().join(token, password=OTHER)).status_code == 200
    assert not await old.signed_in()
    assert (await clinic.browser().sign_in("anna", PASSWORD)).status_code == 401
    assert (await clinic.browser().sign_in("anna", OTHER)).status_code == 200


async def test_of_two_who_use_a_link_at_once_one_gets_in(clinic: Ward) -> None:
    token = clinic.accounts.invite("anna", ["clinician"]).token
    replies = await asyncio.gather(*(clinic.browser().join(token) for _ in range(2)))
    assert sorted(reply.status_code for reply in replies) == [200, 403]


async def test_a_disabled_account_cannot_be_joined(clinic: Ward) -> None:
    token = clinic.accounts.invite("anna", ["clinician"]).token
    clinic.accounts.change("anna", disabled=True)
    assert (await clinic.browser().join(token)).status_code == 403


async def test_many_wrong_links_have_to_wait(clinic: Ward) -> None:
    browser = clinic.browser()
    statuses = [(await browser.join("x" * 43)).status_code for _ in range(31)]
    assert statuses == [403] * 30 + [429]
    clinic.clock.sleep(61)
    assert (await browser.join("x")).status_code == 403


async def test_wrong_links_keep_nobody_from_using_a_right_one(clinic: Ward) -> None:
    token = clinic.accounts.invite("anna", ["clinician"]).token
    for _ in range(31):
        refused = await clinic.browser().join("x" * 43)
    assert refused.status_code == 429
    assert (await clinic.browser().join(token)).status_code == 200


# -- limits ---------------------------------------------------------------------------------------


async def test_wrong_passwords_of_one_name_have_to_wait_longer_and_longer(clinic: Ward) -> None:
    await clinic.member("anna", "clinician")
    browser, waits = clinic.browser(), []
    for _ in range(12):
        reply = await browser.sign_in("anna", OTHER)
        if reply.status_code == 429:
            waits.append(int(reply.headers["retry-after"]))
            # The right one does not get in either: else it could be found while waiting.
            assert (await browser.sign_in("anna")).status_code == 429
            clinic.clock.sleep(waits[-1])
    assert waits[:4] == [1, 2, 4, 8]
    clinic.clock.sleep(300)
    assert (await browser.sign_in("anna")).status_code == 200
    assert (await browser.sign_in("anna", OTHER)).status_code == 401


async def test_wrong_passwords_of_one_do_not_keep_others_out(clinic: Ward) -> None:
    for name in ("anna", "bob"):
        await clinic.member(name, "clinician")
    for _ in range(5):
        await clinic.browser().sign_in("anna", OTHER)
    assert (await clinic.browser().sign_in("bob")).status_code == 200


async def test_who_hammers_one_name_does_not_use_up_the_attempts_of_all(clinic: Ward) -> None:
    await clinic.member("bob", "clinician")
    for _ in range(70):
        await clinic.browser().sign_in("anna", OTHER)
    assert (await clinic.browser().sign_in("bob")).status_code == 200


async def test_many_names_at_once_have_to_wait_too(
    clinic: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sixty hashes would take their time: what is counted is the attempt.
    async def never(kept: str | None, password: str) -> bool:
        return False

    monkeypatch.setattr(clinic.authenticator.local._passwords, "matches", never)
    browser = clinic.browser()
    statuses = [(await browser.sign_in(f"n{i}", OTHER)).status_code for i in range(61)]
    assert statuses == [401] * 60 + [429]


async def test_no_number_of_other_names_makes_a_wait_forgotten(
    clinic: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(kept: str | None, password: str) -> bool:
        return False

    monkeypatch.setattr(clinic.authenticator.local._passwords, "matches", never)
    monkeypatch.setattr("siloquy.gateway.sign_in.rate_limits.MOST_NAMES", 70)
    browser = clinic.browser()
    for _ in range(12):
        while (await browser.sign_in("anna", OTHER)).status_code == 401:
            pass
        clinic.clock.sleep(300)
    assert (await browser.sign_in("anna", OTHER)).status_code == 401
    for n in range(100):
        await browser.sign_in(f"n{n}", OTHER)
    clinic.clock.sleep(61)
    assert (await browser.sign_in("anna", OTHER)).status_code == 429


async def test_no_stranger_keeps_a_browser_out_on_which_somebody_has_signed_in(
    clinic: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = await clinic.member("anna", "clinician")
    passwords = clinic.authenticator.local._passwords
    matches = passwords.matches

    async def never(kept: str | None, password: str) -> bool:
        return False

    monkeypatch.setattr(passwords, "matches", never)
    stranger = clinic.browser()
    for n in range(70):
        await stranger.sign_in("anna", OTHER)
        reply = await stranger.sign_in(f"n{n}", OTHER)
    assert reply.status_code == 429
    monkeypatch.setattr(passwords, "matches", matches)
    assert (await clinic.browser().sign_in("anna")).status_code == 429
    assert (await anna.call("DELETE", "/v1/session")).status_code == 204
    assert (await anna.sign_in("anna")).status_code == 200
    changed = {"old": PASSWORD, "new": OTHER}
    assert (await anna.call("PUT", "/v1/session/password", changed)).status_code == 200


async def test_a_known_browser_has_waits_of_its_own_and_knows_no_other_account(
    clinic: Ward,
) -> None:
    anna = await clinic.member("anna", "clinician")
    await clinic.member("bob", "clinician")
    for name in ("anna", "bob"):
        statuses = [(await anna.sign_in(name, OTHER)).status_code for _ in range(4)]
        assert statuses == [401, 401, 401, 429]
    assert (await clinic.browser().sign_in("anna")).status_code == 200
    assert (await clinic.browser().sign_in("bob")).status_code == 429


async def test_another_password_makes_all_browsers_strangers(clinic: Ward) -> None:
    anna = await clinic.member("anna", "clinician")
    token = clinic.accounts.invite("anna", ["clinician"]).token
    assert (await clinic.browser().join(token, password=OTHER)).status_code == 200
    for _ in range(4):
        await clinic.browser().sign_in("anna", PASSWORD)
    assert (await anna.sign_in("anna", OTHER)).status_code == 429


INVENTED = ["", "~", "~" * 3000, "x.y", "ä", f"{'A' * 22}.{'A' * 43}", marked("", "", bytes(16))]


@pytest.mark.parametrize("marks", INVENTED)
async def test_invented_marks_are_worth_nothing(clinic: Ward, marks: str) -> None:
    await clinic.member("anna", "clinician")
    for name in ("anna", "nobody"):
        header = f"siloquy-8080-known={marks}".encode()
        sent = [await clinic.browser().sign_in(name, OTHER) for _ in range(3)]
        assert [reply.status_code for reply in sent] == [401] * 3
        reply = await clinic.browser().http.post(
            "/v1/session", json={"name": name, "password": PASSWORD}, headers=[(b"Cookie", header)]
        )
        assert reply.status_code == 429


async def test_a_browser_of_many_people_knows_eight_of_them(clinic: Ward) -> None:
    shared = clinic.browser()
    for n in range(9):
        token = clinic.accounts.invite(f"n{n}", ["clinician"]).token
        assert (await shared.join(token)).status_code == 200
    marks = shared.http.cookies["siloquy-8080-known"].split("~")
    assert len(marks) == len(set(marks)) == 8
    assert (await shared.sign_in("n8")).status_code == 200
    assert shared.http.cookies["siloquy-8080-known"].split("~") == marks


async def test_attempts_that_come_together_count_one_by_one(clinic: Ward) -> None:
    await clinic.member("anna", "clinician")
    tries = [clinic.browser().sign_in("anna", OTHER) for _ in range(8)]
    statuses = [reply.status_code for reply in await asyncio.gather(*tries)]
    assert statuses.count(401) == 3
    assert statuses.count(429) == 5


# -- sessions -------------------------------------------------------------------------------------


async def test_every_sign_in_has_a_session_of_its_own_and_ends_the_one_before(
    clinic: Ward,
) -> None:
    browser = await clinic.member("anna", "clinician")
    (name, before), *_ = browser.http.cookies.items()
    await browser.sign_in("anna")
    after = browser.http.cookies[name]
    assert before != after
    old = clinic.browser(Cookie=f"{name}={before}")
    assert not await old.signed_in()


async def test_a_session_id_that_somebody_planted_is_never_taken_over(clinic: Ward) -> None:
    await clinic.member("anna", "clinician")
    browser = clinic.browser()
    browser.http.cookies.set("siloquy-8080", "planted", "127.0.0.1", "/")
    assert (await browser.sign_in("anna")).status_code == 200
    assert not await clinic.browser(Cookie="siloquy-8080=planted").signed_in()


async def test_two_cookies_of_the_name_are_nobodys(clinic: Ward) -> None:
    browser = await clinic.member("anna", "clinician")
    token = browser.http.cookies["siloquy-8080"]
    both = clinic.browser(Cookie=f"siloquy-8080={token}; siloquy-8080={token}")
    assert not await both.signed_in()


async def test_a_session_ends_when_nobody_does_anything(clinic: Ward) -> None:
    browser = await clinic.member("anna", "clinician")
    for _ in range(3):
        clinic.clock.sleep(14 * 60)
        assert (await browser.call("GET", "/v1/conversations")).status_code == 200
    clinic.clock.sleep(15 * 60)
    assert (await browser.call("GET", "/v1/conversations")).status_code == 401


@pytest.mark.parametrize("path", ["/v1/session?quiet=1", "/v1/status?quiet=1", "/v1/ask/nothing"])
async def test_what_the_page_asks_by_itself_is_no_sign_of_a_person(clinic: Ward, path: str) -> None:
    browser = await clinic.member("anna", "clinician")
    for _ in range(2):
        clinic.clock.sleep(8 * 60)
        await browser.call("GET", path)
    assert not await browser.signed_in()


async def test_a_session_ends_after_twelve_hours_in_any_case(clinic: Ward) -> None:
    browser = await clinic.member("anna", "clinician")
    for _ in range(72):
        assert await browser.signed_in(quiet=False)
        clinic.clock.sleep(10 * 60)
    assert not await browser.signed_in()


async def test_sessions_survive_a_restart_and_end_at_the_server(tmp_path: Path) -> None:
    clock = Clock()
    async with ward(tmp_path, clock=clock) as first:
        browser = await first.member("anna", "clinician")
        cookie = f"siloquy-8080={browser.http.cookies['siloquy-8080']}"
    async with ward(tmp_path, clock=clock) as second:
        again = second.browser(Cookie=cookie)
        assert await again.signed_in()
        assert (await again.call("DELETE", "/v1/session")).status_code == 204
        assert not await second.browser(Cookie=cookie).signed_in()


async def test_a_session_of_one_kind_of_sign_in_is_none_of_another(tmp_path: Path) -> None:
    async with ward(tmp_path) as first:
        token = (await first.member("a", "clinician")).http.cookies["siloquy-8080"]
    oidc = SignInSettings(
        kind="oidc", url=HOME, issuer="https://id.example", client_id="x", provider="Id"
    )
    async with ward(tmp_path, oidc) as second:
        assert not await second.browser(Cookie=f"siloquy-8080={token}").signed_in()


async def test_signing_out_takes_the_cookie_away(clinic: Ward) -> None:
    browser = await clinic.member("anna", "clinician")
    reply = await browser.call("DELETE", "/v1/session")
    assert reply.status_code == 204
    assert "Max-Age=0" in cookie_of(reply)
    assert list(browser.http.cookies) == ["siloquy-8080-known"]


async def test_eleven_browsers_of_one_person_are_one_too_many(clinic: Ward) -> None:
    first = await clinic.member("anna", "clinician")
    others = [clinic.browser() for _ in range(10)]
    for other in others:
        clinic.clock.sleep(1)
        await other.sign_in("anna")
    assert not await first.signed_in()
    assert all([await other.signed_in() for other in others])


async def test_another_password_ends_the_other_sessions(clinic: Ward) -> None:
    here, there = await clinic.member("anna", "clinician"), clinic.browser()
    await there.sign_in("anna")
    wrong = await here.call("PUT", "/v1/session/password", {"old": OTHER, "new": OTHER})
    assert wrong.status_code == 400
    right = await here.call("PUT", "/v1/session/password", {"old": PASSWORD, "new": OTHER})
    assert right.status_code == 200
    assert await here.signed_in()
    assert not await there.signed_in()
    assert (await there.sign_in("anna", OTHER)).status_code == 200


# -- cookies and hosts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "name", "path", "secure"),
    [
        ("", "siloquy-8080", "/", False),
        ("http://localhost:9000/", "siloquy-9000", "/", False),
        ("https://rag.hospital.example", "__Host-siloquy", "/", True),
        ("https://rag.hospital.example/siloquy/", "__Secure-siloquy", "/siloquy", True),
    ],
)
async def test_the_cookie_is_as_closed_as_the_address_allows(
    tmp_path: Path, url: str, name: str, path: str, secure: bool
) -> None:
    async with ward(tmp_path, replace(LOCAL, url=url)) as clinic:
        browser = clinic.browser()
        reply = await browser.join(clinic.accounts.invite("anna", ["clinician"]).token)
    first, *flags = cookie_of(reply).split("; ")
    assert first.startswith(f"{name}=")
    wanted = {f"Path={path}", "Max-Age=43200", "HttpOnly", "SameSite=Strict"}
    assert set(flags) == wanted | ({"Secure"} if secure else set())


async def test_the_pages_own_host_is_allowed_and_no_other(tmp_path: Path) -> None:
    url = "https://rag.hospital.example/siloquy"
    async with ward(tmp_path, replace(LOCAL, url=url)) as clinic:
        browser = clinic.browser()
        assert (await browser.call("GET", "/v1/session")).status_code == 200
        for host in ("evil.example", "x.rag.hospital.example", "rag.hospital.example.evil"):
            reply = await browser.http.get("/v1/session", headers={"Host": host})
            assert reply.status_code == 400


# -- CSRF -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("csrf", ["", "wrong", "é"])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/ask", ASK),
        ("POST", "/v1/conversations", {}),
        ("PUT", "/v1/preferences", {"keep_days": 1}),
        ("PATCH", "/v1/conversations/x", {"title": "x"}),
        ("DELETE", "/v1/conversations/x", None),
        ("DELETE", "/v1/session", None),
        ("PUT", "/v1/session/password", {"old": PASSWORD, "new": OTHER}),
    ],
)
async def test_a_cookie_alone_changes_nothing(
    clinic: Ward, csrf: str, method: str, path: str, body: Any
) -> None:
    browser = await clinic.member("anna", "clinician", "silo_admin")
    headers = [(b"x-csrf-token", csrf.encode())] if csrf else []
    reply = await browser.http.request(method, path, json=body, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "denied")
    assert "X-CSRF-Token" in reply.json()["error"]["message"]
    assert (await browser.call(method, path, body)).status_code != 403


async def test_the_token_of_one_session_is_worthless_in_another(clinic: Ward) -> None:
    anna, bob = await clinic.member("anna", "clinician"), await clinic.member("bob", "clinician")
    anna.csrf = bob.csrf
    assert (await anna.call("POST", "/v1/conversations", {})).status_code == 403


async def test_a_page_of_another_site_cannot_sign_anybody_in(clinic: Ward) -> None:
    await clinic.member("anna", "clinician")
    browser = clinic.browser(**{"Sec-Fetch-Site": "cross-site"})
    assert (await browser.sign_in("anna")).status_code == 403


async def test_a_session_never_opens_the_openai_paths(clinic: Ward) -> None:
    browser = await clinic.member("anna", "clinician")
    chat = {"model": "siloquy", "messages": [{"role": "user", "content": "?"}]}
    for method, path, body in (
        ("POST", "/v1/chat/completions", chat),
        ("GET", "/v1/models", None),
        ("GET", "/v1/models/siloquy", None),
    ):
        assert (await browser.call(method, path, body)).status_code == 401
    assert clinic.gateway.asked == []


# -- whose conversations --------------------------------------------------------------------------


async def test_a_key_goes_on_working_and_shares_nothing_with_an_account_of_its_name(
    clinic: Ward,
) -> None:
    person = await clinic.member("anna", "clinician")
    key = clinic.keys.add("anna")
    program = clinic.browser(Authorization=f"Bearer {key}")
    made = (await program.call("POST", "/v1/conversations", {})).json()["id"]
    assert (await person.call("GET", f"/v1/conversations/{made}")).status_code == 404
    assert (await person.call("GET", "/v1/conversations")).json() == {"conversations": []}
    assert len((await program.call("GET", "/v1/conversations")).json()["conversations"]) == 1


async def test_a_later_account_of_the_name_finds_nothing_of_the_earlier_one(clinic: Ward) -> None:
    admin, anna = (
        await clinic.member("root", "silo_admin"),
        await clinic.member("anna", "clinician"),
    )
    made = (await anna.call("POST", "/v1/conversations", {})).json()["id"]
    assert (await admin.call("DELETE", "/v1/accounts/anna")).status_code == 204
    again = await clinic.member("anna", "clinician")
    assert (await again.call("GET", f"/v1/conversations/{made}")).status_code == 404
    # Removed with its account, not only hidden.
    rows = clinic.conversations._connection.execute("SELECT count(*) FROM conversations")
    assert rows.fetchone() == (0,)


async def test_an_account_and_a_key_of_one_name_are_refused_by_the_page(clinic: Ward) -> None:
    admin = await clinic.member("root", "silo_admin")
    clinic.keys.add("Bob")
    body = {"name": "bob", "roles": ["clinician"]}
    assert (await admin.call("POST", "/v1/accounts", body)).status_code == 400


def headers_of(browser: Browser) -> dict[str, str]:
    """A browser's session, for a client of its own."""
    session = browser.http.cookies["siloquy-8080"]
    return {"Cookie": f"siloquy-8080={session}", "X-CSRF-Token": browser.csrf}


# -- streams --------------------------------------------------------------------------------------


async def test_signing_out_ends_a_stream_that_is_read_and_cancels_its_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siloquy.gateway.api.streams.KEEP_ALIVE_S", 0.1)
    gateway = Federation(paced=True)
    async with ward(tmp_path, gateway=gateway) as clinic, listening(clinic.app) as port:
        anna = await clinic.member("anna", "clinician")
        headers = headers_of(anna)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20
        ) as http:
            body = {**ASK, "stream": True}
            async with http.stream("POST", "/v1/ask", json=body) as reply:
                heard = blocks(reply)
                gateway.step()
                while "event: plan" not in await anext(heard):
                    pass
                await anna.call("DELETE", "/v1/session")
                rest = parsed("".join([block async for block in heard]))
                path = f"/v1/ask/{reply.headers['x-stream-id']}"
            (end,) = rest
            assert (end.name, end.data["error"]["code"]) == ("error", "denied")
            assert end.data["error"]["message"] == "signed out"
            await until(lambda: gateway.cancelled == 1)
            assert (await http.get(path)).status_code == 401


@pytest.mark.parametrize("how", ["idle", "disabled"])
async def test_a_stream_ends_with_its_session_however_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("siloquy.gateway.api.streams.KEEP_ALIVE_S", 0.1)
    gateway = Federation(paced=True)
    async with ward(tmp_path, gateway=gateway) as clinic, listening(clinic.app) as port:
        anna = await clinic.member("anna", "clinician")
        headers = headers_of(anna)
        url = f"http://127.0.0.1:{port}/v1/ask"
        async with (
            httpx.AsyncClient(headers=headers, timeout=20) as http,
            http.stream("POST", url, json={**ASK, "stream": True}) as reply,
        ):
            heard = blocks(reply)
            await anext(heard)
            if how == "idle":
                clinic.clock.sleep(15 * 60)
            else:
                clinic.accounts.change("anna", disabled=True)
            (end,) = parsed("".join([block async for block in heard]))
        assert end.data["error"]["message"] == "signed out"
        await until(lambda: gateway.cancelled == 1)


async def test_a_whole_answer_is_not_given_to_who_has_signed_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siloquy.gateway.api.connection.LOOK_EVERY_S", 0.05)
    gateway = Federation(paced=True)
    async with ward(tmp_path, gateway=gateway) as clinic, listening(clinic.app) as port:
        anna = await clinic.member("anna", "clinician")
        headers = headers_of(anna)
        async with httpx.AsyncClient(headers=headers, timeout=20) as http:
            asked = asyncio.create_task(http.post(f"http://127.0.0.1:{port}/v1/ask", json=ASK))
            await until(lambda: gateway.running == 1)
            await anna.call("DELETE", "/v1/session")
            reply = await asked
        assert (reply.status_code, reply.json()["error"]["message"]) == (401, "signed out")
        assert gateway.cancelled == 1


# -- without sign-in ------------------------------------------------------------------------------


async def test_without_sign_in_everybody_is_local_and_may_do_everything(tmp_path: Path) -> None:
    async with ward(tmp_path, SignInSettings()) as clinic:
        browser = clinic.browser()
        told = await browser.session()
        assert (told["sign_in"], told["idle_s"], told["csrf"]) == ("none", 0, "")
        assert told["person"]["name"] == "local"
        assert len(told["person"]["roles"]) == 5
        for method, path, body in (
            ("POST", "/v1/session", {"name": "x", "password": "x"}),
            ("GET", "/v1/accounts", None),
            ("GET", "/v1/sign-ins", None),
            ("GET", "/v1/session/oidc", None),
        ):
            assert (await browser.call(method, path, body)).status_code == 404
    assert not (tmp_path / FILE_NAME).exists()


# -- the log --------------------------------------------------------------------------------------


async def test_the_log_says_who_came_in_and_repeats_nothing_that_was_typed(clinic: Ward) -> None:
    admin = await clinic.member("root", "auditor")
    await clinic.browser().sign_in("root", OTHER)
    await clinic.browser().sign_in(SECRET, OTHER)
    await clinic.browser().join(SECRET)
    reply = await admin.call("GET", "/v1/sign-ins?limit=2")
    assert SECRET not in reply.text
    first = reply.json()
    assert [(item["who"], item["kind"], item["ok"]) for item in first["sign_ins"]] == [
        ("", "join", False),
        ("", "local", False),
    ]
    rest = (await admin.call("GET", f"/v1/sign-ins?before={first['next']}")).json()
    assert [(item["who"], item["kind"], item["ok"]) for item in rest["sign_ins"]] == [
        ("root", "local", False),
        ("root", "join", True),
    ]
    assert rest["next"] is None


# -- preferences, feedback, receipts --------------------------------------------------------------


async def test_everybody_may_have_conversations_kept_for_a_shorter_time(tmp_path: Path) -> None:
    async with ward(tmp_path, api=ApiSettings(keep_days=30)) as clinic:
        anna, bob = (
            await clinic.member("anna", "clinician"),
            await clinic.member("bob", "clinician"),
        )
        for browser in (anna, bob):
            await browser.call("POST", "/v1/conversations", {})
        assert (await anna.call("PUT", "/v1/preferences", {"keep_days": 31})).status_code == 400
        reply = await anna.call("PUT", "/v1/preferences", {"keep_days": 7})
        assert reply.json() == {"keep_days": 7, "most_keep_days": 30}
        assert (await anna.call("GET", "/v1/preferences")).json()["keep_days"] == 7
        assert (await bob.call("GET", "/v1/preferences")).json()["keep_days"] == 30
        assert (await anna.session())["keep_days"] == 7
        clinic.clock.sleep(8 * 86_400)
        assert clinic.conversations.expire(30) == 1
        clinic.clock.sleep(23 * 86_400)
        assert clinic.conversations.expire(30) == 1


async def test_where_the_site_keeps_everything_a_persons_wish_still_counts(clinic: Ward) -> None:
    anna, bob = await clinic.member("anna", "clinician"), await clinic.member("bob", "clinician")
    for browser in (anna, bob):
        await browser.call("POST", "/v1/conversations", {})
    await anna.call("PUT", "/v1/preferences", {"keep_days": 7})
    clinic.clock.sleep(400 * 86_400)
    assert clinic.conversations.expire(0) == 1


@pytest.mark.parametrize("allowed", [False, True])
async def test_evaluators_read_what_was_judged_and_whether_it_may_be_used(
    tmp_path: Path, allowed: bool
) -> None:
    async with ward(tmp_path, api=ApiSettings(feedback_for_tuning=allowed)) as clinic:
        anna = await clinic.member("anna", "clinician")
        made = (await anna.call("POST", "/v1/conversations", {})).json()["id"]
        await anna.call("POST", "/v1/ask", {**ASK, "conversation": made})
        judged = f"/v1/conversations/{made}/turns/1/feedback"
        assert (await anna.call("PUT", judged, {"correct": True})).status_code == 204
        assert (await anna.session())["feedback_for_tuning"] is allowed
        reader = await clinic.member("eva", "evaluator")
        told = (await reader.call("GET", "/v1/feedback")).json()
    (item,) = told["feedback"]
    assert told["feedback_for_tuning"] is allowed
    assert (item["question"], item["judgement"]["correct"]) == ("Which dose?", True)
    assert "anna" not in str(told)
