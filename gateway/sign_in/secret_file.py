"""The secret that a file holds, for who alone may read it."""

from __future__ import annotations

import stat
from pathlib import Path

from siloquy.errors import SettingsError

MOST_BYTES = 8192


def read_secret(key: str, path: Path) -> str:
    """The one line in ``path``; SettingsError when it is missing, empty, or open to others.

    key   the setting that names the file
    """
    try:
        mode = path.stat().st_mode
        secret = path.read_bytes()[:MOST_BYTES].decode("utf-8", "replace").strip()
    except OSError as error:
        raise SettingsError(f"{key} {path}: {error.strerror}", "check path and rights") from None
    if mode & 0o077:
        raise SettingsError(
            f"{key} {path} can be read by others (mode {stat.S_IMODE(mode):o})", f"chmod 600 {path}"
        )
    if not secret.isprintable() or not secret:
        raise SettingsError(f"{key} {path} holds no secret", "it is one line of text")
    return secret
