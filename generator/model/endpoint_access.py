"""Where a model's endpoint is, and the key to it: refused unless both can be kept to themselves."""

from __future__ import annotations

import ipaddress
import re
import stat
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from siloquy.errors import SettingsError

MOST_FILE_BYTES = 8192
_KEY = re.compile(r"[!-~]{1,4096}")


def address(url: str) -> str:
    """Where completions are asked for; SettingsError unless ``url`` is https or this machine's.

    >>> address("http://127.0.0.1:11434/v1/")
    'http://127.0.0.1:11434/v1/chat/completions'
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise SettingsError(
            "model.url is no address of an endpoint",
            "use https://HOST/v1 or http://127.0.0.1:PORT/v1",
        )
    _check_bare(parts)
    if parts.scheme == "http" and not is_loopback(host):
        raise SettingsError(
            f"model.url is plain http to {host}: questions and passages would cross the network",
            "use https, or http to this machine alone (127.0.0.1, ::1, localhost)",
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/chat/completions"


def _check_bare(parts: SplitResult) -> None:
    """SettingsError when the address holds more than a place: keys do not belong in settings."""
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SettingsError(
            "model.url holds a name, password, query or fragment",
            "keep the address alone, and the key in model.key_file",
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine, by name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_key(path: Path | None) -> str:
    """The key in ``path``, empty for none; read for each answer, so that it can be renewed.

    SettingsError when it is missing, empty, or can be read by others.
    """
    if path is None:
        return ""
    try:
        _check_private(path, path.stat().st_mode)
        key = path.read_bytes()[:MOST_FILE_BYTES].decode("ascii", "replace").strip()
    except OSError as error:
        raise SettingsError(f"model.key_file {path}: {error.strerror}") from None
    if not _KEY.fullmatch(key):
        raise SettingsError(
            f"model.key_file {path} holds no key",
            "it is one line of printable characters without spaces",
        )
    return key


def _check_private(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise SettingsError(f"model.key_file {path} is no file")
    if mode & 0o077:
        raise SettingsError(
            f"model.key_file {path} can be read by others (mode {stat.S_IMODE(mode):o})",
            f"chmod 600 {path}",
        )
