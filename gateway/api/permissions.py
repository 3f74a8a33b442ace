"""Permissions: which role may call which route; what stands in no row is refused. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from siloquy.gateway.sign_in.people import ALL_ROLES, ROLES, Requester
from siloquy.types import SiteRole
from siloquy.web.refusals import Refusal

Needed = frozenset[SiteRole] | Literal["nothing", "a caller"]
ASKING: Needed = frozenset({"clinician", "evaluator"})
# Programs made for the OpenAI API always have a key; pages elsewhere must never pass for one.
KEYED_PATHS = ("/v1/chat/", "/v1/models")


@dataclass(frozen=True, slots=True)
class RoutePermission:
    """Routes at ``path`` and below it.

    needs   one of these roles; "a caller": a key or a session; "nothing": open to all
    """

    methods: tuple[str, ...]
    path: str
    needs: Needed


TABLE = (
    # They tell nothing of questions, answers and silos.
    RoutePermission(("GET",), "/", "nothing"),
    RoutePermission(("GET",), "/ui", "nothing"),
    RoutePermission(("GET",), "/healthz", "nothing"),
    RoutePermission(("GET",), "/readyz", "nothing"),
    RoutePermission(("GET",), "/metrics", "nothing"),
    RoutePermission(("GET",), "/openapi.json", "nothing"),
    # Ways to sign in.
    RoutePermission(("GET", "POST"), "/v1/session", "nothing"),
    RoutePermission(("POST",), "/v1/accounts/join", "nothing"),
    RoutePermission(("DELETE",), "/v1/session", "a caller"),
    RoutePermission(("PUT",), "/v1/session/password", "a caller"),
    # Who takes part.
    RoutePermission(("GET",), "/v1/status", "a caller"),
    RoutePermission(("GET",), "/v1/federation", "a caller"),
    RoutePermission(("GET",), "/v1/roster", "a caller"),
    # Questions and what is kept of them.
    RoutePermission(("POST", "GET", "DELETE"), "/v1/ask", ASKING),
    RoutePermission(("POST",), "/v1/retrieve", ASKING),
    RoutePermission(("GET", "POST", "PATCH", "PUT", "DELETE"), "/v1/conversations", ASKING),
    RoutePermission(("GET", "PUT"), "/v1/preferences", ASKING),
    RoutePermission(("POST",), "/v1/chat/completions", ASKING),
    RoutePermission(("GET",), "/v1/models", ASKING),
    RoutePermission(("POST",), "/v1/receipts/check", ALL_ROLES),
    # Whether it works well.
    RoutePermission(("POST",), "/v1/audit", frozenset({"evaluator"})),
    RoutePermission(("GET",), "/v1/feedback", frozenset({"evaluator"})),
    # Who may come in, and who did.
    RoutePermission(("GET", "POST", "PATCH", "DELETE"), "/v1/accounts", frozenset({"silo_admin"})),
    RoutePermission(("GET",), "/v1/sign-ins", frozenset({"auditor", "silo_admin"})),
)


def needed(method: str, path: str) -> Needed | None:
    """What a caller of this route needs; None where the table has no row for it."""
    fitting = [row for row in TABLE if method in row.methods and _below(path, row.path)]
    return max(fitting, key=lambda row: len(row.path)).needs if fitting else None


def is_known(path: str) -> bool:
    """Whether any method may be called there."""
    return any(_below(path, row.path) for row in TABLE)


def _below(path: str, folder: str) -> bool:
    return path == folder or (folder != "/" and path.startswith(f"{folder}/"))


def refused(needs: Needed, caller: Requester) -> Refusal | None:
    """Why a caller may not call what needs this; None when it may."""
    if isinstance(needs, str) or needs & caller.roles:
        return None
    names = " or ".join(role for role in ROLES if role in needs)
    return Refusal(
        403, "denied", f"this needs the role {names}", "ask who runs this gateway for the role"
    )


def without_row(path: str) -> Refusal:
    """What is told of a route that stands in no row."""
    if is_known(path):
        return Refusal(405, "usage", "Method Not Allowed")
    return Refusal(404, "usage", "Not Found")
