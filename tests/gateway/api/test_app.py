"""The gateway's HTTP face: what it takes, how it refuses, whom it serves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from siloquy.errors import (
    BY_CODE,
    BudgetExhausted,
    Busy,
    Incompatible,
    IntegrityError,
    PolicyDenied,
    SettingsError,
    SiloquyError,
    Unreachable,
    UsageError,
)
from siloquy.gateway.api.app import check_loopback
from siloquy.gateway.asking import AskOptions
from siloquy.types import Query
from siloquy.web import pages, refusals
from tests.gateway.served import SECRET, Asked, Federation, client, desktop


async def post(
    body: Any, gateway: Federation | None = None, path: str = "/v1/ask"
) -> httpx.Response:
    async with client(gateway or Federation()) as http:
        if isinstance(body, bytes):
            return await http.post(path, content=body, headers={"Content-Type": "application/json"})
        return await http.post(path, json=body)


def error_of(reply: httpx.Response) -> dict[str, str]:
    """The error in a reply, which is of the documented shape."""
    body = reply.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["code", "message", "hint"]
    assert body["error"]["code"] in BY_CODE
    assert all(isinstance(value, str) for value in body["error"].values())
    return dict(body["error"])


# -- asking ---------------------------------------------------------------------------------------


async def test_an_answer_is_the_json_of_its_value() -> None:
    reply = await post({"question": "Which dose?"})
    assert (reply.status_code, reply.json()["answer"]) == (200, "Give 1 g. [1] Give 2 g. [2]")
    assert reply.json()["plan"] == {
        "mode": "open",
        "asked": ["north", "south"],
        "skipped": [],
        "reasons": {"north": "all silos are asked"},
        "coverage": None,
        "intent": "precise",
        "audit": False,
        "notes": [],
    }


@pytest.mark.parametrize("path", ["/v1/ask", "/v1/retrieve"])
async def test_question_and_options_reach_the_gateway_as_they_were_given(path: str) -> None:
    gateway = Federation()
    options = AskOptions(
        route="all", intent="diverse", k=7, unit="document", mode="sealed", rescore=False
    )
    body = {"question": " Dose? ", "purpose": "audit", **asdict(options)}
    await post(body, gateway, path)
    assert gateway.asked == [Asked(Query(" Dose? ", "audit"), options)]


async def test_what_is_left_out_is_the_gateways_own_choice() -> None:
    gateway = Federation()
    await post({"question": "Dose?"}, gateway)
    (asked,) = gateway.asked
    options = asked.options
    assert (asked.query, asked.turns) == (Query("Dose?", "treatment", "local"), ())
    assert (options.route, options.k, options.unit, options.mode) == (None, None, "passage", None)
    assert options.rescore


async def test_status_and_health_answer() -> None:
    async with client(Federation()) as http:
        assert (await http.get("/v1/status")).json()["profiled"] == ["north"]
        assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_the_page_and_its_files_are_served() -> None:
    async with client(Federation()) as http:
        page = await http.get("/")
        assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/html")
        assert page.headers["cache-control"] == "no-store"
        files = [path for path in (pages.UI / "ui").iterdir() if path.is_file()]
        assert {path.suffix for path in files} == {".css", ".js", ".svg"}
        for path in files:
            assert f'"./ui/{path.name}"' in page.text
            reply = await http.get(f"/ui/{path.name}")
            assert (reply.status_code, reply.content) == (200, path.read_bytes())
            assert "immutable" in reply.headers["cache-control"]


async def test_a_page_that_was_not_built_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pages, "UI", tmp_path)
    async with client(Federation()) as http:
        page = await http.get("/")
        assert (page.status_code, "scripts/setup" in page.text) == (503, True)
        assert (await http.get("/ui/app.js")).status_code == 404
        assert (await http.get("/v1/status")).status_code == 200


async def test_nothing_but_the_pages_files_is_served() -> None:
    async with client(Federation()) as http:
        for path in (
            "/ui/../index.html",
            "/ui/../service.py",
            "/ui/%2e%2e/service.py",
            "/ui//etc/passwd",
        ):
            assert (await http.get(path)).status_code in (404, 405)


# -- malformed requests ---------------------------------------------------------------------------

MALFORMED: dict[str, tuple[Any, str]] = {
    "no question": ({}, "question"),
    "a question that is no text": ({"question": 7}, "question"),
    "a field too many": ({"question": SECRET, "depth": 9}, "depth"),
    "a requester of one's own": ({"question": SECRET, "requester": "root"}, "requester"),
    "k too small": ({"question": SECRET, "k": 0}, "k"),
    "k too large": ({"question": SECRET, "k": 101}, "k"),
    "k no number": ({"question": SECRET, "k": SECRET}, "k"),
    "an unknown route": ({"question": SECRET, "route": SECRET}, "route"),
    "an unknown mode": ({"question": SECRET, "mode": SECRET}, "mode"),
    "an unknown unit": ({"question": SECRET, "unit": SECRET}, "unit"),
    "no object": ([SECRET], "body"),
    "a text": (SECRET, "body"),
    "no JSON": (f'{{"question": "{SECRET}'.encode(), ""),
    "no UTF-8": (b'{"question": "\xff' + SECRET.encode() + b'"}', ""),
    "an empty body": (b"", "body"),
}


@pytest.mark.parametrize("path", ["/v1/ask", "/v1/retrieve"])
@pytest.mark.parametrize(("body", "field"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request_names_its_fields_and_repeats_nothing(
    body: Any, field: str, path: str
) -> None:
    gateway = Federation()
    reply = await post(body, gateway, path)
    error = error_of(reply)
    assert (reply.status_code, error["code"], gateway.asked) == (400, "usage", [])
    assert field in error["message"]
    assert SECRET not in reply.text


async def test_a_form_of_another_page_cannot_ask() -> None:
    # A page elsewhere may send text/plain without asking leave first, but not JSON.
    gateway = Federation()
    async with client(gateway) as http:
        body = json.dumps({"question": SECRET})
        for kind in ("text/plain", "application/x-www-form-urlencoded", None):
            headers = {"Content-Type": kind} if kind else {}
            reply = await http.post("/v1/ask", content=body.encode(), headers=headers)
            assert (reply.status_code, SECRET in reply.text) == (400, False)
    assert gateway.asked == []


async def test_another_page_gets_no_leave_to_ask() -> None:
    async with client(Federation()) as http:
        headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        reply = await http.request("OPTIONS", "/v1/ask", headers=headers)
    assert reply.status_code == 405
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", "/v1/ask", 405)]
)
async def test_an_unknown_path_or_method_is_an_error_of_the_same_shape(
    method: str, path: str, status: int
) -> None:
    async with client(Federation()) as http:
        reply = await http.request(method, path)
    assert (reply.status_code, error_of(reply)["code"]) == (status, "usage")


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError, 400),
        (PolicyDenied, 403),
        (Incompatible, 409),
        (BudgetExhausted, 429),
        (Busy, 429),
        (SettingsError, 500),
        (SiloquyError, 500),
        (IntegrityError, 502),
        (Unreachable, 503),
    ],
)
async def test_a_refusal_has_its_status_code_message_and_hint(
    error: type[SiloquyError], status: int
) -> None:
    reply = await post({"question": SECRET}, Federation(error("what happened", "what to do")))
    assert reply.status_code == status
    assert error_of(reply) == {
        "code": error.code,
        "message": "what happened",
        "hint": "what to do",
    }


def test_every_kind_of_error_has_a_status() -> None:
    assert set(refusals.STATUS) == set(BY_CODE) - {"error"}


async def test_a_defect_is_an_error_of_the_same_shape_and_repeats_nothing() -> None:
    with desktop(Federation(KeyError(SECRET))) as desk:
        transport = httpx.ASGITransport(desk.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            reply = await http.post("/v1/ask", json={"question": SECRET})
    assert (reply.status_code, SECRET in reply.text) == (500, False)
    assert "Content-Security-Policy" in reply.headers
    assert error_of(reply)["code"] == "error"


# -- headers and hosts ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/status", "/nothing", "/ui/index.html"])
async def test_every_reply_carries_the_security_headers(path: str) -> None:
    async with client(Federation()) as http:
        headers = (await http.get(path)).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    policy = dict(
        rule.strip().split(" ", 1) for rule in headers["Content-Security-Policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in headers["Content-Security-Policy"]


async def test_refusals_carry_them_too() -> None:
    assert "Content-Security-Policy" in (await post({})).headers
    reply = await post({"question": "?"}, Federation(PolicyDenied("no")))
    assert "Content-Security-Policy" in reply.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:9000", "[::1]", "[::1]:80"])
async def test_this_machine_is_served_under_all_its_names(host: str) -> None:
    async with client(Federation(), host=host) as http:
        assert (await http.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.5:8080"]
)
async def test_a_foreign_host_header_is_refused(host: str) -> None:
    gateway = Federation()
    async with client(gateway) as http:
        reply = await http.post("/v1/ask", json={"question": "?"}, headers={"Host": host})
    assert (reply.status_code, gateway.asked) == (400, [])


# -- listening ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_listening_to_this_machine_is_allowed(host: str) -> None:
    check_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["0.0.0.0", "::", "", "10.0.0.5", "192.168.1.2", "gateway.hospital", "localhost.x", "8080"],  # noqa: S104
)
def test_listening_to_others_is_refused(host: str) -> None:
    with pytest.raises(SettingsError) as refused:
        check_loopback(host)
    assert repr(host) in refused.value.message
    assert "reverse proxy" in refused.value.hint
