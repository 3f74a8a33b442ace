"""What the routes of sign-in take and give, as the OpenAPI document states it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from siloquy.gateway.api.feedback import JudgedAnswer
from siloquy.gateway.sign_in.people import MOST_SHOWN_CHARACTERS
from siloquy.gateway.sign_in.sign_in_log import SignInAttempt
from siloquy.types import SiteRole
from siloquy.web.bodies import Strict

Name = Annotated[str, Field(min_length=1, max_length=64, examples=["anna"])]
# What is too long to be a password is refused with the words that say so.
Password = Annotated[str, Field(max_length=4096)]
Token = Annotated[str, Field(max_length=128, description="What stands behind #/join/ in a link.")]


class SignInBody(Strict):
    """Body of ``POST /v1/session``."""

    name: Name
    password: Password


class JoinBody(Strict):
    """Body of ``POST /v1/accounts/join``."""

    token: Token
    shown: Annotated[str, Field(max_length=MOST_SHOWN_CHARACTERS, examples=["Anna Ito"])]
    password: Password


class PasswordBody(Strict):
    """Body of ``PUT /v1/session/password``."""

    old: Password
    new: Password


class InviteBody(Strict):
    """Body of ``POST /v1/accounts``."""

    name: Name
    roles: list[SiteRole] = Field(min_length=1, max_length=10)


class AccountChange(Strict):
    """Body of ``PATCH /v1/accounts/{name}``; what is left out stays."""

    roles: list[SiteRole] | None = Field(default=None, min_length=1, max_length=10)
    disabled: bool | None = None


class PreferencesBody(Strict):
    """Body of ``PUT /v1/preferences``."""

    keep_days: int = Field(
        ge=0,
        le=36_500,
        description="Days that one's conversations are kept after their last question; 0: as long "
        "as the site keeps them.",
    )


# -- replies --------------------------------------------------------------------------------------


class PersonReply(Strict):
    """Who is signed in; ``name`` as the silos' ledgers show it."""

    name: str
    shown: str
    roles: list[SiteRole]


class SessionReply(Strict):
    """The site, and who is signed in at it."""

    site: Literal["gateway"] = "gateway"
    node: str
    organisation: str
    sign_in: Literal["none", "local", "oidc"]
    provider: str
    person: PersonReply | None
    csrf: str = Field(description="To be sent as X-CSRF-Token; empty without a session.")
    idle_s: int = Field(description="The session ends so long after the last call; 0: never.")
    keep_days: int = Field(description="Days that the person's conversations are kept; 0: always.")
    feedback_for_tuning: bool


class LogoutReply(Strict):
    """Where to go to sign out at the provider too."""

    logout: str


class AccountReply(Strict):
    """One account; times in ms since 1970."""

    name: str
    shown: str
    roles: list[SiteRole]
    created: int
    last_seen: int | None
    disabled: bool
    waiting: bool


class AccountList(Strict):
    """Every account of the gateway."""

    accounts: list[AccountReply]


class InvitationReply(Strict):
    """A one-time link's token: the only time that it can be read."""

    name: str
    token: str
    expires: int


class SignInList(Strict):
    """The newest attempts; ``next`` is the ``before`` of the page after this one."""

    sign_ins: list[SignInAttempt]
    next: int | None


class PreferencesReply(Strict):
    """What the caller wants, and the most that the site allows; 0: no limit."""

    keep_days: int
    most_keep_days: int


class FeedbackList(Strict):
    """What clinicians said of answers."""

    feedback: list[JudgedAnswer]
    feedback_for_tuning: bool = Field(description="Whether it may be used to tune models.")


class CheckReply(Strict):
    """One thing that a receipt's reader can be sure of, or not."""

    name: str
    holds: bool
    detail: str


class ReceiptReply(Strict):
    """Whether all of a receipt holds, and each check."""

    holds: bool
    checks: list[CheckReply]
