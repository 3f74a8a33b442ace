"""Which role may call which route: every route of the application stands in the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount, Route

from siloquy.gateway.api import permissions
from siloquy.gateway.sign_in.people import ALL_ROLES, ROLES, Requester
from siloquy.settings import SignInSettings
from tests.gateway.served import Federation, desktop
from tests.gateway.ward import ward

# Said once more by hand: a row that is changed must be changed here too.
OPEN = "open"
ANYBODY = "anybody with a key or a session"
MAY: dict[tuple[str, str], set[str] | str] = {
    ("GET", "/"): OPEN,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("GET", "/v1/session"): OPEN,
    ("POST", "/v1/session"): OPEN,
    ("GET", "/v1/session/oidc"): OPEN,
    ("GET", "/v1/session/oidc/callback"): OPEN,
    ("POST", "/v1/accounts/join"): OPEN,
    ("DELETE", "/v1/session"): ANYBODY,
    ("PUT", "/v1/session/password"): ANYBODY,
    ("GET", "/v1/status"): ANYBODY,
    ("GET", "/v1/federation"): ANYBODY,
    ("GET", "/v1/roster"): ANYBODY,
    ("POST", "/v1/receipts/check"): set(ROLES),
    ("POST", "/v1/ask"): {"clinician", "evaluator"},
    ("GET", "/v1/ask/{stream}"): {"clinician", "evaluator"},
    ("DELETE", "/v1/ask/{stream}"): {"clinician", "evaluator"},
    ("POST", "/v1/retrieve"): {"clinician", "evaluator"},
    ("POST", "/v1/conversations"): {"clinician", "evaluator"},
    ("GET", "/v1/conversations"): {"clinician", "evaluator"},
    ("GET", "/v1/conversations/{conversation}"): {"clinician", "evaluator"},
    ("PATCH", "/v1/conversations/{conversation}"): {"clinician", "evaluator"},
    ("DELETE", "/v1/conversations/{conversation}"): {"clinician", "evaluator"},
    ("GET", "/v1/conversations/{conversation}/export"): {"clinician", "evaluator"},
    ("PUT", "/v1/conversations/{conversation}/turns/{n}/feedback"): {"clinician", "evaluator"},
    ("GET", "/v1/preferences"): {"clinician", "evaluator"},
    ("PUT", "/v1/preferences"): {"clinician", "evaluator"},
    ("POST", "/v1/audit"): {"evaluator"},
    ("GET", "/v1/feedback"): {"evaluator"},
    ("GET", "/v1/accounts"): {"silo_admin"},
    ("POST", "/v1/accounts"): {"silo_admin"},
    ("PATCH", "/v1/accounts/{name}"): {"silo_admin"},
    ("DELETE", "/v1/accounts/{name}"): {"silo_admin"},
    ("GET", "/v1/sign-ins"): {"silo_admin", "auditor"},
}
# Programs alone, with a key: tests/gateway/sign_in/test_sign_in.py.
KEYED = {
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
}


def routes_of(service: FastAPI) -> set[tuple[str, str]]:
    """Every method and path of an application."""
    found = set()
    for route in service.routes:
        if isinstance(route, APIRoute | Route):
            found |= {(method, route.path) for method in route.methods or () if method != "HEAD"}
        else:
            assert isinstance(route, Mount)
            found.add(("GET", f"{route.path}/file"))
    return found


def test_every_route_of_the_application_stands_in_the_table() -> None:
    with desktop(Federation()) as desk:
        routes = routes_of(desk.app)
    assert len(routes) > 30
    assert [route for route in sorted(routes) if permissions.needed(*route) is None] == []


def test_no_row_lacks_a_route_but_those_of_the_federation() -> None:
    with desktop(Federation()) as desk:
        routes = {*routes_of(desk.app), ("GET", "/v1/federation"), ("GET", "/v1/roster")}
    idle = [
        (method, row.path)
        for row in permissions.TABLE
        for method in row.methods
        if not any(
            permissions.needed(*route) is row.needs for route in routes if route[0] == method
        )
    ]
    assert idle == []


def test_every_route_is_written_down_here_with_who_may_call_it() -> None:
    with desktop(Federation()) as desk:
        routes = routes_of(desk.app)
    unwritten = {route for route in routes if not route[1].startswith("/ui")} - MAY.keys() - KEYED
    assert unwritten == set()


def test_what_stands_in_no_row_is_refused() -> None:
    for method, path in (
        ("POST", "/v1/new"),
        ("GET", "/v1"),
        ("GET", "/v1/sessions"),
        ("GET", "//v1/session"),
        ("GET", "/V1/session"),
        ("PUT", "/v1/ask"),
        ("TRACE", "/"),
        ("POST", "/ui/x"),
        ("GET", "/x"),
    ):
        assert permissions.needed(method, path) is None
    assert permissions.without_row("/v1/new").status == 404
    assert permissions.without_row("/v1/ask").status == 405


@pytest.mark.parametrize("role", ROLES)
async def test_a_person_of_one_role_passes_its_own_walls_and_no_others(
    tmp_path: Path, role: str
) -> None:
    async with ward(tmp_path) as clinic:
        # Another one, so that the last account with the role can be touched.
        await clinic.member("root", "silo_admin")
        session = await clinic.member("person", role)
        routes = routes_of(clinic.app) & MAY.keys()
        for method, template in sorted(routes, key=lambda route: route[0] == "DELETE"):
            if template.startswith(("/v1/session", "/v1/accounts/join")) and method != "GET":
                continue
            path = re.sub(r"{\w+}", "7", template)
            reply = await session.call(method, path, {} if method != "GET" else None)
            may = MAY[method, template]
            allowed = isinstance(may, str) or role in may
            assert (reply.status_code == 403) == (not allowed), (method, path, reply.text)
            assert reply.status_code != 401
            if not allowed:
                error = reply.json()["error"]
                assert error["code"] == "denied"
                assert all(name in error["message"] for name in may)


@pytest.mark.parametrize("kind", ["local", "oidc"])
async def test_without_key_and_session_only_what_is_open_is_open(tmp_path: Path, kind: str) -> None:
    settings = SignInSettings(
        kind=kind,  # type: ignore[arg-type]
        url="http://127.0.0.1:8080",
        issuer="https://127.0.0.1:1",
        client_id="ward",
    )
    async with ward(tmp_path, settings) as clinic:
        browser = clinic.browser()
        for method, template in sorted(routes_of(clinic.app) & (MAY.keys() | KEYED)):
            path = re.sub(r"{\w+}", "7", template)
            reply = await browser.call(method, path, {} if method != "GET" else None)
            is_open = MAY.get((method, template)) == OPEN
            assert (reply.status_code == 401) == (not is_open), (method, path)
            if not is_open:
                assert reply.json()["error"]["code"] == "denied"
        reply = await browser.call("GET", "/v1/nothing")
        assert reply.status_code == 401


async def test_a_key_is_a_clinician_and_an_evaluator(tmp_path: Path) -> None:
    async with ward(tmp_path) as clinic:
        program = clinic.browser(Authorization=f"Bearer {clinic.keys.add('robot')}")
        assert (await program.session())["person"]["roles"] == ["clinician", "evaluator"]
        assert (await program.call("GET", "/v1/feedback")).status_code == 200
        assert (await program.call("GET", "/v1/accounts")).status_code == 403
        assert (await program.call("GET", "/v1/sign-ins")).status_code == 403


def test_a_caller_needs_one_of_the_roles_and_not_all() -> None:
    anna = Requester("anna", "anna", "Anna", frozenset({"auditor"}))
    assert permissions.refused(frozenset({"auditor", "silo_admin"}), anna) is None
    told = permissions.refused(ALL_ROLES - {"auditor"}, anna)
    assert told is not None
    assert told.status == 403
