"""Signing in at a console: a link is good once and for a while, a session until it is left."""

from __future__ import annotations

import pytest

from siloquy.silo_node.console.sessions import (
    IDLE_S,
    LINK_S,
    MOST_S,
    MOST_SESSIONS,
    ConsoleSessions,
)


class Clock:
    """Seconds that move only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> ConsoleSessions:
    return ConsoleSessions(clock)


def entered(sessions: ConsoleSessions) -> str:
    secret = sessions.enter(sessions.invite())
    assert secret is not None
    return secret


def test_a_link_opens_one_session(sessions: ConsoleSessions) -> None:
    token = sessions.invite()
    secret = sessions.enter(token) or ""
    assert sessions.find(secret) is not None
    assert sessions.enter(token) is None


def test_tokens_secrets_and_csrf_are_long_and_different(sessions: ConsoleSessions) -> None:
    drawn = []
    for _ in range(3):
        token = sessions.invite()
        secret = sessions.enter(token) or ""
        session = sessions.find(secret)
        assert session is not None
        drawn += [token, secret, session.csrf]
    assert len(set(drawn)) == len(drawn)
    assert {len(item) for item in drawn} == {43}


@pytest.mark.parametrize("token", ["", "x", "\ud800", "a" * 43])
def test_another_token_opens_nothing_and_leaves_the_link(
    sessions: ConsoleSessions, token: str
) -> None:
    assert sessions.enter(token) is None
    good = sessions.invite()
    assert sessions.enter(token) is None
    assert sessions.enter(good)


def test_a_link_is_good_for_ten_minutes(sessions: ConsoleSessions, clock: Clock) -> None:
    token = sessions.invite()
    clock.now += LINK_S
    assert sessions.enter(token) is None


def test_a_new_link_makes_the_one_before_worthless(sessions: ConsoleSessions) -> None:
    old, new = sessions.invite(), sessions.invite()
    assert sessions.enter(old) is None
    assert sessions.enter(new)


def test_a_session_ends_when_it_is_left_alone_and_looking_does_not_keep_it(
    sessions: ConsoleSessions, clock: Clock
) -> None:
    secret = entered(sessions)
    clock.now += IDLE_S - 1
    assert sessions.find(secret)
    clock.now += IDLE_S - 1
    assert sessions.find(secret, quiet=True)
    clock.now += 1
    assert sessions.find(secret) is None


def test_no_session_lasts_longer_than_a_working_day(
    sessions: ConsoleSessions, clock: Clock
) -> None:
    secret = entered(sessions)
    until = clock.now + MOST_S
    while clock.now < until - IDLE_S / 2:
        assert sessions.find(secret)
        clock.now += IDLE_S / 2
    clock.now = until
    assert sessions.find(secret) is None


def test_who_leaves_is_out(sessions: ConsoleSessions) -> None:
    secret = entered(sessions)
    sessions.leave(secret)
    sessions.leave("nobody")
    assert sessions.find(secret) is None


def test_the_oldest_session_gives_way(sessions: ConsoleSessions, clock: Clock) -> None:
    secrets = []
    for _ in range(MOST_SESSIONS + 1):
        clock.now += 1
        secrets.append(entered(sessions))
    assert [bool(sessions.find(secret)) for secret in secrets] == [False] + [True] * MOST_SESSIONS


def test_no_secret_is_kept(sessions: ConsoleSessions) -> None:
    token = sessions.invite()
    assert token not in repr(vars(sessions))
    secret = sessions.enter(token)
    assert secret
    assert secret not in repr(vars(sessions))
