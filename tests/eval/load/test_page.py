"""What is measured in the page: by a real browser, before a federation that answers at once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from siloquy.errors import SettingsError
from siloquy.eval.beir import EvalQuestion
from siloquy.eval.load import page
from siloquy.eval.load.report import report
from siloquy.gateway.api import conversations
from tests.browser import chromium
from tests.gateway.served import Federation, desktop
from tests.serving import in_thread


def test_every_figure_is_measured_and_the_long_conversation_is_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chromium()
    monkeypatch.setattr(page, "LOADS", 2)
    monkeypatch.setattr(page, "SCROLL_FRAMES", 20)
    federation = Federation()
    asked = [EvalQuestion("q1", "Which dose?"), EvalQuestion("q2", "How often?")]
    with desktop(federation, folder=tmp_path) as desk, in_thread(desk.app) as served:
        found = list(page.measure(served.url, tmp_path / conversations.FILE_NAME, asked))
        (long,) = [item for item in desk.conversations.all("local") if item.turns > 2]
    assert long.turns == page.LONG_TURNS
    counts = Counter(what for what, _, _ in found)
    assert (counts["usable"], counts["opened"], counts["frame"]) == (2, 1, 20)
    assert counts["first_stage"] == counts["answer"] == 2
    assert [item.query.text for item in federation.asked] == ["Which dose?", "How often?"]
    assert all(ms >= 0 for _, _, ms in found)
    by_question = {what: ms for what, question, ms in found if question == "q1"}
    assert by_question["first_stage"] <= by_question["answer"]


def test_late_frames_are_a_share() -> None:
    times = [16.0, 17.0, 40.0, 16.0]
    rows = [{"part": "page", "what": "frame", "id": "", "ms": ms} for ms in times]
    assert report(rows, [])["page_ms"]["frame"]["late_share"] == 0.25


def test_a_machine_without_a_browser_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SettingsError, match="no Chromium") as refused:
        page.browser_path()
    assert "apt-get" in refused.value.hint
