"""The cookies of sign-in: what they are called, where they go, and how they are read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie that no script can read.

    path     below it the browser sends it
    strict   never sent along when another site leads here; else links may
    """

    name: str
    path: str
    secure: bool
    strict: bool

    def given(self, value: str, most_s: int | None) -> str:
        """The header that gives it to a browser.

        most_s   how long it is kept; 0 takes it away, None keeps it until the browser is closed
        """
        parts = [f"{self.name}={value}", f"Path={self.path}"]
        if most_s is not None:
            parts.append(f"Max-Age={most_s}")
        parts += ["HttpOnly", f"SameSite={'Strict' if self.strict else 'Lax'}"]
        return "; ".join([*parts, "Secure"] if self.secure else parts)

    def read(self, headers: Sequence[str]) -> str:
        """Its value in the Cookie headers of a request; empty when there is none, or more."""
        pairs = [item.strip().partition("=") for header in headers for item in header.split(";")]
        values = [value for name, _, value in pairs if name == self.name]
        # A page beside this one has set a second: which of them is ours cannot be told.
        return values[0] if len(values) == 1 else ""

    def beside(self, name: str) -> Cookie:
        """Another one of the same page."""
        return replace(self, name=f"{self.name}-{name}")


def cookies(home: str, *, strict: bool) -> tuple[Cookie, Cookie]:
    """The session's cookie, and the one that binds a sign-in to its browser.

    home   the address of the page. Over https the names' prefixes make browsers refuse such cookies
           from elsewhere; over http, on this machine, the port keeps gateways apart

    >>> [cookie.name for cookie in cookies("https://rag.example", strict=True)]
    ['__Host-siloquy', '__Host-siloquy-begun']
    """
    parts = urlsplit(home)
    path = parts.path.rstrip("/") or "/"
    secure = parts.scheme == "https"
    if not secure:
        name = f"siloquy-{parts.port or 80}"
    else:
        name = "__Host-siloquy" if path == "/" else "__Secure-siloquy"
    # The provider leads back from another site: the cookie of a sign-in must come along.
    return Cookie(name, path, secure, strict), Cookie(f"{name}-begun", path, secure, strict=False)
