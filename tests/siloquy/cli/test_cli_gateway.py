"""A gateway on the command line: its API keys, and what its router has learnt."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from siloquy.cli import app
from siloquy.cli.gateway_router import read_questions
from siloquy.errors import SettingsError, Unreachable, UsageError
from siloquy.gateway.api.api_keys import FILE_NAME, Keys
from siloquy.process import now_ms
from siloquy.router.experience import ROUTER_FILE, Experience, Lesson
from siloquy.serve import local
from siloquy.types import NodeId


def run(*arguments: object) -> Result:
    """A command in this process."""
    return CliRunner().invoke(app, [str(item) for item in arguments])


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A gateway's folder."""
    folder = tmp_path / "ward"
    made = run("gateway", "init", "--folder", folder, "--name", "ward", "--organisation", "A")
    assert made.exit_code == 0
    return folder


def known(folder: Path, key: str) -> str | None:
    keys = Keys(folder / FILE_NAME, now_ms)
    try:
        return keys.requester(key)
    finally:
        keys.close()


def test_a_key_is_shown_once_alone_on_stdout(ward: Path) -> None:
    done = run("gateway", "key", "add", "anna", "--folder", ward)
    key = done.stdout.strip()
    assert (done.exit_code, known(ward, key)) == (0, "anna")
    assert "not shown again" in done.stderr
    for listed in (
        run("gateway", "key", "list", "--folder", ward),
        run("gateway", "key", "list", "--folder", ward, "--json"),
    ):
        assert "anna" in listed.stdout
        assert key not in listed.stdout


def test_a_key_is_revoked(ward: Path) -> None:
    added = json.loads(run("gateway", "key", "add", "anna", "-f", ward, "--json").stdout)
    assert known(ward, added["key"]) == added["name"] == "anna"
    assert run("gateway", "key", "revoke", "anna", "-f", ward).exit_code == 0
    assert known(ward, added["key"]) is None
    (record,) = json.loads(run("gateway", "key", "list", "-f", ward, "--json").stdout)["keys"]
    assert record["revoked"] >= record["created"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("add", "local"), 2), (("add", "a b"), 2), (("revoke", "nobody"), 2)],
)
def test_what_cannot_be_done_is_a_usage_error(
    ward: Path, arguments: tuple[str, str], code: int
) -> None:
    done = run("gateway", "key", *arguments, "--folder", ward)
    assert (done.exit_code, done.stdout) == (code, "")
    assert done.stderr.startswith("error ")


def test_keys_are_not_made_where_no_node_is(tmp_path: Path) -> None:
    done = run("gateway", "key", "add", "anna", "--folder", tmp_path)
    assert done.exit_code == SettingsError.exit_code
    assert list(tmp_path.iterdir()) == []


# -- sending a key --------------------------------------------------------------------------------


class Recorder:
    """A server that keeps the keys that it was sent."""

    def __init__(self) -> None:
        self.given: list[str | None] = []
        self.url = ""
        self.status = 200


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            recorder.given.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(recorder.status)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        recorder.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield recorder
        server.shutdown()
        thread.join()


def test_ask_sends_the_key_of_the_environment_or_of_a_file(
    recorder: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SILOQUY_API_KEY", raising=False)
    file = tmp_path / "key"
    file.write_text("sq_file\n")
    run("ask", "Dose?", "--gateway", recorder.url)
    monkeypatch.setenv("SILOQUY_API_KEY", "sq_environment")
    run("ask", "Dose?", "--gateway", recorder.url)
    run("ask", "Dose?", "--gateway", recorder.url, "--key-file", file)
    assert recorder.given == [None, "Bearer sq_environment", "Bearer sq_file"]


@pytest.mark.parametrize("key", ["sq_a\r\nX-Evil: 1", "sq_é", "sq_ a", "\x00"])
def test_a_key_that_would_be_another_header_is_refused(recorder: Recorder, key: str) -> None:
    with pytest.raises(UsageError) as refused:
        local.post(recorder.url, {}, 5, key)
    assert key not in refused.value.message
    assert recorder.given == []


def test_a_key_is_not_sent_in_clear_to_another_machine() -> None:
    with pytest.raises(UsageError, match="in clear"):
        local.post("http://gateway.example/v1/ask", {}, 5, "sq_x")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_key_follows_no_redirect(recorder: Recorder, status: int) -> None:
    recorder.status = status
    with pytest.raises(Unreachable, match=str(status)):
        local.post(recorder.url, {}, 5, "sq_x")
    assert recorder.given == ["Bearer sq_x"]


def test_a_key_file_that_cannot_be_read_is_an_error(recorder: Recorder, tmp_path: Path) -> None:
    for content in (None, b"\xff\xfe"):
        file = tmp_path / f"key-{content is None}"
        if content is not None:
            file.write_bytes(content)
        done = run("ask", "Dose?", "--gateway", recorder.url, "--key-file", file)
        assert done.exit_code in (2, 3)
        assert isinstance(done.exception, SystemExit)
    assert recorder.given == []


# -- the router -----------------------------------------------------------------------------------


@pytest.fixture
def learnt(ward: Path) -> Path:
    """A gateway's folder whose router has heard of three silos."""
    experience = Experience(ward / ROUTER_FILE)
    experience.checked({NodeId("north"): 25}, [], now_ms())
    for _ in range(2):
        experience.checked({}, [NodeId("east")], now_ms())
    experience.probed(NodeId("south"), b"hash", 0.5)
    experience.learn(Lesson(np.zeros(4, np.float32), ("x",), {NodeId("north"): 1}, True), now_ms())
    experience.close()
    return ward


def test_what_the_router_has_learnt_is_shown(learnt: Path) -> None:
    done = run("gateway", "router", "-f", learnt)
    assert done.exit_code == 0
    assert "1 remembered, 1 audits that count" in done.stdout
    assert "no promise yet: 1 of 200 audits" in done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.split()}
    assert "25" in rows["north"]
    assert "10 of 10" in rows["north"]
    assert "50 %" in rows["south"]
    assert "1 of 10" in rows["east"]
    assert "siloquy gateway pardon east" in done.stdout
    told = json.loads(run("gateway", "router", "-f", learnt, "--json").stdout)
    assert (told["audits"], told["needed"], told["promised"]["precise"]) == (1, 200, None)
    assert [silo["silo"] for silo in told["silos"]] == ["east", "north", "south"]


def test_what_is_promised_is_shown(learnt: Path) -> None:
    experience = Experience(learnt / ROUTER_FILE)
    lesson = Lesson(np.zeros(4, np.float32), ("x",), {NodeId("north"): 1}, True)
    for _ in range(200):
        experience.learn(lesson, now_ms())
    shown = run("gateway", "router", "-f", learnt).stdout
    assert "precise    95 % of the best passages, promised on average" in shown
    experience.mark("calibrated from", 150)
    experience.close()
    shown = run("gateway", "router", "-f", learnt).stdout
    assert "the promise broke: all silos are asked until 51 of 200 audits" in shown


def test_a_silo_is_pardoned_once(learnt: Path) -> None:
    done = run("gateway", "pardon", "east", "-f", learnt)
    assert (done.exit_code, "forgotten" in done.stdout) == (0, True)
    assert "east" not in run("gateway", "router", "-f", learnt).stdout
    again = run("gateway", "pardon", "east", "-f", learnt)
    assert (again.exit_code, again.stdout) == (UsageError.exit_code, "")


@pytest.mark.parametrize("arguments", [("router",), ("pardon", "east")])
def test_before_the_first_start_there_is_nothing_to_show(
    ward: Path, arguments: tuple[str, ...]
) -> None:
    done = run("gateway", *arguments, "-f", ward)
    assert done.exit_code == SettingsError.exit_code
    assert not (ward / ROUTER_FILE).exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("questions.txt", "Dose?\n\n  Drops? \nDose?\n"),
        ("queries.jsonl", '{"_id": "1", "text": "Dose?"}\n{"_id": "2", "text": "Drops?"}\n'),
    ],
)
def test_questions_are_read_once_each(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_questions(tmp_path / name) == ["Dose?", "Drops?"]


@pytest.mark.parametrize(
    ("name", "text"), [("a.txt", " \n"), ("a.jsonl", "Dose?"), ("b.jsonl", "7")]
)
def test_a_file_without_questions_is_a_usage_error(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError):
        read_questions(tmp_path / name)


def test_calibrating_asks_the_gateway_and_warns_of_too_few(
    learnt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Any]] = []

    def post(url: str, body: dict[str, Any], timeout_s: float, key: str = "") -> dict[str, Any]:
        asked.append((url, body))
        return {"missing": [], "held": {"north": len(asked) - 1}}

    monkeypatch.setattr(local, "post", post)
    (tmp_path / "q.txt").write_text("Dose?\nDrops?\n")
    done = run("gateway", "calibrate", tmp_path / "q.txt", "-f", learnt)
    assert done.exit_code == 0
    assert asked == [
        ("http://127.0.0.1:8080/v1/audit", {"question": text}) for text in ("Dose?", "Drops?")
    ]
    assert "2 questions are too few" in done.stderr
    assert "1 of 2 questions count" in done.stdout
    assert "no promise yet: 1 of 200 audits" in done.stdout


# -- accounts -------------------------------------------------------------------------------------


@pytest.fixture
def clinic(ward: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a gateway with accounts."""
    monkeypatch.setenv("SILOQUY_SIGN_IN_KIND", "local")
    monkeypatch.setenv("SILOQUY_SIGN_IN_URL", "https://rag.example/siloquy/")
    return ward


def test_a_link_is_shown_once_alone_on_stdout_and_leads_to_the_page(clinic: Path) -> None:
    done = run("gateway", "invite", "anna", "--role", "silo_admin", "--folder", clinic)
    place, _, token = done.stdout.strip().rpartition("/")
    assert (done.exit_code, place, len(token)) == (0, "https://rag.example/siloquy/#/join", 43)
    assert "for anna alone, once, until" in done.stderr
    listed = run("gateway", "accounts", "--folder", clinic, "--json")
    (account,) = json.loads(listed.stdout)["accounts"]
    assert (account["name"], account["roles"], account["waiting"]) == ("anna", ["silo_admin"], True)
    assert token not in listed.stdout
    assert "waiting" in run("gateway", "accounts", "--folder", clinic).stdout


def test_a_gateway_without_accounts_makes_no_links(ward: Path) -> None:
    done = run("gateway", "invite", "anna", "--role", "silo_admin", "--folder", ward)
    assert (done.exit_code, "sign_in.kind" in done.stderr) == (3, True)


def test_a_disabled_account_stays_listed(clinic: Path) -> None:
    run("gateway", "invite", "anna", "--role", "clinician", "--folder", clinic, "--json")
    assert run("gateway", "disable", "anna", "--folder", clinic).exit_code == 0
    assert "disabled" in run("gateway", "accounts", "--folder", clinic).stdout
    assert run("gateway", "disable", "nobody", "--folder", clinic, "--json").exit_code == 2


def test_a_key_and_an_account_never_have_one_name(clinic: Path) -> None:
    run("gateway", "key", "add", "robot", "--folder", clinic)
    run("gateway", "invite", "anna", "--role", "clinician", "--folder", clinic)
    assert run("gateway", "key", "add", "Anna", "--folder", clinic).exit_code == 2
    done = run("gateway", "invite", "Robot", "--role", "clinician", "--folder", clinic)
    assert done.exit_code == 2
