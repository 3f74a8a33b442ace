"""Where a model's endpoint may be, and how its key must be kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from siloquy.errors import SettingsError
from siloquy.generator.model.endpoint_access import address, read_key
from tests.generator.fake_endpoint import KEY, key_file


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = key_file(tmp_path, mode=mode)
    with pytest.raises(SettingsError, match="can be read by others") as caught:
        read_key(path)
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("text", ["", "\n", "two words", "a\nb", "schlüssel", "x" * 9000])
def test_a_file_without_one_key_is_refused_unquoted(tmp_path: Path, text: str) -> None:
    path = key_file(tmp_path, text)
    with pytest.raises(SettingsError, match="holds no key") as caught:
        read_key(path)
    assert not text.strip() or text.strip() not in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.5:8000/v1",
        "http://192.168.1.9/v1",
        "http://model.hospital.example/v1",
        "http://localhost.evil.example/v1",
        "http://127.0.0.1.evil.example/v1",
        "http://0.0.0.0:8000/v1",
        "http://[fe80::1]/v1",
    ],
)
def test_plain_text_leaves_this_machine_for_nobody(url: str) -> None:
    with pytest.raises(SettingsError, match="plain http"):
        address(url)


@pytest.mark.parametrize(
    "url", ["", "v1", "ftp://127.0.0.1/v1", "https://", "https://[::1", "http://127.0.0.1:x/v1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="no address"):
        address(url)


@pytest.mark.parametrize(
    "url",
    [f"https://u:{KEY}@h/v1", f"https://{KEY}@h/v1", f"https://h/v1?key={KEY}", "https://h/#a"],
)
def test_an_address_with_more_than_a_place_is_refused_unquoted(url: str) -> None:
    with pytest.raises(SettingsError, match="query or fragment") as caught:
        address(url)
    assert KEY not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("https://m.example/v1", "https://m.example/v1/chat/completions"),
        ("https://m.example", "https://m.example/chat/completions"),
        ("http://[::1]:8000/v1/", "http://[::1]:8000/v1/chat/completions"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1/chat/completions"),
    ],
)
def test_completions_are_asked_for_below_the_base(url: str, whole: str) -> None:
    assert address(url) == whole
