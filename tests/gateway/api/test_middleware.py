"""What every request passes first: origin, key, kind and size of its body, and patience."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any

import httpx
import pytest

from siloquy.errors import BY_CODE
from siloquy.settings import ApiSettings
from siloquy.web import middleware
from tests.gateway.served import ANSWER, SECRET, Federation, client, desktop, parsed, served, until

BODY = json.dumps({"question": SECRET})
JSON = {"Content-Type": "application/json"}


def error_of(reply: httpx.Response) -> dict[str, str]:
    """The error in a reply, which is of the documented shape and repeats nothing."""
    error = reply.json()["error"]
    assert list(error) == ["code", "message", "hint"]
    assert error["code"] in BY_CODE
    assert SECRET not in reply.text
    assert "Content-Security-Policy" in reply.headers
    return dict(error)


# -- keys -----------------------------------------------------------------------------------------


async def test_the_name_of_a_key_is_the_requester() -> None:
    federation = Federation()
    with desktop(federation) as desk:
        headers = {"Authorization": f"Bearer {desk.keys.add('anna')}"}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(desk.app), base_url="http://localhost", headers=headers
        ) as http:
            assert (await http.post("/v1/ask", json={"question": "?"})).status_code == 200
            assert (await http.post("/v1/retrieve", json={"question": "?"})).status_code == 200
    assert [asked.query.requester for asked in federation.asked] == ["anna", "anna"]


@pytest.mark.parametrize(
    "given",
    [
        "Bearer sq_" + "A" * 43,
        "Bearer ",
        "Bearer",
        "Basic YTpi",
        "sq_" + "A" * 43,
        "Bearer " + SECRET,
        "Bearer \xff\xfe",
    ],
)
@pytest.mark.parametrize("path", ["/v1/ask", "/v1/retrieve", "/v1/conversations", "/v1/nothing"])
async def test_a_wrong_key_is_refused_even_where_none_is_needed(given: str, path: str) -> None:
    federation = Federation()
    async with client(federation) as http:
        headers = {"Authorization": given.encode("latin-1"), b"Content-Type": b"application/json"}
        reply = await http.post(path, content=BODY, headers=headers)  # type: ignore[arg-type]
    assert (reply.status_code, error_of(reply)["code"]) == (401, "denied")
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert federation.asked == []


async def test_a_right_key_beside_a_wrong_one_is_refused() -> None:
    with desktop(Federation()) as desk:
        right = desk.keys.add("anna")
        transport = httpx.ASGITransport(desk.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            for pair in ([right, "sq_x"], ["sq_x", right], [right, right]):
                headers = [("Authorization", f"Bearer {key}") for key in pair]
                assert (await http.get("/v1/status", headers=headers)).status_code == 401


async def test_where_a_key_is_needed_all_but_the_page_and_health_is_closed() -> None:
    async with client(Federation(), ApiSettings(require_key=True)) as http:
        for path in ("/v1/status", "/v1/conversations", "/v1/ask/x", "/v1/models", "/nothing"):
            assert (await http.get(path)).status_code == 401
        assert (await http.post("/v1/ask", json={"question": "?"})).status_code == 401
        for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json"):
            # A machine under load may say that it is not well, but it says it without a key.
            assert (await http.get(path)).status_code in (200, 503)
        assert (await http.get("/ui/app.js")).status_code == 404
        for path in ("//v1/status", "/v1//status", "/ui/../v1/status", "/V1/status"):
            assert (await http.get(path)).status_code in (401, 404)


async def test_a_revoked_key_is_refused_at_its_next_call() -> None:
    with desktop(Federation()) as desk:
        headers = {"Authorization": f"Bearer {desk.keys.add('anna')}"}
        transport = httpx.ASGITransport(desk.app)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", headers=headers
        ) as http:
            assert (await http.get("/v1/status")).status_code == 200
            desk.keys.revoke("anna")
            assert (await http.get("/v1/status")).status_code == 401


async def test_many_wrong_keys_have_to_wait_and_a_right_one_never_does() -> None:
    with desktop(Federation()) as desk:
        key = desk.keys.add("anna")
        transport = httpx.ASGITransport(desk.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            wrong = {"Authorization": "Bearer sq_" + "B" * 43}
            codes = [(await http.get("/v1/status", headers=wrong)).status_code for _ in range(40)]
            late = await http.get("/v1/status", headers=wrong)
            right = await http.get("/v1/status", headers={"Authorization": f"Bearer {key}"})
    assert codes == [401] * 30 + [429] * 10
    assert 1 <= int(late.headers["Retry-After"]) <= 60
    assert right.status_code == 200


async def test_a_key_stands_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    federation = Federation(KeyError(SECRET))
    async with served(federation) as running:
        key = running.desk.keys.add("anna")
        wrong = "sq_" + "C" * 43
        for given in (key, wrong):
            headers = {"Authorization": f"Bearer {given}"}
            await running.http.post("/v1/ask", json={"question": "?"}, headers=headers)
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith(("httpcore", "httpx"))]
    assert any("defect in /v1/ask: KeyError" in line for line in ours)
    assert not [line for line in ours if key in line or wrong in line or SECRET in line]


# -- pages of other sites -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://127.0.0.1.evil.example:8080"},
        {"Origin": "http://[bad"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8080"},
    ],
)
async def test_a_page_of_another_site_may_not_ask(headers: dict[str, str]) -> None:
    federation = Federation()
    async with client(federation) as http:
        replies = [
            await http.post("/v1/ask", content=BODY, headers={**JSON, **headers}),
            await http.request("DELETE", "/v1/conversations/x", headers=headers),
            await http.patch("/v1/conversations/x", content="{}", headers={**JSON, **headers}),
        ]
    assert [(reply.status_code, error_of(reply)["code"]) for reply in replies] == [
        (403, "denied")
    ] * 3
    assert federation.asked == []


FROM_ELSEWHERE = [
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403),
    ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 403),
    (
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        403,
    ),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    (
        {
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "navigate",
            "Sec-Fetch-Dest": "document",
        },
        200,
    ),
    ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 200),
    ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
    ({}, 200),
]


@pytest.mark.parametrize(("headers", "status"), FROM_ELSEWHERE)
async def test_a_page_of_another_site_may_not_even_measure_what_is_read(
    headers: dict[str, str], status: int
) -> None:
    async with client(Federation()) as http:
        assert (await http.get("/v1/conversations?q=x", headers=headers)).status_code == status
        assert (await http.get("/healthz", headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://127.0.0.1:8080"},
        {"Origin": "http://127.0.0.1:8080", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "https://ward.example.org", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_the_own_page_and_programs_may_ask(headers: dict[str, str]) -> None:
    async with client(Federation()) as http:
        reply = await http.post("/v1/ask", content=BODY, headers={**JSON, **headers})
    assert reply.status_code == 200


async def test_no_websocket_is_opened() -> None:
    async with served(Federation()) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"GET /v1/ask HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n")
        writer.write(b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")
        writer.write(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        reply = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    assert reply.startswith(b"HTTP/1.1 403 ")


async def test_the_application_starts_and_stops_as_a_server_asks_it_to() -> None:
    with desktop(Federation()) as desk:
        asked = ["lifespan.startup", "lifespan.shutdown"]
        told: list[str] = []

        async def receive() -> dict[str, Any]:
            return {"type": asked.pop(0)}

        async def send(message: Any) -> None:
            told.append(message["type"])

        await asyncio.wait_for(desk.app({"type": "lifespan", "asgi": {}}, receive, send), 5)
    assert told == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# -- bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "",
        "json",
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/ask"),
        ("POST", "/v1/retrieve"),
        ("POST", "/v1/conversations"),
        ("PATCH", "/v1/conversations/x"),
    ],
)
async def test_a_body_that_does_not_say_it_is_json_is_refused(
    kind: str, method: str, path: str
) -> None:
    federation = Federation()
    async with client(federation) as http:
        reply = await http.request(method, path, content=BODY, headers={"Content-Type": kind})
    assert (reply.status_code, federation.asked) == (400, [])
    assert "Content-Type: application/json" in error_of(reply)["hint"]


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_of_more_than_64_kb_is_refused(told: bool) -> None:
    federation = Federation()
    body = json.dumps({"question": "x" * 70_000}).encode()

    async def pieces() -> Any:
        for at in range(0, len(body), 10_000):
            yield body[at : at + 10_000]

    async with client(federation) as http:
        content = body if told else pieces()
        reply = await http.post("/v1/ask", content=content, headers=JSON)
    assert (reply.status_code, error_of(reply)["code"]) == (413, "usage")
    assert federation.asked == []


async def test_a_body_that_says_it_is_larger_is_not_waited_for() -> None:
    async with served(Federation()) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /v1/ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n")
        writer.write(b"Content-Type: application/json\r\n\r\n{")
        reply = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert reply.startswith(b"HTTP/1.1 413 ")


async def test_a_body_that_comes_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_TIMEOUT_S", 0.2)
    federation = Federation()
    async with served(federation) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /v1/ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n")
        writer.write(b"Content-Type: application/json\r\n\r\n{")
        reply = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert (await running.http.get("/v1/status")).status_code == 200
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert federation.asked == []


async def test_a_caller_that_goes_within_its_body_leaves_nothing_behind() -> None:
    federation = Federation()
    async with served(federation) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(b"POST /v1/ask HTTP/1.1\r\nHost: localhost\r\nContent-Length: 40\r\n")
        writer.write(b"Content-Type: application/json\r\n\r\n{")
        await writer.drain()
        writer.close()
        await asyncio.sleep(0.05)
        assert (await running.http.get("/v1/status")).status_code == 200
    assert federation.asked == []


# -- slow readers ---------------------------------------------------------------------------------


async def test_a_caller_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "SEND_TIMEOUT_S", 0.1)
    with desktop(Federation()) as desk:
        sent: list[str] = []

        request = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not request:
                await asyncio.Event().wait()
            return request.pop()

        async def send(message: Any) -> None:
            sent.append(message["type"])
            await asyncio.Event().wait()

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/status",
            "raw_path": b"/v1/status",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "asgi": {"version": "3.0", "spec_version": "2.3"},
        }
        await asyncio.wait_for(desk.app(scope, receive, send), 5)
    assert sent == ["http.response.start"]


async def test_a_stuck_reader_of_a_stream_is_let_go_and_the_run_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(middleware, "SEND_TIMEOUT_S", 0.3)
    source = ANSWER.sources[0]
    long = type(source)(1, source.silo, source.document, "", "x" * 900_000, 0, 900_000, 0.8)
    federation = Federation(events=[long] * 7)
    async with served(federation) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1024)
        body = json.dumps({"question": "?", "stream": True})
        sent = f"Host: localhost\r\nContent-Length: {len(body)}\r\nContent-Type: application/json"
        writer.write(f"POST /v1/ask HTTP/1.1\r\n{sent}\r\n\r\n{body}".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        stream_id = re.search(rb"x-stream-id: (\S+)", head)[1].decode()  # type: ignore[index]
        # It reads no further: the buffers are full long before seven times 900 kB.
        await until(lambda: federation.asked and not federation.running)
        await asyncio.sleep(0.5)
        again = await running.http.get(f"/v1/ask/{stream_id}")
        assert [event.name for event in parsed(again.text)] == ["source"] * 7 + ["final"]
        writer.close()
