"""The command line: what it prints, and the exit code that a script can go by."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from siloquy import errors
from siloquy import settings as settings_files
from siloquy.aggregator.registry import Invitation, Registry
from siloquy.cli import EXIT_CODES, app, main
from siloquy.codec import encode, to_json
from siloquy.errors import BY_CODE, EXIT_ABSTAINED, EXIT_PARTIAL, SiloquyError
from siloquy.settings import EncoderSettings, SiloSettings
from siloquy.silo_node.release import day_of
from siloquy.text import topics
from siloquy.text.embed import CachedEmbedder, encoder_spec
from siloquy.trust import ledger, receipt
from siloquy.trust import roster as rosters
from siloquy.trust.identity import fingerprint, load
from siloquy.trust.roster import SignedRoster
from siloquy.types import LedgerHead, NodeId
from tests.silo_node.hospital import WordEmbedder, document, fill, open_store
from tests.siloquy.answered import QUESTION, answered
from tests.siloquy.federation import NOW, Federation, signed

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("silo", "hub", "gateway", "roster", "bench")


class Done:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """The one JSON object on stdout."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def run(*arguments: object, stdin: str | None = None) -> Done:
    """A command in this process; what it does not catch is raised here."""
    result = CliRunner().invoke(app, [str(item) for item in arguments], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


def refused(code: int, *arguments: object, stdin: str | None = None) -> dict[str, str]:
    """The error of a command: the same exit code in words and in JSON, where the error is alone."""
    plain = run(*arguments, stdin=stdin)
    assert (plain.code, plain.err.startswith("error ")) == (code, True)
    done = run(*arguments, "--json", stdin=stdin)
    assert done.code == code
    assert list(done.json) == ["error"]
    error: dict[str, str] = done.json["error"]
    assert set(error) == {"code", "message", "hint"}
    assert BY_CODE[error["code"]].exit_code == code
    assert plain.err.split() == f"error {error['message']} {error['hint']}".split()
    return error


# -- help and weight ------------------------------------------------------------------------------


def test_help_lists_the_commands_and_exit_codes() -> None:
    done = run("--help")
    assert done.code == 0
    assert all(name in done.out for name in ("demo", "ask", "verify", "doctor", *FOLDERS))


def test_the_listed_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(number) for number in re.findall(r"\d+", EXIT_CODES)}
    raised = {kind.exit_code for kind in BY_CODE.values() if kind is not SiloquyError}
    assert listed == raised | {0, EXIT_ABSTAINED, EXIT_PARTIAL}


def test_the_version_is_printed() -> None:
    assert run("--version").out.startswith("siloquy 0.")


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_group_has_help(folder: str) -> None:
    assert run(folder, "--help").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["silo", "nothing"],
        ["ask"],
        ["ask", "q", "--nothing"],
        ["ask", "q", "--k", "x"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_parsed_is_a_usage_error(arguments: list[str]) -> None:
    assert run(*arguments).code == 2


@pytest.mark.parametrize(
    "arguments",
    [["ask"], ["ask", "q", "--k", "x"], ["silo", "init"], ["nothing"], ["ask", "q", "--nothing"]],
    ids=" ".join,
)
def test_what_cannot_be_parsed_is_told_in_json_too(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["siloquy", *arguments, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code, printed.err) == (2, "")
    assert json.loads(printed.out)["error"]["code"] == "usage"


def test_the_exit_code_of_a_command_is_that_of_the_process(
    gateway: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.answer(abstained=True)
    for options in ([], ["--json"]):
        call = ["siloquy", "ask", "Dose?", "--gateway", gateway.url, *options]
        monkeypatch.setattr(sys, "argv", call)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == EXIT_ABSTAINED
    assert capsys.readouterr().err == ""


def test_nobody_who_could_confirm_is_no_traceback(
    hub: Path, silo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "roster.json"
    cards = ("--hub", hub / "card", "--founder", silo / "card", "--threshold", 1)
    run("roster", "found", "--federation", "vale", *cards, "--out", out)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    call = ["siloquy", "roster", "sign", str(out), "-f", str(silo), "--json"]
    monkeypatch.setattr(sys, "argv", call)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code not in (0, None)


HEAVY = ("torch", "faiss", "fastapi", "sentence_transformers", "transformers", "scipy")


@pytest.mark.parametrize(
    ("program", "without"),
    [
        ("import sys; from siloquy.cli import app; app(['--help'], standalone_mode=False)", HEAVY),
        ("import siloquy.silo_node.service", ("torch", "faiss", "fastapi", "transformers")),
        ("import siloquy.serve.hub", ("torch", "faiss", "fastapi", "transformers")),
    ],
    ids=["siloquy --help", "the silo's service", "the hub's process"],
)
def test_heavy_libraries_are_loaded_when_they_are_needed(
    program: str, without: tuple[str, ...]
) -> None:
    told = (
        f"{program}\nimport sys; print([n for n in {without} if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stderr.strip().splitlines()[-1] == "[]"


# -- asking ---------------------------------------------------------------------------------------

ANSWER: dict[str, Any] = {
    "question": "Which dose?",
    "answer": "Give 2 g. [1]",
    "abstained": False,
    "sentences": [{"text": "Give [bold] 2 g.", "citations": [1], "support": 1.0}],
    "sources": [
        {
            "n": n,
            "silo": "north",
            "document": "a.md",
            "title": title,
            "text": "Give [bold] 2 g.",
            "start": 0,
            "end": 9,
            "score": 0.912,
            "section": section,
            "dated": dated,
        }
        for n, title, section, dated in (
            (1, "Meningitis [1]", "First hour [2]", "2024-03-04"),
            (2, "", "", ""),
        )
    ],
    "plan": {
        "mode": "open",
        "asked": ["north"],
        "skipped": ["south"],
        "reasons": {"north": "likely to hold [2]", "south": "unlikely"},
        "coverage": None,
        "intent": "precise",
        "audit": False,
        "notes": [],
    },
    "missing": [],
    "withheld": {"north": 2},
    "released": {"north": 2},
    "flagged": {"north": "claimed too much"},
    "rounds": [{"kind": "part", "question": "Which [dose]?", "query_id": "0" * 32}],
    "conflicts": [
        {
            "kind": "dose",
            "sides": [{"n": 1, "start": 5, "end": 16}],
            "detail": "2 g in [1], 4 g in [2]",
        }
    ],
    "dropped": 1,
    "notes": ["1 sentence was [dropped]"],
    "mode": "open",
    "model": "extractive",
    "extractive": True,
    "timings_ms": {"total": 12.3},
    "receipt": {},
    "suggestions": ["When is [it] stopped?"],
}
MISSING = [{"silo": "south", "reason": "timeout", "detail": "did not [answer]"}]


class Served:
    """A gateway's address that answers all posts with one status and body."""

    def __init__(self) -> None:
        self.status, self.body = 200, json.dumps(ANSWER).encode()
        self.asked: list[dict[str, Any]] = []
        self.url = ""

    def answer(self, status: int = 200, **other: Any) -> None:
        self.status, self.body = status, json.dumps(ANSWER | other).encode()

    def refuse(self, status: int, body: object) -> None:
        self.status, self.body = status, json.dumps(body).encode()


@pytest.fixture
def gateway() -> Iterator[Served]:
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            served.asked.append({"path": self.path, **json.loads(data)})
            self.send_response(served.status)
            self.end_headers()
            self.wfile.write(served.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def test_an_answer_is_shown_with_its_sources_and_what_left_whom(gateway: Served) -> None:
    done = run("ask", QUESTION, "--gateway", gateway.url)
    assert (done.code, done.err) == (0, "")
    for shown in (
        "Give [bold] 2 g. [1]",
        "north  Meningitis [1], First hour [2], 2024-03-04  (a.md 0-9",
        "north  a.md  (a.md 0-9",
        "asked     north",
        "skipped   south",
        "released  north 2",
        "withheld  north 2",
        "flagged   north claimed too much",
        "score 0.91",
        "dose  2 g in [1], 4 g in [2]",
        "[1] north: [bold] 2 g.",
        "in parts  Which [dose]?",
        "ask next  When is [it] stopped?",
        "note      1 sentence was [dropped]",
        "in 12 ms by extractive",
    ):
        assert shown in done.out


def test_an_answer_in_json_is_the_gateways_own(gateway: Served) -> None:
    assert run("ask", QUESTION, "--gateway", gateway.url, "--json").json == ANSWER


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ({}, "coverage  no promise yet"),
        ({"coverage": 0.95}, "coverage  95 % of the best passages, promised on average"),
        ({"audit": True}, "audit     all silos were asked to check what the router promises"),
    ],
)
def test_what_is_promised_is_told(gateway: Served, plan: dict[str, Any], told: str) -> None:
    gateway.answer(plan=ANSWER["plan"] | plan)
    assert told in run("ask", "Dose?", "--gateway", gateway.url).out


def test_where_all_silos_are_asked_no_promise_is_missed(gateway: Served) -> None:
    gateway.answer(plan=ANSWER["plan"] | {"skipped": []})
    assert "coverage" not in run("ask", "Dose?", "--gateway", gateway.url).out


def test_why_each_silo_was_asked_or_not_is_told_on_request(gateway: Served) -> None:
    assert "likely" not in run("ask", "Dose?", "--gateway", gateway.url).out
    done = run("ask", "Dose?", "--gateway", gateway.url, "--why")
    assert "asked     north: likely to hold [2]\nskipped   south: unlikely\n" in done.out


def test_options_reach_the_gateway_and_others_are_left_to_it(gateway: Served) -> None:
    run("ask", "Dose?", "--gateway", gateway.url)
    options = ("--route", "all", "--k", 3, "--mode", "sealed", "--intent", "fast")
    run("ask", "Dose?", "--gateway", gateway.url, *options)
    assert gateway.asked == [
        {"path": "/v1/ask", "question": "Dose?"},
        {
            "path": "/v1/ask",
            "question": "Dose?",
            "mode": "sealed",
            "route": "all",
            "intent": "fast",
            "k": 3,
        },
    ]


def test_the_gateway_can_be_named_in_the_environment(
    gateway: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SILOQUY_GATEWAY", gateway.url)
    assert run("ask", "Dose?").code == 0


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["in words", "in json"])
def test_abstained_and_partial_answers_have_their_exit_codes(
    gateway: Served, options: list[str]
) -> None:
    ask = ["ask", "Dose?", "--gateway", gateway.url, *options]
    gateway.answer(missing=MISSING)
    assert run(*ask).code == EXIT_PARTIAL == 8
    gateway.answer(abstained=True, sentences=[], missing=MISSING, answer="Not [found].")
    assert run(*ask).code == EXIT_ABSTAINED == 7


def test_who_is_missing_is_shown(gateway: Served) -> None:
    nothing: Any = {"sentences": [], "sources": [], "conflicts": [], "released": {}}
    gateway.answer(abstained=True, missing=MISSING, **nothing)
    done = run("ask", "Dose?", "--gateway", gateway.url)
    assert "missing   south: timeout. did not [answer]" in done.out
    assert "released  nothing" in done.out


@pytest.mark.parametrize("kind", [k for k in BY_CODE.values() if k is not SiloquyError])
def test_a_gateways_refusal_is_raised_as_it_was_there(
    gateway: Served, kind: type[SiloquyError]
) -> None:
    told = {"code": kind.code, "message": "what happened", "hint": "what to do"}
    gateway.refuse(400, {"error": told})
    assert refused(kind.exit_code, "ask", "Dose?", "--gateway", gateway.url) == told


@pytest.mark.parametrize("body", [{}, [], "no", {"error": "no"}, {"error": {"code": "denied"}}])
def test_a_refusal_that_is_none_of_a_gateways_is_unreachable(gateway: Served, body: object) -> None:
    gateway.refuse(500, body)
    error = refused(4, "ask", "Dose?", "--gateway", gateway.url)
    assert error["message"] == "the gateway answered 500"


def test_a_reply_that_is_no_json_is_unreachable(gateway: Served) -> None:
    gateway.body = b"<html>"
    refused(4, "ask", "Dose?", "--gateway", gateway.url)


def test_a_gateway_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = refused(4, "ask", "Dose?", "--gateway", f"http://127.0.0.1:{port}")
    assert (error["code"], f"127.0.0.1:{port}" in error["message"]) == ("unreachable", True)
    assert "siloquy gateway serve" in error["hint"]


def test_an_address_that_is_none_is_told() -> None:
    for address in ("gateway", "gateway:8080", "ftp://gateway", ""):
        assert refused(2, "ask", "Dose?", "--gateway", address)["code"] == "usage"


def test_an_address_of_something_else_is_unreachable() -> None:
    with no_http() as url:
        done = run("ask", "Dose?", "--gateway", url, "--json")
    assert (done.code, done.json["error"]["code"]) == (4, "unreachable")


@contextlib.contextmanager
def no_http() -> Iterator[str]:
    """The address of a server that answers everybody with a TLS alert."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = listener.accept()
                with line:
                    line.recv(4096)
                    line.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_json_that_is_no_answer_is_not_shown_as_one(gateway: Served) -> None:
    gateway.refuse(200, {"status": "ok"})
    refused(4, "ask", "Dose?", "--gateway", gateway.url)


# -- verify and doctor ----------------------------------------------------------------------------


@pytest.fixture
def answer(federation: Federation) -> dict[str, Any]:
    """An answer with its receipt, as a file holds it."""
    head = LedgerHead(NodeId("north"), 1, b"", 1)
    told = answered()
    heads = [federation.north.sign(ledger.HEAD_CONTEXT, head)]
    made = receipt.make(federation.ward, federation.roster, told, heads, NOW)
    plain: dict[str, Any] = json.loads(json.dumps(to_json(told)))
    return plain | {"receipt": json.loads(json.dumps(to_json(made)))}


def test_a_receipt_that_holds_is_told_line_by_line(
    tmp_path: Path, federation: Federation, answer: dict[str, Any]
) -> None:
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(answer))
    done = run("verify", file, "--question", QUESTION)
    assert (done.code, done.out.count("holds"), "compare" in done.out) == (0, 9, True)
    found = run("verify", file, "--federation", federation.roster.fingerprint, "--json").json
    assert found["holds"] is True
    assert {item["holds"] for item in found["checks"]} == {True}


def test_a_receipt_is_read_from_stdin(answer: dict[str, Any]) -> None:
    assert run("verify", "-", stdin=json.dumps(answer)).code == 0


def test_a_receipt_that_does_not_hold_is_an_integrity_error(
    tmp_path: Path, answer: dict[str, Any]
) -> None:
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(answer | {"answer": "Give 4 g. [1]"}))
    plain = run("verify", file)
    assert (plain.code, "fails" in plain.out) == (6, True)
    done = run("verify", file, "--json")
    assert (done.code, done.json["error"]["code"]) == (6, "integrity")
    assert done.json["error"]["message"] == "the receipt does not hold: answer"


@pytest.mark.parametrize("text", ["", "no json", "[]", "7", "{}", '{"receipt": {}}', "\ud800"])
def test_a_file_that_is_no_receipt_is_a_usage_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "answer.json"
    file.write_bytes(text.encode(errors="surrogatepass"))
    assert refused(2, "verify", file)["code"] == "usage"


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    refused(2, "verify", tmp_path / "nothing.json")
    refused(2, "verify", tmp_path)


def test_a_damaged_receipt_file_is_an_integrity_error(
    tmp_path: Path, answer: dict[str, Any]
) -> None:
    del answer["receipt"]["body"]["model"]
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(answer))
    refused(6, "verify", file)


def test_the_doctor_looks_at_this_machine() -> None:
    found = run("doctor", "--json").json["findings"]
    assert {item["state"] for item in found} <= {"ok", "skipped", "warning"}
    assert run("doctor").code == 0


def test_the_doctor_needs_folders_that_are_there(tmp_path: Path) -> None:
    refused(2, "doctor", "--folder", tmp_path / "nothing")


# -- a silo's own commands ------------------------------------------------------------------------


@pytest.fixture
def silo(tmp_path: Path) -> Path:
    """A fresh silo's folder."""
    folder = tmp_path / "east"
    made = run("silo", "init", "--name", "east", "--organisation", "East", "-f", folder)
    assert made.code == 0
    return folder


def test_a_silo_is_made_with_keys_and_settings_that_let_nothing_out(silo: Path) -> None:
    settings = settings_files.read(SiloSettings, silo)
    assert settings.policy.gateways == ()
    assert (load(silo).node, load(silo).card.role) == ("east", "silo")
    assert silo.stat().st_mode & 0o077 == 0


def test_making_a_silo_tells_its_fingerprint(tmp_path: Path) -> None:
    init = ("silo", "init", "--name", "west", "--organisation", "[West]", "--gateway", "ward")
    done = run(*init, "-f", tmp_path / "west", "--json")
    own = fingerprint(load(tmp_path / "west").card.signing_key)
    assert done.json["fingerprint"] == own
    assert settings_files.read(SiloSettings, tmp_path / "west").policy.gateways == ("ward",)


def test_an_identity_is_never_overwritten(silo: Path) -> None:
    before = load(silo).card
    refused(3, "silo", "init", "--name", "east", "--organisation", "East", "-f", silo)
    assert load(silo).card == before


@pytest.mark.parametrize("name", ["", "East Clinic", "-east", "x" * 64])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "new"
    refused(3, "silo", "init", f"--name={name}", "--organisation", "East", "-f", folder)
    assert not folder.exists()


def test_a_folder_is_ingested_once(silo: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "dose.txt").write_text("Give ceftriaxone 2 g.")
    (notes / "scan.xyz").write_bytes(b"\0")
    cache = CachedEmbedder(
        WordEmbedder(encoder_spec(EncoderSettings())), silo / "embeddings.sqlite"
    )
    cache.encode(["Give ceftriaxone 2 g.", *topics.names()])
    first = run("silo", "ingest", notes, "-f", silo)
    assert (first.code, "added 1" in first.out, "quarantined 1" in first.out) == (0, True, True)
    assert "scan.xyz: unsupported type" in first.out
    assert "a new noised profile was made" in first.out
    again = run("silo", "ingest", notes, "-f", silo, "--json").json
    assert (again["added"], again["unchanged"], again["passages"]) == (0, 1, 0)
    assert (again["embedded"], again["profile"]) == (0, "kept")
    status = run("silo", "status", "-f", silo, "--json").json
    assert (status["documents"], status["passages"], list(status["quarantined"])) == (
        1,
        1,
        ["scan.xyz"],
    )
    assert (status["rostered"], status["ledger_entries"]) == ("not enrolled", 0)
    assert status["privacy"] == "epsilon 8, delta 1e-05 for one document"
    assert "none: nothing leaves" in run("silo", "status", "-f", silo).out


def test_a_source_that_is_not_there_is_a_usage_error(silo: Path, tmp_path: Path) -> None:
    refused(2, "silo", "ingest", tmp_path / "nothing", "-f", silo)


def test_documents_are_deleted_by_id(silo: Path) -> None:
    store = open_store(silo / "silo.sqlite")
    fill(store, [document("a.md", "Give fluids."), document("b.md", "Rest.")])
    done = run("silo", "delete", "a.md", "zzz.md", "-f", silo, "--json")
    assert (done.code, done.json) == (2, {"deleted": {"a.md": 1}, "unknown": ["zzz.md"]})
    plain = run("silo", "delete", "b.md", "-f", silo)
    assert plain.out == "b.md: deleted with 1 passages\n"
    assert "the noised profile stays as it is until a new one is due" in plain.err
    assert store.counts().documents == 0
    store.close()


# -- what a silo tells ----------------------------------------------------------------------------


@pytest.fixture
def told(silo: Path) -> Path:
    """A silo with 200 documents on heart failure and asthma, and the topics' vectors."""
    embedder = WordEmbedder(encoder_spec(EncoderSettings()))
    with contextlib.closing(open_store(silo / "silo.sqlite")) as store:
        names = ("heart failure", "asthma")
        fill(store, [document(f"Smith {n}", names[n % 2]) for n in range(200)], embedder)
        topics.prepare(store.connection, embedder)
    return silo


def configured(silo: Path, **profile: object) -> Path:
    """The silo with other settings of its profile."""
    settings = settings_files.read(SiloSettings, silo)
    changed = replace(settings.profile, **profile)  # type: ignore[arg-type]
    settings_files.write(replace(settings, profile=changed), silo)
    return silo


def test_before_the_first_profile_it_is_said_that_there_is_none_and_looking_costs_nothing(
    told: Path,
) -> None:
    shown = run("silo", "profile", "-f", told, "--json").json
    assert (shown["made"], shown["spent"], shown["topics"], shown["size_told"]) == (None, 0, [], 1)
    assert "not yet" in run("silo", "profile", "-f", told).out


def test_a_noised_profile_is_shown_with_its_cost_and_the_topics_that_noise_may_have_made(
    told: Path,
) -> None:
    shown = run("silo", "profile", "--renew", "-f", told, "--json").json
    assert (shown["noised"], shown["epsilon"], shown["delta"]) == (True, 8.0, 1e-5)
    assert (shown["unit"], shown["spent"], shown["yearly"]) == ("document", 8.0, 24.0)
    assert shown["made"] > NOW
    assert (shown["size"], abs(shown["size_told"] - 200) < 80) == (200, True)
    assert len(shown["topics"]) == 10
    assert {item["topic"] for item in shown["topics"][:2]} == {"heart failure", "asthma"}
    assert [item["sure"] for item in shown["topics"]][:2] == [True, True]
    assert not shown["topics"][-1]["sure"]
    plain = run("silo", "profile", "-f", told).out
    assert "epsilon 8 of 24 a year" in plain
    assert "200 are here" in plain
    assert "may be noise alone" in plain
    assert "No text, no word, no name and no document id" in plain
    assert "Smith" not in plain
    assert run("silo", "profile", "-f", told, "--json").json == shown


def test_a_profile_without_noise_says_so_and_that_it_counts_words(told: Path) -> None:
    configured(told, epsilon=math.inf)
    shown = run("silo", "profile", "-f", told, "--json").json
    assert (shown["noised"], shown["epsilon"], shown["made"]) == (False, None, None)
    assert (shown["size_told"], shown["spent"]) == (200, 0)
    assert all(item["sure"] for item in shown["topics"][:2])
    plain = run("silo", "profile", "-f", told).out
    assert "none: the profile is told as it is" in plain
    assert "how often common words occur" in plain
    assert "no word" not in plain
    assert refused(2, "silo", "profile", "--renew", "-f", told)["code"] == "usage"


def test_a_new_profile_that_the_year_has_no_room_for_is_refused(told: Path) -> None:
    configured(told, yearly=8.0)
    first = run("silo", "profile", "--renew", "-f", told, "--json").json
    error = refused(5, "silo", "profile", "--renew", "-f", told)
    assert error["code"] == "budget"
    assert "the most is 8" in error["message"]
    assert run("silo", "profile", "-f", told, "--json").json == first


def test_an_empty_silo_has_nothing_to_describe(silo: Path) -> None:
    assert refused(2, "silo", "profile", "--renew", "-f", silo)["code"] == "usage"
    assert run("silo", "profile", "-f", silo, "--json").json["size_told"] == 0


def test_a_ledger_that_holds_is_told(silo: Path) -> None:
    released(silo)
    assert run("silo", "verify", "-f", silo, "--json").json == {
        "ledger_entries": 2,
        "heads_compared": 0,
        "store": "ok",
    }
    assert "ledger holds, 2 entries" in run("silo", "verify", "-f", silo).out


def released(silo: Path) -> None:
    """Two releases in the silo's ledger."""
    store = open_store(silo / "silo.sqlite")
    fill(store, [document("a.md", "Give fluids.")])
    entry = ledger.LedgerEntry(
        "release", NOW, bytes(16), NodeId("ward"), "dr 7", "treatment", ("a.md:0-12",), {}, 1
    )
    for _ in range(2):
        ledger.append(store.connection, entry)
    spent = (entry.gateway, day_of(entry.created), 2)
    store.connection.execute("INSERT INTO spent VALUES (?, ?, ?)", spent)
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE ledger SET body = x'00' WHERE number = 1",
        "DELETE FROM ledger WHERE number = 1",
        "UPDATE documents SET text = 'Give nothing.'",
    ],
)
def test_a_changed_ledger_or_document_is_an_integrity_error(silo: Path, damage: str) -> None:
    released(silo)
    store = open_store(silo / "silo.sqlite")
    store.connection.execute(damage)
    store.close()
    assert refused(6, "silo", "verify", "-f", silo)["code"] == "integrity"


def test_a_receipts_head_that_the_ledger_does_not_hold_is_an_integrity_error(
    silo: Path, tmp_path: Path, federation: Federation, answer: dict[str, Any]
) -> None:
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(answer))
    released(silo)
    assert (
        run("silo", "verify", "-f", silo, "--receipt", file, "--json").json["heads_compared"] == 0
    )
    identity = load(silo)
    head = identity.sign(ledger.HEAD_CONTEXT, LedgerHead(identity.node, 2, bytes(32), NOW))
    answer["receipt"]["body"]["ledger_heads"] = to_json([head])
    file.write_text(json.dumps(answer))
    refused(6, "silo", "verify", "-f", silo, "--receipt", file)


@pytest.mark.parametrize("token", ["", "hello", "siloquy1.", "siloquy1.aaaa"])
def test_an_invitation_that_is_none_is_an_integrity_error(silo: Path, token: str) -> None:
    assert refused(6, "silo", "enroll", token, "-f", silo)["code"] == "integrity"


def test_an_invitation_for_another_name_is_an_integrity_error(silo: Path) -> None:
    token = Invitation("wss://h:1", NodeId("west"), "silo", b"", b"", b"", "").token()
    assert "silo west" in refused(6, "silo", "enroll", token, "-f", silo)["message"]


# -- folders that hold nothing --------------------------------------------------------------------

NEED_A_NODE = [
    ["silo", "status"],
    ["silo", "verify"],
    ["silo", "enroll", "siloquy1.aaaa"],
    ["gateway", "enroll", "siloquy1.aaaa"],
    ["hub", "status"],
    ["hub", "invite", "east"],
    ["hub", "draft", "--out", "next.json"],
]


@pytest.mark.parametrize("command", NEED_A_NODE, ids=" ".join)
def test_a_folder_that_holds_no_node_is_a_settings_error(
    tmp_path: Path, command: list[str]
) -> None:
    folder = tmp_path / "nothing"
    assert refused(3, *command, "-f", folder)["code"] == "settings"
    assert not folder.exists()


@pytest.mark.parametrize("role", ["silo", "gateway", "hub"])
def test_nothing_is_served_from_a_folder_that_holds_no_node(tmp_path: Path, role: str) -> None:
    done = run(role, "serve", "-f", tmp_path / "nothing")
    assert (done.code, done.err.startswith("error ")) == (3, True)


def test_nothing_is_deleted_from_a_folder_that_holds_no_node(tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    assert run("silo", "delete", "a.md", "-f", folder).code == 3
    assert not folder.exists()


def test_an_unknown_key_in_the_settings_is_a_settings_error(silo: Path) -> None:
    file = silo / settings_files.FILE_NAME
    file.write_text(file.read_text() + "\n[polcy]\n")
    error = refused(3, "silo", "status", "-f", silo)
    assert ("polcy" in error["message"], "policy" in error["hint"]) == (True, True)


# -- hub and roster -------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A hub's folder with the roster of a federation of one silo."""
    folder = tmp_path / "hub"
    made = run("hub", "init", "--organisation", "Operator", "-f", folder)
    assert made.code == 0
    return folder


def founded(hub: Path, silo: Path, out: Path) -> Path:
    """Version 1 of a roster, signed by the silo, adopted by the hub."""
    cards = ("--hub", hub / "card", "--founder", silo / "card", "--threshold", 1)
    done = run("roster", "found", "--federation", "vale", *cards, "--out", out, "--json")
    assert done.json == {"file": str(out), "federation": rosters.load(out).fingerprint}
    signed = run("roster", "sign", out, "-f", silo, "--yes", "--json")
    assert signed.json == {"signatures": 1, "needed": 1}
    assert run("hub", "adopt", out, "-f", hub, "--json").json["version"] == 1
    return out


def test_a_federation_is_founded_signed_adopted_and_shown(
    hub: Path, silo: Path, tmp_path: Path
) -> None:
    roster = founded(hub, silo, tmp_path / "roster.json")
    own = rosters.load(roster).fingerprint
    verified = run("roster", "verify", roster, "--federation", own, "--json")
    assert verified.json == {"version": 1, "federation": own}
    shown = run("roster", "show", hub).out
    assert "vale  version 1" in shown
    assert fingerprint(load(silo).card.signing_key) in shown
    members = run("roster", "show", roster, "--json").json["roster"]["members"]
    assert [member["node"] for member in members] == ["hub", "east"]


def test_invitations_are_printed_for_people_and_programs(
    hub: Path, silo: Path, tmp_path: Path
) -> None:
    founded(hub, silo, tmp_path / "roster.json")
    done = run("hub", "invite", "west", "-f", hub)
    parsed = Invitation.parse(done.out)
    assert (parsed.node, parsed.role, parsed.federation in done.err) == ("west", "silo", True)
    token = run("hub", "invite", "ward", "--role", "gateway", "-f", hub, "--json").json[
        "invitation"
    ]
    assert Invitation.parse(token).role == "gateway"


def test_who_waits_is_shown_and_drafted_into_the_next_roster(
    hub: Path, silo: Path, tmp_path: Path, federation: Federation
) -> None:
    founded(hub, silo, tmp_path / "roster.json")
    registry = Registry(hub / "hub.sqlite")
    secret = registry.invite(federation.south.node, "silo", NOW)
    registry.enrol(secret, federation.south.card, NOW)
    registry.close()
    status = run("hub", "status", "-f", hub, "--json").json
    assert [item["node"] for item in status["pending"]] == ["south"]
    assert "waiting for the founders: silo south" in run("hub", "status", "-f", hub).out
    following = tmp_path / "next.json"
    drafted = run("hub", "draft", "-f", hub, "--out", following, "--json").json
    assert (drafted["version"], drafted["members"]) == (2, 3)
    refused(6, "hub", "adopt", following, "-f", hub)
    run("roster", "sign", following, "-f", silo, "--yes")
    assert run("hub", "adopt", following, "-f", hub).code == 0
    assert run("hub", "draft", "-f", hub, "--out", following, "--without", "south").code == 0
    assert [card.node for card in rosters.load(following).roster.members] == ["hub", "east"]


def test_a_founder_who_did_not_compare_does_not_sign(hub: Path, silo: Path, tmp_path: Path) -> None:
    out = tmp_path / "roster.json"
    cards = ("--hub", hub / "card", "--founder", silo / "card", "--threshold", 1)
    run("roster", "found", "--federation", "vale", *cards, "--out", out)
    done = run("roster", "sign", out, "-f", silo, stdin="n\n")
    assert (done.code, "joins  silo east" in done.err) == (5, True)
    assert rosters.load(out).signatures == {}


def test_who_is_no_founder_cannot_sign(hub: Path, silo: Path, tmp_path: Path) -> None:
    roster = founded(hub, silo, tmp_path / "roster.json")
    done = run("roster", "sign", roster, "-f", hub, "--yes", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "denied")


def test_a_roster_of_another_federation_is_an_integrity_error(
    tmp_path: Path, federation: Federation
) -> None:
    file = tmp_path / "roster.json"
    rosters.save(federation.roster, file)
    error = refused(6, "roster", "verify", file, "--federation", "AAAA-AAAA-AAAA-AAAA-AAAA")
    assert "do not enrol" in error["hint"]


def test_a_roster_with_too_few_signatures_is_an_integrity_error(
    tmp_path: Path, federation: Federation
) -> None:
    file = tmp_path / "roster.json"
    rosters.save(signed(federation.roster.roster, (federation.north,)), file)
    refused(6, "roster", "verify", file)
    rosters.save(SignedRoster(federation.roster.roster, {}), file)
    refused(6, "roster", "verify", file)


@pytest.mark.parametrize("text", ["", "{}", "no json", '{"roster": 1, "signatures": 2}'])
def test_a_file_that_is_no_roster_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "roster.json"
    file.write_text(text)
    done = run("roster", "show", file, "--json")
    assert done.code in (3, 6)
    assert list(done.json) == ["error"]


def test_a_roster_that_is_not_there_is_a_settings_error(tmp_path: Path) -> None:
    for command in ("show", "verify"):
        refused(3, "roster", command, tmp_path / "roster.json")


def test_a_card_that_is_not_there_is_a_settings_error(hub: Path, tmp_path: Path) -> None:
    cards = ("--hub", hub / "card", "--founder", tmp_path / "nothing", "--threshold", 1)
    refused(3, "roster", "found", "--federation", "vale", *cards, "--out", tmp_path / "r.json")


def test_a_changed_card_is_an_integrity_error(hub: Path, silo: Path, tmp_path: Path) -> None:
    card = load(silo).card
    (tmp_path / "card").write_bytes(encode(card).replace(b"East", b"Vest"))
    cards = ("--hub", hub / "card", "--founder", tmp_path / "card", "--threshold", 1)
    refused(6, "roster", "found", "--federation", "vale", *cards, "--out", tmp_path / "r.json")


def test_a_folder_that_cannot_be_written_to_is_told(hub: Path, silo: Path, tmp_path: Path) -> None:
    cards = ("--hub", hub / "card", "--founder", silo / "card", "--threshold", 1)
    out = tmp_path / "nowhere" / "roster.json"
    refused(3, "roster", "found", "--federation", "vale", *cards, "--out", out)


def test_errors_are_told_without_markup_of_their_own(tmp_path: Path) -> None:
    assert "[bold]" in run("verify", tmp_path / "[bold].json").err


def test_every_error_kind_has_a_code_that_scripts_can_tell() -> None:
    codes: Mapping[str, int] = {code: kind.exit_code for code, kind in BY_CODE.items()}
    assert 0 not in codes.values()
    assert {errors.EXIT_ABSTAINED, errors.EXIT_PARTIAL}.isdisjoint(codes.values())
