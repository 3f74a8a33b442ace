"""Odd questions over HTTP get an answer, an abstention or a clear error, never a stack trace."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.processes import VANCOMYCIN, Federation, error_in

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]


# -- odd questions --------------------------------------------------------------------------------

ODD = {
    "Japanese": "成人における静脈内バンコマイシンの負荷投与量はどれくらいですか",
    "a long Japanese run": "成人における静脈内バンコマイシンの負荷投与量はどれくらいですか" * 5,
    "Arabic": "ما هي جرعة التحميل من الفانكومايسين؟",
    "emoji": "💊❓👩‍⚕️",
    "control characters": "What is the\x00 loading\x1b[31m dose\x07 of\x7f vancomycin\r\n\x08?",
    "only punctuation": "?!...",
    "only a zero-width space": "\u200b\u2060\ufeff",
    "one long word": "vancomycin" * 300,
    "4,000 characters": ("vancomycin dose " * 250)[:4000],
    "many words": " ".join(f"word{n}" for n in range(400)),
    "query language": '"vancomycin" OR NEAR(title text) * ^ - : AND NOT ( ; DROP TABLE words; --',
    "markup": "<script>alert(1)</script> [red]vancomycin[/] {{7*7}} %s %n ${jndi:x}",
    "combining marks": "v" + "\u0301" * 500 + "ancomycin",
    "right to left": "\u202evancomycin dose\u202c",
}


@pytest.mark.parametrize("question", ODD.values(), ids=ODD)
def test_an_odd_question_gets_an_answer_or_an_abstention(fed: Federation, question: str) -> None:
    answer = fed.ask(question, route="all", k=3)
    assert answer["missing"] == []
    assert answer["abstained"] == (answer["sources"] == [])


@pytest.mark.parametrize(
    "question",
    ["", "   \n\t ", "\x00\x01\x1f", "a " * 25_000, "x" * 50_000],
    ids=["empty", "blank", "only control characters", "50 kB of words", "50 kB word"],
)
def test_a_question_that_cannot_be_asked_is_refused_with_what_to_do(
    fed: Federation, question: str
) -> None:
    for path in ("/v1/ask", "/v1/retrieve"):
        reply = fed.http.post(path, json={"question": question})
        error = error_in(reply, 400)
        assert error["code"] == "usage"
        assert error["hint"]
        assert "a a" not in reply.text
        assert "xx" not in reply.text


def test_half_a_surrogate_pair_is_cleaned_or_error_in(fed: Federation) -> None:
    """JSON can spell it, no encoder, message or log takes it."""
    body = b'{"question": "vancomycin \\ud800 loading dose"}'
    reply = fed.http.post("/v1/ask", content=body, headers={"Content-Type": "application/json"})
    if reply.status_code == 200:
        assert "25 mg/kg" in reply.json()["answer"]
    else:
        assert error_in(reply, 400)["code"] == "usage"


MALFORMED = {
    "no body": b"",
    "no JSON": b"{",
    "not UTF-8": b'{"question": "\xff\xfe"}',
    "half a pair in the purpose": b'{"question": "vancomycin", "purpose": "\\udfff"}',
    "a list": b"[]",
    "a text": b'"vancomycin"',
    "null": b"null",
    "deep": b"[" * 60_000,
    "no question": b'{"purpose": "treatment"}',
    "a number for a question": b'{"question": 5}',
    "a list for a question": b'{"question": ["vancomycin"]}',
    "unknown field": b'{"question": "vancomycin", "questions": "x"}',
    "k of 0": b'{"question": "vancomycin", "k": 0}',
    "k of 101": b'{"question": "vancomycin", "k": 101}',
    "k of text": b'{"question": "vancomycin", "k": "many"}',
    "k that is no number": b'{"question": "vancomycin", "k": NaN}',
    "k beyond all bounds": b'{"question": "vancomycin", "k": 1' + b"0" * 5000 + b"}",
    "unknown route": b'{"question": "vancomycin", "route": "best"}',
    "unknown mode": b'{"question": "vancomycin", "mode": "closed"}',
    "sealed documents": b'{"question": "vancomycin", "mode": "sealed", "unit": "document"}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_refused_with_a_clear_error(fed: Federation, body: bytes) -> None:
    for path in ("/v1/ask", "/v1/retrieve"):
        reply = fed.http.post(path, content=body, headers={"Content-Type": "application/json"})
        error = error_in(reply, 400, 422)
        assert error["code"] == "usage"
        assert "vancomycin" not in reply.text


def test_another_site_cannot_ask_through_a_clinician_s_browser(fed: Federation) -> None:
    """A form or a script elsewhere may send text/plain without asking first; it must not count."""
    body = json.dumps({"question": VANCOMYCIN})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        reply = fed.http.post("/v1/ask", content=body, headers={"Content-Type": kind})
        error_in(reply, 400, 403, 415, 422)
    foreign = {"Host": "evil.example", "Content-Type": "application/json"}
    assert fed.http.post("/v1/ask", content=body, headers=foreign).status_code == 400


def test_an_unknown_page_and_method_are_refused_as_json(fed: Federation) -> None:
    error_in(fed.http.get("/v1/answers"), 404)
    error_in(fed.http.get("/v1/ask"), 405)


def test_a_purpose_that_no_silo_accepts_releases_nothing(fed: Federation) -> None:
    answer = fed.ask(purpose="marketing", route="all")
    assert {item["silo"] for item in answer["missing"]} == set(fed.layout.silos)
    assert {item["reason"] for item in answer["missing"]} == {"refused"}
    assert (answer["released"], answer["abstained"]) == ({}, True)
    assert "marketing" not in json.dumps(answer["missing"])


def test_no_odd_question_left_a_stack_trace_or_its_words_in_a_log(fed: Federation) -> None:
    for node in fed.layout.nodes:
        log = fed.log(node)
        assert "Traceback" not in log
        assert [word for word in ("vancomycin", "jndi", "marketing", "DROP") if word in log] == []
