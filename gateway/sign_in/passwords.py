"""Passwords: which are taken, and their Argon2id hashes. At most two are worked on at a time."""

from __future__ import annotations

import asyncio
import secrets
import unicodedata
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from siloquy.errors import UsageError

LEAST_CHARACTERS = 12
MOST_BYTES = 1024
LEAST_DIFFERENT = 5
# What must be left of a password once the account's name is taken out of it.
LEAST_BESIDE_NAME = 8
# Each takes 64 MiB and four threads for about 0.1 s.
AT_ONCE = 2


def normal(password: str) -> str:
    """The password as it is hashed: the same letters typed on another keyboard are the same."""
    return unicodedata.normalize("NFKC", password)


def check(password: str, name: str) -> str:
    """The password as it is hashed; UsageError when it is too easily guessed, or too long."""
    text = normal(password)
    if len(text) < LEAST_CHARACTERS:
        raise UsageError(
            f"the password has fewer than {LEAST_CHARACTERS} characters", "a few words do well"
        )
    if len(text.encode()) > MOST_BYTES:
        raise UsageError(f"the password has more than {MOST_BYTES} bytes", "shorten it")
    if len(set(text)) < LEAST_DIFFERENT:
        raise UsageError(
            f"the password has fewer than {LEAST_DIFFERENT} different characters",
            "a few words do well",
        )
    if len(text.casefold().replace(name.casefold(), "")) < LEAST_BESIDE_NAME:
        raise UsageError("the password is little more than the account's name", "choose another")
    return text


class Passwords:
    """Makes and compares hashes, beside the event loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords")
        self._dummy = self._hasher.hash(secrets.token_urlsafe(32))

    async def hashed(self, password: str, name: str) -> str:
        """The hash of a new password; UsageError as ``check``."""
        text = check(password, name)
        return await self._aside(text)

    async def matches(self, kept: str | None, password: str) -> bool:
        """Whether the password is that of the hash; takes as long without a hash."""
        loop = asyncio.get_running_loop()
        held = await loop.run_in_executor(
            self._threads, self._verified, kept or self._dummy, password
        )
        return held and kept is not None

    async def _aside(self, text: str) -> str:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._hasher.hash, text)

    def _verified(self, kept: str, password: str) -> bool:
        text = normal(password)
        # A longer one can be nobody's, and would only take time.
        if len(text.encode()) > MOST_BYTES:
            text = ""
        try:
            return self._hasher.verify(kept, text)
        except (VerificationError, InvalidHashError):
            return False

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown()
