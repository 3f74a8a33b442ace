"""Which role may call which route: one table; what stands in no row is refused. Pure."""

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
class Row:
    """Routes at ``path`` and below it.

    needs   one of these roles; "a caller": a key or a session; "nothing": open to all
    """

    methods: tuple[str, ...]
    path: str
    needs: Needed


TABLE = (
    # They tell nothing of questions, answers and silos.
    Row(("GET",), "/", "nothing"),
    Row(("GET",), "/ui", "nothing"),
    Row(("GET",), "/healthz", "nothing"),
    Row(("GET",), "/readyz", "nothing"),
    Row(("GET",), "/metrics", "nothing"),
    Row(("GET",), "/openapi.json", "nothing"),
    # Ways to sign in.
    Row(("GET", "POST"), "/v1/session", "nothing"),
    Row(("POST",), "/v1/accounts/join", "nothing"),
    Row(("DELETE",), "/v1/session", "a caller"),
    Row(("PUT",), "/v1/session/password", "a caller"),
    # Who takes part.
    Row(("GET",), "/v1/status", "a caller"),
    Row(("GET",), "/v1/federation", "a caller"),
    Row(("GET",), "/v1/roster", "a caller"),
    # Questions and what is kept of them.
    Row(("POST", "GET", "DELETE"), "/v1/ask", ASKING),
    Row(("POST",), "/v1/retrieve", ASKING),
    Row(("GET", "POST", "PATCH", "PUT", "DELETE"), "/v1/conversations", ASKING),
    Row(("GET", "PUT"), "/v1/preferences", ASKING),
    Row(("POST",), "/v1/chat/completions", ASKING),
    Row(("GET",), "/v1/models", ASKING),
    Row(("POST",), "/v1/receipts/check", ALL_ROLES),
    # Whether it works well.
    Row(("POST",), "/v1/audit", frozenset({"evaluator"})),
    Row(("GET",), "/v1/feedback", frozenset({"evaluator"})),
    # Who may come in, and who did.
    Row(("GET", "POST", "PATCH", "DELETE"), "/v1/accounts", frozenset({"silo_admin"})),
    Row(("GET",), "/v1/sign-ins", frozenset({"auditor", "silo_admin"})),
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
