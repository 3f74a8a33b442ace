"""Which requests have to prove that the own page sent them, and how: by their session's token."""

from __future__ import annotations

import hmac

from siloquy.web.middleware import API_PATHS, SAFE_METHODS, Headers, Scope

CSRF_HEADER = "x-csrf-token"


def is_of_the_page(scope: Scope) -> bool:
    """Whether a file of the page is asked for, which needs no session."""
    return not scope["path"].startswith(API_PATHS)


def proves_its_page(scope: Scope, headers: Headers, csrf: str) -> bool:
    """Whether a request changes nothing, or carries its session's token ``csrf`` exactly once."""
    if scope["method"] in SAFE_METHODS:
        return True
    given = headers.get(CSRF_HEADER, [])
    return len(given) == 1 and hmac.compare_digest(given[0].encode(), csrf.encode())
