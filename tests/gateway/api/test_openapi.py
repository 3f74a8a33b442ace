"""The OpenAPI document is true: every route stands in it, and real replies are as it says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema
import pytest
from fastapi.routing import APIRoute
from hypothesis import given, settings
from hypothesis import strategies as st

from siloquy.codec import to_json
from siloquy.errors import BY_CODE, SiloquyError
from siloquy.gateway.ask import GatewayStatus, RankedPassage, Retrieval
from siloquy.gateway.sign_in.people import ROLES
from siloquy.settings import ApiSettings
from siloquy.types import NodeId
from tests.gateway.served import ABSTAINED, ANSWER, PLAN, Federation, desktop
from tests.gateway.ward import OTHER, PASSWORD, Browser, ward

ASK = {"question": "Which dose?"}
CHAT = {"model": "siloquy", "messages": [{"role": "user", "content": "Which dose?"}]}
METHODS = ("get", "post", "patch", "delete", "put")


def document(api: ApiSettings | None = None) -> dict[str, Any]:
    with desktop(Federation(), api) as desk:
        return dict(desk.app.openapi())


DOCUMENT = document()


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """A validator of a schema within the document."""
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def declared(path: str) -> tuple[str, dict[str, Any]]:
    """The document's path that a request's path is an instance of."""
    parts = path.partition("?")[0].split("/")
    for template, operations in DOCUMENT["paths"].items():
        wanted = template.split("/")
        if len(wanted) == len(parts) and all(
            one == other or one.startswith("{") for one, other in zip(wanted, parts, strict=True)
        ):
            return template, operations
    raise AssertionError(f"{path} is not in the document")


def check(method: str, path: str, reply: httpx.Response) -> None:
    """The reply is one that the document promises."""
    _, operations = declared(path)
    responses = operations[method.lower()]["responses"]
    told = responses.get(str(reply.status_code)) or responses.get(f"{reply.status_code // 100}XX")
    assert told is not None, f"{method} {path} gave {reply.status_code}"
    kind = reply.headers.get("content-type", "").split(";")[0]
    content = told.get("content", {})
    assert kind in content or (not content and not reply.content), (method, path, kind)
    if kind == "application/json":
        validator(content[kind]["schema"]).validate(reply.json())


def test_every_route_stands_in_the_document() -> None:
    with desktop(Federation()) as desk:
        routes = {
            (route.path, method.lower())
            for route in _api_routes(desk.app.routes)
            for method in route.methods or ()
        }
    listed = {
        (path, method)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method in METHODS
    }
    assert routes - {("/", "get")} == listed
    assert len(listed) > 12


def _api_routes(routes: Any) -> list[APIRoute]:
    return [route for route in routes if isinstance(route, APIRoute)]


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(DOCUMENT)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(DOCUMENT["components"]["schemas"])
    assert "HTTPValidationError" not in text


def test_every_operation_says_what_it_is_and_how_it_refuses() -> None:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"]
            if path.startswith("/v1/"):
                assert {"400", "401", "403", "429", "500"} <= set(operation["responses"])
                assert operation["security"], (path, method)


@pytest.mark.parametrize("required", [False, True])
def test_the_document_says_where_a_key_is_needed(required: bool) -> None:
    made = document(ApiSettings(require_key=required))
    assert made["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    keyed = {
        path: all(item != {} for item in operation["security"])
        for path, operations in made["paths"].items()
        for operation in operations.values()
        if path.startswith("/v1/")
    }
    always = {path for path in keyed if path.startswith(("/v1/chat", "/v1/models"))}
    assert {path for path, needed in keyed.items() if needed} == (
        set(keyed) if required else always
    )


def test_requests_have_examples_that_hold() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["AskBody"]["properties"]["question"]["examples"]
    for name, body in (("AskBody", ASK), ("RetrieveBody", ASK), ("ChatBody", CHAT)):
        validator(schemas[name]).validate(body)


def test_what_the_real_gateway_gives_is_what_the_document_says() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    ranked = (RankedPassage(1, NodeId("north"), "a.txt", "", "text", 0, 4, "Dose", "2024"),)
    found = Retrieval(ranked, PLAN, ANSWER.missing, {}, {}, {}, (), {"total": 1.0}, {"north": 7})
    state = GatewayStatus(
        True, True, 1, "AAAA", PLAN.asked, PLAN.asked, ANSWER.missing, "extractive"
    )
    validator(schemas["Retrieval"]).validate(to_json(found))
    validator(schemas["GatewayStatus"]).validate(to_json(state))
    for answer in (ANSWER, ABSTAINED):
        validator(schemas["Answer"]).validate(to_json(answer))


CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/ask", ASK),
    ("POST", "/v1/ask", {**ASK, "stream": True}),
    ("POST", "/v1/ask", {}),
    ("GET", "/v1/ask/nothing", None),
    ("GET", "/v1/ask/nothing?after=x", None),
    ("DELETE", "/v1/ask/nothing", None),
    ("POST", "/v1/retrieve", ASK),
    ("POST", "/v1/retrieve", {"question": 7}),
    ("POST", "/v1/conversations", {"title": "Contrast"}),
    ("GET", "/v1/conversations", None),
    ("GET", "/v1/conversations/nothing", None),
    ("PATCH", "/v1/conversations/nothing", {"title": "x"}),
    ("DELETE", "/v1/conversations/nothing", None),
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/chat/completions", {**CHAT, "stream": True}),
    ("POST", "/v1/chat/completions", {}),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/siloquy", None),
    ("GET", "/v1/models/other", None),
    ("GET", "/v1/status", None),
    ("GET", "/v1/federation", None),
    ("GET", "/v1/roster", None),
    ("GET", "/v1/session", None),
    ("POST", "/v1/session", {"name": "anna", "password": "x"}),
    ("DELETE", "/v1/session", None),
    ("PUT", "/v1/session/password", {"old": "x", "new": "x"}),
    ("GET", "/v1/session/oidc", None),
    ("GET", "/v1/session/oidc/callback", None),
    ("POST", "/v1/accounts/join", {"token": "x", "shown": "x", "password": "x"}),
    ("GET", "/v1/accounts", None),
    ("POST", "/v1/accounts", {"name": "anna", "roles": ["clinician"]}),
    ("PATCH", "/v1/accounts/anna", {"disabled": True}),
    ("DELETE", "/v1/accounts/anna", None),
    ("GET", "/v1/sign-ins", None),
    ("GET", "/v1/preferences", None),
    ("PUT", "/v1/preferences", {"keep_days": 7}),
    ("PUT", "/v1/preferences", {"keep_days": -1}),
    ("GET", "/v1/feedback", None),
    ("POST", "/v1/receipts/check", {"body": {}, "signature": "", "roster": ""}),
    ("POST", "/v1/receipts/check", {}),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/metrics", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
@pytest.mark.parametrize("key", ["right", "wrong", "none"])
async def test_real_replies_are_as_the_document_says(
    method: str, path: str, body: Any, key: str
) -> None:
    with desktop(Federation()) as desk:
        given = {"right": desk.keys.add("anna"), "wrong": "sq_x", "none": ""}[key]
        headers = {"Authorization": f"Bearer {given}"} if given else {}
        transport = httpx.ASGITransport(desk.app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as http:
            reply = await http.request(method, path, json=body)
    check(method, path, reply)
    if key == "wrong" and path.startswith("/v1/"):
        assert reply.status_code == 401


@pytest.mark.parametrize("code", BY_CODE)
@pytest.mark.parametrize(
    ("path", "body"), [("/v1/ask", ASK), ("/v1/retrieve", ASK), ("/v1/chat/completions", CHAT)]
)
async def test_every_kind_of_refusal_is_in_the_document(code: str, path: str, body: Any) -> None:
    error: SiloquyError = BY_CODE[code]("what happened", "what to do")
    with desktop(Federation(error)) as desk:
        headers = {"Authorization": f"Bearer {desk.keys.add('anna')}"}
        transport = httpx.ASGITransport(desk.app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as http:
            check("POST", path, await http.post(path, json=body))


async def test_a_conversation_with_turns_is_as_the_document_says() -> None:
    with desktop(Federation()) as desk:
        transport = httpx.ASGITransport(desk.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            made = (await http.post("/v1/conversations", json={})).json()
            path = f"/v1/conversations/{made['id']}"
            await http.post("/v1/ask", json={**ASK, "conversation": made["id"]})
            for method, body in (("GET", None), ("PATCH", {"title": "x"}), ("DELETE", None)):
                check(method, path, await http.request(method, path, json=body))


# -- anything at all ------------------------------------------------------------------------------

_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(st.characters(), max_size=30),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
_FIELDS = (
    "question route k unit mode rescore purpose stream conversation turns title model messages n "
    "role content stream_options"
).split()
_KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "question": st.text(st.characters(), max_size=40),
    "model": st.just("siloquy"),
    "messages": st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant", "system", "x"]), "content": _JSON}
        ),
        max_size=4,
    ),
}
_BODIES = st.one_of(
    _JSON,
    st.fixed_dictionaries(
        {},
        optional={name: st.one_of(_KNOWN.get(name, _JSON), _JSON) for name in _FIELDS},
    ),
    st.fixed_dictionaries({"question": _KNOWN["question"]}),
    st.fixed_dictionaries({name: _KNOWN[name] for name in ("model", "messages")}),
)
_PATHS = st.sampled_from(
    [(method.upper(), path) for path in DOCUMENT["paths"] for method in DOCUMENT["paths"][path]]
)
_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Accept": st.sampled_from(["text/event-stream", "*/*", ",,;", "a" * 2000]),
        "Last-Event-ID": st.sampled_from(["0", "7", "-1", "x", "1" * 30]),
        "Content-Type": st.sampled_from(["application/json", "application/json; x", "text/plain"]),
        "Origin": st.sampled_from(["http://localhost", "https://evil.example", "://"]),
        "Authorization": st.sampled_from(["Bearer KEY", "Bearer KEY", "Bearer x", "x"]),
    },
)
_NAMES = st.text("ab/.%é\x00 ", min_size=1, max_size=5)


@pytest.fixture(scope="module")
def fuzzed() -> Iterator[tuple[asyncio.Runner, httpx.AsyncClient, str]]:
    """One application for all that is sent, and a key to it."""
    with desktop(Federation()) as desk, asyncio.Runner() as runner:
        transport = httpx.ASGITransport(desk.app)
        http = httpx.AsyncClient(transport=transport, base_url="http://localhost")
        yield runner, http, desk.keys.add("anna")
        runner.run(http.aclose())


@settings(max_examples=300, deadline=None)
@given(call=_PATHS, body=_BODIES, headers=_HEADERS, name=_NAMES)
def test_nothing_that_is_sent_makes_the_gateway_fail_or_break_its_word(
    fuzzed: tuple[asyncio.Runner, httpx.AsyncClient, str],
    call: tuple[str, str],
    body: Any,
    headers: dict[str, str],
    name: str,
) -> None:
    runner, http, key = fuzzed
    method, template = call
    given = {"Content-Type": "application/json", **headers}
    if "KEY" in given.get("Authorization", ""):
        given["Authorization"] = f"Bearer {key}"
    path = re.sub(r"{\w+}", quote(name, safe=""), template)
    content = json.dumps(body).encode() if method in ("POST", "PATCH") else b""
    reply = runner.run(http.request(method, path, content=content, headers=given))
    assert reply.status_code < 500
    # A slash within a name makes it another path, which no document lists.
    if "/" not in name:
        check(method, template, reply)


# -- with sign-in ---------------------------------------------------------------------------------

SIGN_IN_CALLS: list[tuple[str, str, Any]] = [
    ("GET", "/v1/session", None),
    ("GET", "/v1/accounts", None),
    ("POST", "/v1/accounts", {"name": "bob", "roles": ["clinician"]}),
    ("PATCH", "/v1/accounts/bob", {"roles": ["auditor"]}),
    ("DELETE", "/v1/accounts/bob", None),
    ("GET", "/v1/sign-ins", None),
    ("GET", "/v1/sign-ins?limit=0", None),
    ("GET", "/v1/preferences", None),
    ("PUT", "/v1/preferences", {"keep_days": 7}),
    ("GET", "/v1/feedback", None),
    ("GET", "/v1/session/oidc", None),
    ("PUT", "/v1/session/password", {"old": PASSWORD, "new": OTHER}),
    ("POST", "/v1/session", {"name": "anna", "password": OTHER}),
    ("POST", "/v1/session", {"name": "anna", "password": "x"}),
    ("DELETE", "/v1/session", None),
]


async def test_replies_of_sign_in_are_as_the_document_says(tmp_path: Path) -> None:
    async with ward(tmp_path) as clinic:
        browser = await clinic.member("anna", *ROLES)
        await clinic.member("root", "silo_admin")
        for method, path, body in SIGN_IN_CALLS:
            reply = await browser.call(method, path, body)
            check(method, path, reply)
            if reply.status_code == 200 and "csrf" in reply.json():
                browser.csrf = reply.json()["csrf"]
        document = clinic.app.openapi()
    assert document["components"]["securitySchemes"]["session"]["in"] == "cookie"
    ways = {
        (method, path): [next(iter(way), "") for way in operation["security"]]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "security" in operation
    }
    assert ways["post", "/v1/ask"] == ["key", "session"]
    assert ways["post", "/v1/session"] == ["key", "session", ""]
    assert ways["get", "/v1/models"] == ["key"]


@pytest.fixture(scope="module")
def signed_in(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[asyncio.Runner, Browser]]:
    """The browser of somebody with all roles, for all that is sent."""
    with asyncio.Runner() as runner:
        opened = AsyncExitStack()
        clinic = runner.run(opened.enter_async_context(ward(tmp_path_factory.mktemp("ward"))))
        yield runner, runner.run(clinic.member("anna", *ROLES))
        runner.run(opened.aclose())


_SIGN_IN_FIELDS = "name password token shown old new roles disabled keep_days body salt".split()
_SIGN_IN_BODIES = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(_JSON, st.text(max_size=70), st.lists(st.sampled_from(ROLES), max_size=3))
        for name in _SIGN_IN_FIELDS
    },
)
_SIGN_IN_PATHS = st.sampled_from(
    [
        (method.upper(), path)
        for path in DOCUMENT["paths"]
        for method in DOCUMENT["paths"][path]
        if path.startswith(("/v1/session", "/v1/accounts", "/v1/pref", "/v1/receipts"))
        # Signing out, or in as somebody else, would leave nothing to send the rest with.
        and (method, path) not in (("delete", "/v1/session"), ("put", "/v1/session/password"))
    ]
)


@settings(max_examples=100, deadline=None)
@given(call=_SIGN_IN_PATHS, body=_SIGN_IN_BODIES, name=_NAMES)
def test_nothing_that_is_sent_makes_sign_in_fail_or_break_its_word(
    signed_in: tuple[asyncio.Runner, Browser], call: tuple[str, str], body: Any, name: str
) -> None:
    runner, browser = signed_in
    method, template = call
    path = re.sub(r"{\w+}", quote(name, safe=""), template)
    reply = runner.run(browser.call(method, path, None if method == "GET" else body))
    assert reply.status_code < 500
    if "/" not in name:
        check(method, template, reply)
