"""``siloquy silo pause | resume | console``: what they print and do, and what is on record."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from siloquy.os_user import at_this_machine
from tests.siloquy.cli.test_cli import refused, run

ME = at_this_machine().name


@pytest.fixture
def node(tmp_path: Path) -> Path:
    folder = tmp_path / "north"
    assert run("silo", "init", "--name", "north", "--organisation", "N", "-f", folder).code == 0
    return folder


def test_a_silo_is_paused_and_resumed(node: Path) -> None:
    assert run("silo", "status", "-f", node, "--json").json["paused"] is None
    paused = run("silo", "pause", "-f", node, "--reason", "an audit", "--json").json["paused"]
    assert (paused["by"], paused["reason"]) == (ME, "an audit")
    assert run("silo", "status", "-f", node, "--json").json["paused"] == paused
    ended = run("silo", "resume", "-f", node, "--json").json
    assert ended == {"paused": None, "ended": paused}
    assert run("silo", "status", "-f", node, "--json").json["paused"] is None


def test_people_are_told_since_when_by_whom_and_why(node: Path) -> None:
    said = run("silo", "pause", "-f", node, "--reason", "an [bold] audit")
    assert said.out.startswith("paused since 2")
    assert f"by {ME}: an [bold] audit" in said.out
    assert f"by {ME}: an [bold] audit" in run("silo", "status", "-f", node).out
    assert "answers again" in run("silo", "resume", "-f", node).out


def test_both_may_be_said_twice(node: Path) -> None:
    first = run("silo", "pause", "-f", node, "--json").json
    assert run("silo", "pause", "-f", node, "--reason", "later", "--json").json == first
    assert run("silo", "resume", "-f", node).code == 0
    again = run("silo", "resume", "-f", node)
    assert (again.code, "was not paused" in again.out) == (0, True)


@pytest.mark.parametrize("turn", ["pause", "resume"])
def test_a_folder_without_a_node_is_neither_paused_nor_made(tmp_path: Path, turn: str) -> None:
    refused(3, "silo", turn, "-f", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_the_console_s_link_is_in_no_command_line_of_a_browser(
    node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, opened, started = "http://127.0.0.1:1/#/open/once", list[str](), threading.Event()
    pages: list[tuple[str, int]] = []

    def browser(address: str) -> None:
        page = Path(urlsplit(address).path)
        opened.append(address)
        pages.append((page.read_text(), page.stat().st_mode & 0o077))
        started.set()

    async def console(folder: Path, port: int, show: Callable[[str], None]) -> None:
        show(link)
        assert started.wait(5)

    monkeypatch.setattr("webbrowser.open", browser)
    monkeypatch.setattr("siloquy.silo_node.console.app.serve_console", console)
    assert link in run("silo", "console", "-f", node, "--open").out
    (address,), ((text, others),) = opened, pages
    assert "once" not in address
    assert (f"url={link}" in text, others) == (True, 0)
    assert not Path(urlsplit(address).path).exists()
