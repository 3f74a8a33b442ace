"""Work beside a question's way: in order, on one thread, and what fails in it fails nothing."""

from __future__ import annotations

import threading

import pytest

from siloquy.errors import Busy
from siloquy.gateway.background import Background


def test_work_is_done_in_order() -> None:
    done: list[int] = []
    background = Background("learning", 100)
    assert all(background.soon(lambda n=n: done.append(n)) for n in range(50))  # type: ignore[misc]
    assert background.done(5.0)
    assert done == list(range(50))


def test_what_fails_is_logged_by_its_kind_alone_and_the_rest_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise ValueError("about vancomycin")

    done: list[int] = []
    background = Background("learning", 9)
    background.soon(fail)
    background.soon(lambda: done.append(1))
    assert background.done(5.0)
    assert done == [1]
    assert "learning failed: ValueError" in caplog.text
    assert "vancomycin" not in caplog.text


def test_what_comes_while_too_much_waits_is_dropped() -> None:
    background, held, begun = Background("learning", 2), threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        held.wait(5.0)

    assert background.soon(wait)
    assert begun.wait(5.0)
    assert [background.soon(int) for _ in range(3)] == [True, True, False]
    assert not background.done(0.01)
    held.set()
    assert background.done(5.0)
    assert background.soon(int)


def test_without_work_there_is_no_thread() -> None:
    background = Background("idle-here", 2)
    assert background.done(0.0)
    background.soon(int)
    assert background.done(5.0)
    for thread in threading.enumerate():
        if thread.name == "idle-here":
            thread.join(5.0)
    assert "idle-here" not in [thread.name for thread in threading.enumerate()]


async def test_work_can_be_waited_for_and_its_error_is_raised() -> None:
    background, done = Background("learning", 2), list[int]()

    def fail() -> None:
        raise KeyError

    await background.run(lambda: done.append(1))
    assert done == [1]
    with pytest.raises(KeyError):
        await background.run(fail)
    with pytest.raises(Busy, match="too much waits for learning"):
        await Background("learning", 0).run(int)
