"""Conversations on disk: each its requester's, written before asked, gone when deleted."""

from __future__ import annotations

import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from siloquy.codec import to_json
from siloquy.errors import StorageFailed, UsageError
from siloquy.gateway.api import conversations as kept
from siloquy.gateway.api.conversations import Conversations, Reference, title_of
from siloquy.gateway.api.feedback import Judgement
from siloquy.types import Missing, Turn
from siloquy.web.refusals import NotFound, Occupied
from tests.gateway.served import ABSTAINED, ANSWER, NORTH, SOUTH

QUESTION = "Which dose?"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conversations.sqlite"


@pytest.fixture
def conversations(path: Path) -> Iterator[Conversations]:
    opened = reopened(path)
    yield opened
    opened.close()


def reopened(path: Path) -> Conversations:
    ticks = itertools.count(1)
    return Conversations(path, lambda: next(ticks))


def answered(conversations: Conversations, conversation: str, n: int) -> None:
    """``n`` more answered turns."""
    for at in range(n):
        begun = conversations.begin("anna", conversation, f"q{at}")
        answer = replace(ANSWER, question=f"understood {at}", answer=f"a{at}")
        conversations.finish(begun, answer)


def test_a_conversation_is_made_listed_and_renamed(conversations: Conversations) -> None:
    first = conversations.create("anna")
    second = conversations.create("anna", "Contrast")
    assert [item.id for item in conversations.all("anna")] == [second.id, first.id]
    assert conversations.one("anna", second.id) == second
    renamed = conversations.rename("anna", first.id, "Sepsis")
    assert (renamed.title, renamed.turns) == ("Sepsis", 0)
    assert conversations.one("anna", first.id) == renamed


def test_a_turn_keeps_question_answer_and_where_it_stands_but_no_passage(
    conversations: Conversations, path: Path
) -> None:
    made = conversations.create("anna")
    source = replace(ANSWER.sources[0], text="the text of a passage of a hospital")
    begun = conversations.begin("anna", made.id, "And which dose?")
    conversations.finish(begun, replace(ANSWER, sources=(source, *ANSWER.sources[1:])))
    (turn,) = conversations.turns("anna", made.id)
    assert (turn.n, turn.question, turn.understood) == (1, "And which dose?", "Which dose?")
    assert (turn.state, turn.answer, turn.abstained) == ("answered", ANSWER.answer, False)
    assert turn.sources == tuple(
        Reference(n, NORTH, f"dosing-{n}.txt", f"Dosing {n}", 0, 9) for n in (1, 2)
    )
    assert turn.missing == (Missing(SOUTH, "timeout", "it did not answer in 9 s"),)
    assert turn.query_id == "0" * 32
    assert b"text of a passage" not in b"".join(f.read_bytes() for f in path.parent.iterdir())


def test_references_of_before_sections_were_kept_are_read(
    conversations: Conversations, path: Path
) -> None:
    made = conversations.create("anna")
    source = replace(ANSWER.sources[0], section="Dose", dated="2024-03")
    begun = conversations.begin("anna", made.id, "Which dose?")
    conversations.finish(begun, replace(ANSWER, sources=(source, *ANSWER.sources[1:])))
    (turn,) = conversations.turns("anna", made.id)
    assert [(s.section, s.dated) for s in turn.sources] == [("Dose", "2024-03"), ("", "")]
    old = '[{"n": 1, "silo": "north", "document": "a", "title": "A", "start": 0, "end": 9}]'
    with closing(sqlite3.connect(path)) as rows:
        rows.execute("UPDATE turns SET sources = ?", (old,))
        rows.commit()
    (turn,) = conversations.turns("anna", made.id)
    assert turn.sources == (Reference(1, NORTH, "a", "A", 0, 9),)


def test_an_abstention_is_an_answer(conversations: Conversations) -> None:
    made = conversations.create("anna")
    conversations.finish(conversations.begin("anna", made.id, QUESTION), ABSTAINED)
    (turn,) = conversations.turns("anna", made.id)
    assert (turn.state, turn.abstained, turn.sources) == ("answered", True, ())


def test_the_first_question_is_the_title_where_none_was_given(
    conversations: Conversations,
) -> None:
    named, unnamed = conversations.create("anna", "Contrast"), conversations.create("anna")
    for made in (named, unnamed):
        conversations.finish(conversations.begin("anna", made.id, " Which \n dose? "), ANSWER)
        conversations.finish(conversations.begin("anna", made.id, "And for children?"), ANSWER)
    assert conversations.one("anna", named.id).title == "Contrast"
    assert conversations.one("anna", unnamed.id).title == "Which dose?"


def test_a_long_title_is_cut_at_a_word() -> None:
    assert title_of("word " * 60).endswith("word…")
    assert len(title_of("x" * 500)) <= kept.MOST_TITLE_CHARACTERS
    assert len(title_of("word " * 60)) <= kept.MOST_TITLE_CHARACTERS


def test_a_follow_up_gets_the_last_answered_turns_as_they_were_understood(
    conversations: Conversations,
) -> None:
    made = conversations.create("anna")
    assert conversations.begin("anna", made.id, QUESTION).before == ()
    conversations.fail(kept.PendingTurn(made.id, 1, ()))
    answered(conversations, made.id, 8)
    begun = conversations.begin("anna", made.id, "And for children?")
    assert begun.n == 10
    assert begun.before == tuple(Turn(f"understood {at}", f"a{at}") for at in range(2, 8))


def test_another_requester_sees_and_changes_nothing(conversations: Conversations) -> None:
    made = conversations.create("anna")
    answered(conversations, made.id, 1)
    assert conversations.all("berta") == ()
    for attempt in (
        lambda: conversations.one("berta", made.id),
        lambda: conversations.turns("berta", made.id),
        lambda: conversations.rename("berta", made.id, "mine"),
        lambda: conversations.delete("berta", made.id),
        lambda: conversations.begin("berta", made.id, QUESTION),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert conversations.one("anna", made.id).turns == 1


def test_one_question_at_a_time(conversations: Conversations) -> None:
    made, other = conversations.create("anna"), conversations.create("anna")
    begun = conversations.begin("anna", made.id, QUESTION)
    assert conversations.turns("anna", made.id)[0].state == "asking"
    with pytest.raises(Occupied):
        conversations.begin("anna", made.id, "Again?")
    with pytest.raises(Occupied):
        conversations.delete("anna", made.id)
    conversations.begin("anna", other.id, QUESTION)
    conversations.finish(begun, ANSWER)
    assert conversations.begin("anna", made.id, "Again?").n == 2


def test_of_many_that_begin_at_once_one_does(conversations: Conversations) -> None:
    made, outcomes = conversations.create("anna"), []

    def begin() -> None:
        try:
            outcomes.append(conversations.begin("anna", made.id, QUESTION).n)
        except Occupied:
            outcomes.append(0)

    threads = [threading.Thread(target=begin) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [0] * 15 + [1]


def test_a_question_that_failed_stands_without_an_answer(conversations: Conversations) -> None:
    made = conversations.create("anna")
    conversations.fail(conversations.begin("anna", made.id, QUESTION))
    assert [turn.state for turn in conversations.turns("anna", made.id)] == ["unanswered"]
    assert conversations.begin("anna", made.id, "Again?").before == ()


def test_an_answer_that_was_kept_is_not_undone_by_a_late_failure(
    conversations: Conversations,
) -> None:
    made = conversations.create("anna")
    begun = conversations.begin("anna", made.id, QUESTION)
    conversations.finish(begun, ANSWER)
    conversations.fail(begun)
    assert conversations.turns("anna", made.id)[0].state == "answered"


# -- a disk in trouble ----------------------------------------------------------------------------


class Disk(sqlite3.Connection):
    """A connection that does something of ours before each COMMIT."""

    before: Callable[[], None] = staticmethod(lambda: None)

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            self.before()
        return super().execute(sql, *parameters)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> type[Disk]:
    """What the connections are that are opened from now on."""

    class Own(Disk):
        pass

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Own))
    return Own


def full() -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


def test_a_question_that_the_disk_does_not_take_leaves_the_conversation_free(
    disk: type[Disk], conversations: Conversations
) -> None:
    made = conversations.create("anna")
    disk.before = staticmethod(full)
    with pytest.raises(StorageFailed, match="full"):
        conversations.begin("anna", made.id, QUESTION)
    assert conversations.turns("anna", made.id) == ()
    del disk.before
    begun = conversations.begin("anna", made.id, QUESTION)
    assert begun.n == 1
    conversations.finish(begun, ANSWER)
    assert [turn.state for turn in conversations.turns("anna", made.id)] == ["answered"]


def test_letting_a_question_go_does_not_wait_for_the_disk(
    disk: type[Disk], conversations: Conversations
) -> None:
    first, second = conversations.create("anna"), conversations.create("anna")
    begun = conversations.begin("anna", first.id, QUESTION)
    stuck, goes_on = threading.Event(), threading.Event()

    def stall() -> None:
        stuck.set()
        assert goes_on.wait(30)

    disk.before = staticmethod(stall)
    writing = threading.Thread(target=conversations.begin, args=("anna", second.id, QUESTION))
    writing.start()
    assert stuck.wait(30)
    failing = threading.Thread(target=conversations.fail, args=(begun,))
    failing.start()
    failing.join(10)
    let_go = not failing.is_alive()
    goes_on.set()
    writing.join()
    assert let_go
    assert conversations.begin("anna", first.id, "Again?").n == 2


# -- kept over a kill, a restart, not over a deletion ---------------------------------------------


_KILLED = """
import os, signal, sys
from pathlib import Path
from siloquy.gateway.api.conversations import Conversations
conversations = Conversations(Path(sys.argv[1]), lambda: 1)
made = conversations.create("anna")
conversations.begin("anna", made.id, "asked and never answered")
print(made.id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_late_answer_does_not_free_the_conversation_of_the_next_question(
    conversations: Conversations,
) -> None:
    made = conversations.create("anna")
    late = conversations.begin("anna", made.id, QUESTION)
    conversations.fail(late)
    conversations.begin("anna", made.id, "Again?")
    conversations.finish(late, ANSWER)
    conversations.fail(late)
    with pytest.raises(Occupied):
        conversations.begin("anna", made.id, "And again?")
    states = [turn.state for turn in conversations.turns("anna", made.id)]
    assert states == ["answered", "asking"]


def test_a_gateway_that_is_killed_leaves_the_question_and_goes_on(path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _KILLED, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    conversations, conversation = reopened(path), done.stdout.strip()
    (turn,) = conversations.turns("anna", conversation)
    assert (turn.question, turn.state) == ("asked and never answered", "unanswered")
    conversations.finish(conversations.begin("anna", conversation, "Again?"), ANSWER)
    states = [turn.state for turn in conversations.turns("anna", conversation)]
    assert states == ["unanswered", "answered"]
    conversations.close()


def test_conversations_survive_a_restart(conversations: Conversations, path: Path) -> None:
    made = conversations.create("anna", "Contrast")
    answered(conversations, made.id, 3)
    again = reopened(path)
    assert again.one("anna", made.id) == conversations.one("anna", made.id)
    assert again.turns("anna", made.id) == conversations.turns("anna", made.id)
    again.close()


def test_what_is_deleted_is_in_no_file_any_more(conversations: Conversations, path: Path) -> None:
    secret, stays = "apixaban " * 2000, conversations.create("anna", "stays")
    made = conversations.create("anna", "apixaban in the title")
    begun = conversations.begin("anna", made.id, secret)
    conversations.finish(begun, replace(ANSWER, answer=secret, question=secret))
    conversations.rename("anna", made.id, "another title")

    def found() -> bool:
        return any(b"apixaban" in file.read_bytes() for file in path.parent.iterdir())

    assert found()
    conversations.delete("anna", made.id)
    assert not found()
    with pytest.raises(NotFound):
        conversations.turns("anna", made.id)
    assert [item.id for item in conversations.all("anna")] == [stays.id]


def test_a_requester_has_so_many_conversations(
    conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_CONVERSATIONS", 2)
    made = [conversations.create("anna") for _ in range(2)]
    with pytest.raises(UsageError, match="at most 2"):
        conversations.create("anna")
    conversations.create("berta")
    conversations.delete("anna", made[0].id)
    conversations.create("anna")


def test_a_conversation_has_so_many_turns(
    conversations: Conversations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_TURNS", 2)
    made = conversations.create("anna")
    answered(conversations, made.id, 2)
    with pytest.raises(UsageError, match="at most 2"):
        conversations.begin("anna", made.id, QUESTION)


def test_long_and_many_conversations_are_read_at_once(
    conversations: Conversations, path: Path
) -> None:
    """Measured: 17 ms for 500 turns, 6 ms for a list of 1,000 conversations of 35 turns."""
    sources = json.dumps([to_json(Reference(n, NORTH, "a.md", "A", 0, 9)) for n in range(1, 5)])
    turn = (
        "INSERT INTO turns (conversation, n, asked, question, answer, sources) "
        "VALUES (?, ?, ?, ?, ?, ?)"
    )
    turns = [(n, n, QUESTION, "Give 2 g. " * 50, sources) for n in range(1, kept.MOST_TURNS + 1)]
    with closing(sqlite3.connect(path)) as rows:
        made = [(f"c{i}", "anna", "", i, i) for i in range(kept.MOST_CONVERSATIONS)]
        rows.executemany("INSERT INTO conversations VALUES (?, ?, ?, ?, ?)", made)
        for name, count in [("c0", kept.MOST_TURNS), *((item[0], 20) for item in made[1:])]:
            rows.executemany(turn, [(name, *values) for values in turns[:count]])
        rows.commit()
    start = time.perf_counter()
    assert len(conversations.turns("anna", "c0")) == kept.MOST_TURNS
    assert len(conversations.all("anna")) == kept.MOST_CONVERSATIONS
    assert time.perf_counter() - start < 1


def test_files_are_the_owners_alone(conversations: Conversations, path: Path) -> None:
    conversations.create("anna")
    assert [f.name for f in path.parent.iterdir() if f.stat().st_mode & 0o077] == []


# -- searching, judging, keeping ------------------------------------------------------------------


def test_conversations_are_found_by_title_question_and_answer_in_any_case(
    conversations: Conversations,
) -> None:
    titled = conversations.create("anna", "Straße und Übung")
    asked = conversations.create("anna")
    answered(conversations, asked.id, 1)
    other = conversations.create("ben", "Straße")

    def found(sought: str) -> list[str]:
        return [item.id for item in conversations.all("anna", sought)]

    assert found("STRASSE") == found("übung") == [titled.id]
    assert found("Q0") == found("a0") == [asked.id]
    assert found("%") == found("nothing of this") == []
    assert set(found("")) == {titled.id, asked.id}
    assert [item.id for item in conversations.all("ben", "straße")] == [other.id]


def test_an_answer_is_judged_and_the_last_word_counts(conversations: Conversations) -> None:
    made = conversations.create("anna")
    answered(conversations, made.id, 2)
    conversations.judge("anna", made.id, 2, Judgement(correct=True))
    said = Judgement(correct=False, harmless=False, comment="the dose is for adults")
    conversations.judge("anna", made.id, 2, said)
    first, second = conversations.turns("anna", made.id)
    assert (first.feedback, second.feedback) == (None, said)
    (judged,) = conversations.judged()
    assert (judged.question, judged.answer, judged.judgement) == ("understood 1", "a1", said)
    conversations.delete("anna", made.id)
    assert conversations.judged() == ()


def test_only_one_s_own_answers_can_be_judged(conversations: Conversations) -> None:
    made = conversations.create("anna")
    conversations.begin("anna", made.id, "not answered yet")
    for requester, n in (("ben", 1), ("anna", 1), ("anna", 2)):
        with pytest.raises(NotFound):
            conversations.judge(requester, made.id, n, Judgement(helpful=True))
    assert conversations.judged() == ()


def test_what_was_not_used_for_long_goes_and_what_is_being_asked_stays(path: Path) -> None:
    now = [0]
    opened = Conversations(path, lambda: now[0])
    old, asking, fresh = (opened.create("anna", title) for title in ("old", "asking", "fresh"))
    opened.begin("anna", asking.id, "q")
    now[0] = 10 * kept.DAY_MS
    answered(opened, fresh.id, 1)
    assert opened.expire(0) == 0
    assert opened.expire(11) == 0
    assert opened.expire(9) == 1
    assert {item.id for item in opened.all("anna")} == {asking.id, fresh.id}
    with pytest.raises(NotFound):
        opened.one("anna", old.id)
    opened.close()
