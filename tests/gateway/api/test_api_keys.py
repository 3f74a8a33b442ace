"""API keys: shown once, kept as hashes, known at once, worthless when revoked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from siloquy.errors import UsageError
from siloquy.gateway.api.api_keys import PREFIX, Attempts, KeyRecord, Keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "api_keys.sqlite"


@pytest.fixture
def keys(path: Path) -> Iterator[Keys]:
    ticks = itertools.count(1)
    opened = Keys(path, lambda: next(ticks))
    yield opened
    opened.close()


def test_a_key_is_32_random_bytes_and_names_its_holder(keys: Keys) -> None:
    made = [keys.add(name) for name in ("anna", "berta@ward")]
    assert all(re.fullmatch(r"sq_[A-Za-z0-9_-]{43}", key) for key in made)
    assert made[0] != made[1]
    assert [keys.requester(key) for key in made] == ["anna", "berta@ward"]


def test_no_file_holds_a_key(keys: Keys, path: Path) -> None:
    key = keys.add("anna")
    for file in path.parent.iterdir():
        data = file.read_bytes()
        assert key.encode() not in data
        assert key.removeprefix(PREFIX).encode() not in data
        assert file.stat().st_mode & 0o077 == 0


def test_a_wrong_key_is_nobodys(keys: Keys) -> None:
    key = keys.add("anna")
    wrong = [
        "",
        "sq_",
        key[:-1],
        key + "A",
        key.upper(),
        " " + key,
        key.removeprefix(PREFIX),
        PREFIX + "A" * 43,
        PREFIX + "é" * 43,
        "x" * 100_000,
        "sq_' OR 1=1 --",
    ]
    assert [keys.requester(item) for item in wrong] == [None] * len(wrong)


def test_a_revoked_key_is_worthless_and_stays_listed(keys: Keys) -> None:
    key, other = keys.add("anna"), keys.add("berta")
    keys.revoke("anna")
    assert (keys.requester(key), keys.requester(other)) == (None, "berta")
    assert keys.all() == (KeyRecord("anna", 1, 3), KeyRecord("berta", 2, None))


def test_a_name_has_one_key_at_a_time(keys: Keys) -> None:
    old = keys.add("anna")
    with pytest.raises(UsageError, match="has a key already"):
        keys.add("anna")
    keys.revoke("anna")
    new = keys.add("anna")
    assert (keys.requester(old), keys.requester(new)) == (None, "anna")
    assert [record.revoked is None for record in keys.all()] == [False, True]


@pytest.mark.parametrize(
    "name", ["", "local", "Local", "router", "a b", "x" * 65, "ann\x00a", "änna", "a/b", " anna"]
)
def test_a_name_that_ledgers_or_the_page_could_not_tell_apart_is_refused(
    keys: Keys, name: str
) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a key"):
        keys.add(name)
    assert keys.all() == ()


def test_nobody_is_revoked_who_has_no_key(keys: Keys) -> None:
    with pytest.raises(UsageError, match="has no key"):
        keys.revoke("anna")


def test_a_running_gateway_knows_what_another_process_changes(keys: Keys, path: Path) -> None:
    command = Keys(path, lambda: 9)
    key = command.add("anna")
    assert keys.requester(key) == "anna"
    command.revoke("anna")
    assert keys.requester(key) is None
    command.close()


def test_keys_survive_a_restart(keys: Keys, path: Path) -> None:
    key = keys.add("anna")
    again = Keys(path, lambda: 9)
    assert again.requester(key) == "anna"
    again.close()


def test_too_many_wrong_keys_have_to_wait_until_the_window_has_passed() -> None:
    now = [0.0]
    attempts = Attempts(3, 60, lambda: now[0])
    assert [attempts.failed() for _ in range(3)] == [None] * 3
    now[0] = 20.0
    assert attempts.failed() == 40
    now[0] = 61.0
    assert attempts.failed() is None
