"""Sign-in at an OpenID provider, which is a real one in its own process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import httpx
import pytest

from siloquy.errors import IntegrityError, SettingsError, Unreachable
from siloquy.gateway.sign_in import provider as providers
from siloquy.settings import SignInSettings
from tests.gateway.openid import (
    CALLBACK,
    SECRET,
    SECRET_FILE,
    OpenId,
    at_provider,
    back,
    begun,
    new_key,
    openid,
    sign_in,
    write_secret,
)
from tests.gateway.ward import HOME, Clock, Ward, ward

ONE, TWO = new_key("one"), new_key("two")


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenId]:
    with openid(ONE) as running:
        yield running


@pytest.fixture
async def clinic(tmp_path: Path, provider: OpenId) -> AsyncIterator[Ward]:
    write_secret(tmp_path)
    async with ward(tmp_path, provider.settings(), clock=now()) as made:
        yield made


def now() -> Clock:
    """The provider's time: it is another process."""
    return Clock(time.time_ns() // 1_000_000)


def changed(url: str, **parameters: str) -> str:
    """The address with other parameters; an empty one is left out."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | parameters
    kept = {name: value for name, value in query.items() if value}
    return urlunsplit(parts._replace(query=urlencode(kept)))


async def refusals(clinic: Ward) -> list[tuple[str, str]]:
    """Who was refused and why, the newest first."""
    found = clinic.authenticator.log.last(10)
    return [(item.who, item.reason) for item in found if not item.ok]


# -- getting in -----------------------------------------------------------------------------------


async def test_somebody_with_a_role_gets_in_with_it(clinic: Ward) -> None:
    browser = clinic.browser()
    assert await sign_in(browser, "anna") == "/"
    told = await browser.session()
    person = told["person"]
    assert (told["sign_in"], told["provider"]) == ("oidc", "Hospital")
    assert (person["shown"], person["roles"]) == ("Anna Ito", ["clinician"])
    # The readable name, and eight digits of what is stable and unique.
    assert person["name"].startswith("anna ")
    assert len(person["name"]) == len("anna ") + 8
    assert (await browser.call("POST", "/v1/ask", {"question": "?"})).status_code == 200
    assert clinic.gateway.asked[0].query.requester == person["name"]
    assert (await browser.call("GET", "/v1/feedback")).status_code == 403
    (entry,) = clinic.authenticator.log.last(10)
    assert (entry.who, entry.kind, entry.ok) == (person["name"], "oidc", True)


async def test_somebody_without_a_role_is_refused_and_told_so(clinic: Ward) -> None:
    browser = clinic.browser()
    assert await sign_in(browser, "guest") == "/#/sign-in?error=role"
    assert not await browser.signed_in()
    ((who, why),) = await refusals(clinic)
    assert (who.startswith("guest "), why) == (True, "you have no role at this gateway")


async def test_conversations_belong_to_the_person_and_not_to_the_name(clinic: Ward) -> None:
    first, other, program = clinic.browser(), clinic.browser(), clinic.keys.add("anna")
    await sign_in(first, "anna")
    await first.session()
    made = (await first.call("POST", "/v1/conversations", {})).json()["id"]
    again = clinic.browser()
    await sign_in(again, "anna")
    assert (await again.call("GET", f"/v1/conversations/{made}")).status_code == 200
    await sign_in(other, "eva")
    for browser in (other, clinic.browser(Authorization=f"Bearer {program}")):
        assert (await browser.call("GET", f"/v1/conversations/{made}")).status_code == 404


async def test_a_name_that_no_ledger_takes_is_made_one(clinic: Ward) -> None:
    browser = clinic.browser()
    assert await sign_in(browser, "odd") == "/"
    name = (await browser.session())["person"]["name"]
    assert name.startswith("b.odd.b.name ")
    assert (await browser.call("POST", "/v1/ask", {"question": "?"})).status_code == 200


async def test_a_public_client_needs_no_secret(tmp_path: Path, provider: OpenId) -> None:
    settings = provider.settings(client_id="public", client_secret_file="")
    async with ward(tmp_path, settings, clock=now()) as clinic:
        assert await sign_in(clinic.browser(), "anna") == "/"


async def test_the_session_has_another_id_than_before(clinic: Ward) -> None:
    browser = clinic.browser()
    await sign_in(browser, "anna")
    first = browser.http.cookies["siloquy-8080"]
    await sign_in(browser, "anna")
    assert browser.http.cookies["siloquy-8080"] != first
    assert not await clinic.browser(Cookie=f"siloquy-8080={first}").signed_in()


async def test_the_cookies_of_a_sign_in_are_lax_and_closed(clinic: Ward) -> None:
    browser = clinic.browser()
    reply = await browser.http.get("/v1/session/oidc")
    (binding,) = reply.headers.get_list("set-cookie")
    assert {"HttpOnly", "SameSite=Lax", "Max-Age=600"} <= set(binding.split("; "))
    url = await at_provider(reply.headers["location"], "anna")
    cookies = (await browser.http.get(url.removeprefix(HOME))).headers.get_list("set-cookie")
    assert len(cookies) == 2
    assert all("SameSite=Lax" in cookie and "HttpOnly" in cookie for cookie in cookies)


async def test_the_provider_is_asked_as_the_standard_says(clinic: Ward) -> None:
    url = urlsplit(await begun(clinic.browser()))
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert asked.pop("code_challenge_method") == "S256"
    for secret in ("state", "nonce", "code_challenge"):
        assert len(asked.pop(secret)) == 43
    assert asked == {
        "response_type": "code",
        "client_id": "ward",
        "redirect_uri": CALLBACK,
        "scope": "openid profile",
    }


async def test_who_signs_out_is_told_where_the_provider_ends_its_session(
    clinic: Ward, provider: OpenId
) -> None:
    browser = clinic.browser()
    await sign_in(browser, "anna")
    await browser.session()
    reply = await browser.call("DELETE", "/v1/session")
    url = reply.json()["logout"]
    assert url.startswith(f"{provider.issuer}/session/end?")
    async with httpx.AsyncClient() as http:
        assert (await http.get(url)).status_code == 200
    assert not await browser.signed_in()


# -- being led astray -----------------------------------------------------------------------------


async def test_a_reply_with_another_state_is_refused(clinic: Ward) -> None:
    browser = clinic.browser()
    url = await at_provider(await begun(browser), "anna")
    assert await back(browser, changed(url, state="x" * 43)) == "/#/sign-in?error=expired"
    # The attempt is over: the right state comes too late.
    assert await back(browser, url) == "/#/sign-in?error=expired"
    assert not await browser.signed_in()


async def test_a_reply_in_another_browser_is_refused(clinic: Ward) -> None:
    mine, theirs = clinic.browser(), clinic.browser()
    await begun(theirs)
    url = await at_provider(await begun(mine), "anna")
    for browser in (theirs, clinic.browser()):
        assert await back(browser, url) == "/#/sign-in?error=expired"
        assert not await browser.signed_in()


async def test_a_code_works_once(clinic: Ward) -> None:
    browser, thief = clinic.browser(), clinic.browser()
    url = await at_provider(await begun(browser), "anna")
    assert await back(browser, url) == "/"
    assert await back(browser, url) == "/#/sign-in?error=expired"
    # In a sign-in of the thief's own, PKCE and the provider stop it.
    code = parse_qs(urlsplit(url).query)["code"][0]
    own = await at_provider(await begun(thief), "eva")
    assert await back(thief, changed(own, code=code)) == "/#/sign-in?error=refused"
    assert not await thief.signed_in()


async def test_a_token_with_another_nonce_is_refused(clinic: Ward) -> None:
    browser = clinic.browser()
    url = await at_provider(changed(await begun(browser), nonce="x" * 43), "anna")
    assert await back(browser, url) == "/#/sign-in?error=token"
    assert await refusals(clinic) == [("", "the ID token was made for another sign-in")]


@pytest.mark.parametrize("issuer", ["https://evil.example", ""])
async def test_a_reply_of_another_issuer_is_refused(clinic: Ward, issuer: str) -> None:
    browser = clinic.browser()
    url = await at_provider(await begun(browser), "anna")
    assert await back(browser, changed(url, iss=issuer)) == "/#/sign-in?error=token"


async def test_what_the_provider_refuses_is_refused_without_its_words(clinic: Ward) -> None:
    browser = clinic.browser()
    asked = await begun(browser)
    state = parse_qs(urlsplit(asked).query)["state"][0]
    issuer = f"{urlsplit(asked).scheme}://{urlsplit(asked).netloc}"
    url = changed(
        CALLBACK, error="access_denied", error_description="<b>x", state=state, iss=issuer
    )
    assert await back(browser, url) == "/#/sign-in?error=refused"


async def test_a_sign_in_must_end_within_ten_minutes(clinic: Ward) -> None:
    browser = clinic.browser()
    url = await at_provider(await begun(browser), "anna")
    clinic.clock.sleep(600)
    assert await back(browser, url) == "/#/sign-in?error=expired"


@pytest.mark.parametrize("days", [1, -1])
async def test_a_token_of_another_time_is_refused(clinic: Ward, days: int) -> None:
    browser = clinic.browser()
    clinic.clock.sleep(days * 86_400)
    assert await sign_in(browser, "anna") == "/#/sign-in?error=token"


async def test_too_many_starts_have_to_wait(clinic: Ward) -> None:
    browser = clinic.browser()
    for _ in range(300):
        await begun(browser)
    reply = await browser.http.get("/v1/session/oidc")
    assert (reply.status_code, int(reply.headers["retry-after"]) > 0) == (429, True)
    shown = await browser.http.get("/v1/session/oidc", headers={"Accept": "text/html"})
    assert shown.headers["location"] == f"{HOME}/#/sign-in?error=busy"


async def test_no_log_holds_secret_code_or_token(
    clinic: Ward, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url = await at_provider(await begun(clinic.browser()), "anna")
    browser = clinic.browser()
    await sign_in(browser, "anna")
    for secret in (SECRET, parse_qs(urlsplit(url).query)["code"][0]):
        assert secret not in "".join(
            record.getMessage() for record in caplog.records if record.name.startswith("siloquy")
        )


# -- the provider's troubles ----------------------------------------------------------------------


async def test_a_provider_that_is_down_is_a_clear_error(tmp_path: Path) -> None:
    write_secret(tmp_path)
    with openid(ONE) as stopped:
        settings = stopped.settings()
    async with ward(tmp_path, settings, clock=now()) as clinic:
        browser = clinic.browser()
        reply = await browser.http.get("/v1/session/oidc")
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unreachable")
        shown = await browser.http.get("/v1/session/oidc", headers={"Accept": "text/html"})
        assert shown.headers["location"] == f"{HOME}/#/sign-in?error=provider"
        key = clinic.keys.add("robot")
        program = clinic.browser(Authorization=f"Bearer {key}")
        assert (await program.call("POST", "/v1/ask", {"question": "?"})).status_code == 200


async def test_many_who_wait_for_a_provider_that_is_down_wait_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, asked = now(), 0
    known = providers.Provider("https://id.example", "ward", "", clock.monotonic)

    async def silent(address: str) -> dict[str, object]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        clock.sleep(10)
        raise Unreachable("the sign-in provider cannot be reached", "try again later")

    monkeypatch.setattr(known, "_get", silent)
    told = await asyncio.gather(*(known.metadata() for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in told} == {Unreachable}
    assert asked == 1
    clock.sleep(5)
    with pytest.raises(Unreachable):
        await known.metadata()
    assert asked == 2


@pytest.mark.parametrize(
    "address", ["javascript://localhost/%0aalert(1)", "ftp://127.0.0.1/", "http://id.example/"]
)
async def test_a_provider_s_address_is_https_or_http_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    known = providers.Provider("https://id.example", "ward", "")

    async def told(where: str) -> dict[str, object]:
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        safe = dict.fromkeys(names, "https://id.example/x")
        return {"issuer": known.issuer, **safe, "end_session_endpoint": address}

    monkeypatch.setattr(known, "_get", told)
    with pytest.raises(IntegrityError, match="end_session_endpoint"):
        await known.metadata()


async def test_a_provider_that_stops_within_a_sign_in_is_told(tmp_path: Path) -> None:
    write_secret(tmp_path)
    with openid(ONE) as running:
        async with ward(tmp_path, running.settings(), clock=now()) as clinic:
            browser = clinic.browser()
            url = await at_provider(await begun(browser), "anna")
            running.stop()
            assert await back(browser, url) == "/#/sign-in?error=provider"


async def test_a_provider_may_change_its_keys(tmp_path: Path) -> None:
    write_secret(tmp_path)
    with openid(ONE) as before:
        settings, port = before.settings(), before.port
        async with ward(tmp_path, settings, clock=now()) as clinic:
            assert await sign_in(clinic.browser(), "anna") == "/"
            before.stop()
            with openid(TWO, port):
                assert await sign_in(clinic.browser(), "anna") == "/"


async def test_unknown_keys_do_not_make_the_gateway_ask_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with openid(ONE) as running:
        clock = now()
        asked: list[str] = []
        known = providers.Provider(running.issuer, "ward", "", clock.monotonic)
        fetch = known._get

        async def counted(address: str) -> dict[str, object]:
            asked.append(address)
            return await fetch(address)

        monkeypatch.setattr(known, "_get", counted)
        for _ in range(5):
            await known.keys(fresh=True)
        assert len(asked) == 2
        clock.sleep(11)
        await known.keys(fresh=True)
        assert len(asked) == 3


async def test_a_key_that_was_taken_back_is_trusted_for_an_hour_at_most() -> None:
    clock = now()
    with openid(ONE) as running:
        known = providers.Provider(running.issuer, "ward", "", clock.monotonic)
        assert [key.kid for key in (await known.keys()).keys] == ["one"]
    with openid(TWO, running.port):
        assert [key.kid for key in (await known.keys()).keys] == ["one"]
        clock.sleep(3601)
        assert [key.kid for key in (await known.keys()).keys] == ["two"]


async def test_an_issuer_that_calls_itself_otherwise_is_refused(
    tmp_path: Path, provider: OpenId
) -> None:
    write_secret(tmp_path)
    settings = provider.settings(issuer=f"{provider.issuer}/")
    async with ward(tmp_path, settings, clock=now()) as clinic:
        reply = await clinic.browser().http.get("/v1/session/oidc")
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "integrity")


# -- settings -------------------------------------------------------------------------------------


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path)
    (tmp_path / SECRET_FILE).chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by others"):
        providers.Provider("https://id.example", "x", secret(tmp_path))


def secret(folder: Path) -> str:
    from siloquy.gateway.sign_in.secret_file import read_secret

    return read_secret("sign_in.client_secret_file", folder / SECRET_FILE)


OIDC = {"kind": "oidc", "url": HOME, "issuer": "https://id.example", "client_id": "ward"}


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"url": ""}, "sign_in.url"),
        ({"issuer": ""}, "sign_in.issuer"),
        ({"client_id": ""}, "sign_in.client_id"),
        ({"url": "http://rag.example"}, "sign_in.url"),
        ({"issuer": "http://id.example"}, "sign_in.issuer"),
        ({"url": "https://user@rag.example"}, "sign_in.url"),
        ({"url": "https://rag.example/?x"}, "sign_in.url"),
        ({"url": "https://rag.example/a;b"}, "sign_in.url"),
        ({"url": "rag.example"}, "sign_in.url"),
        ({"url": "https://rag.example:x"}, "sign_in.url"),
        ({"role_names": ("doctor",)}, "sign_in.role_names"),
        ({"role_names": ("doctor=boss",)}, "sign_in.role_names"),
    ],
)
def test_settings_that_could_let_somebody_else_in_are_refused(
    changed: dict[str, object], key: str
) -> None:
    SignInSettings(**OIDC)  # type: ignore[arg-type]
    with pytest.raises(SettingsError) as refused:
        SignInSettings(**{**OIDC, **changed})  # type: ignore[arg-type]
    assert key in refused.value.message
