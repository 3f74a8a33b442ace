"""Sign-in with accounts of the gateway: passwords tried within limits, links used once."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from siloquy.errors import PolicyDenied, UsageError
from siloquy.gateway.sign_in.accounts import Accounts, ProvenAccount
from siloquy.gateway.sign_in.aside import Aside
from siloquy.gateway.sign_in.browsers import NUMBER_BYTES, marked, number_of
from siloquy.gateway.sign_in.passwords import Passwords
from siloquy.gateway.sign_in.people import Requester
from siloquy.gateway.sign_in.rate_limits import RateLimit, Waits
from siloquy.gateway.sign_in.sign_in_log import SignInLog
from siloquy.web.refusals import NotFound, Unauthenticated

MOST_WRONG = 60
MOST_JOINS = 30


class LocalAccounts:
    """The accounts of a gateway, as people use them."""

    def __init__(
        self,
        accounts: Accounts,
        log: SignInLog,
        aside: Aside,
        monotonic: Callable[[], float],
        passwords: Passwords | None = None,
    ) -> None:
        self.accounts = accounts
        self._log = log
        self._aside = aside
        self._passwords = passwords or Passwords()
        self._waits = Waits(monotonic)
        self._waits_of_browsers = Waits(monotonic)
        # Where there is no account no browser is known, and it takes as long to find out.
        self._of_nobody = secrets.token_hex(32)
        self._wrong = RateLimit(MOST_WRONG, clock=monotonic)
        self._joins = RateLimit(MOST_JOINS, clock=monotonic)
        self._wrong_links = RateLimit(MOST_JOINS, clock=monotonic)

    async def sign_in(self, name: str, password: str, marks: str = "") -> ProvenAccount:
        """The account, as it was when the password was looked at.

        marks   what ``marks`` gave the browser; they spare it the waits that strangers make

        Unauthenticated with the same words, after the same time, for a wrong name, a wrong password
        and a disabled account; Overloaded when it was tried too often.
        """
        proven = await self._proven(name, password, marks)
        if proven is None:
            known = await self._aside(self.accounts.holds, name)
            await self._aside(self._log.add, name if known else "", "local", "wrong password")
            raise Unauthenticated(
                "name or password is wrong", "try again, or ask who runs this gateway for a link"
            )
        await self._aside(self.accounts.seen, proven.account)
        await self._aside(self._log.add, proven.account.name, "local")
        return proven

    def marks(self, proven: ProvenAccount, before: str) -> str:
        """What the browser of somebody who has come in keeps beside what it had ``before``."""
        return marked(before, proven.kept, secrets.token_bytes(NUMBER_BYTES))

    async def _proven(self, name: str, password: str, marks: str) -> ProvenAccount | None:
        """The account whose password it is; every attempt counts until it is a right one."""
        found = await self._aside(self.accounts.credentials, name)
        number = number_of(marks, found.kept if found else self._of_nobody)
        if number:
            return await self._compared(found, password, number, self._waits_of_browsers)
        # In this order: who hammers one name must not make all others wait, and who makes all wait
        # must not write down names without end, which would make the waits of others forgotten.
        self._waits.check(name)
        self._wrong.take()
        proven = await self._compared(found, password, name, self._waits)
        if proven is not None:
            self._wrong.give_back()
        return proven

    async def _compared(
        self, found: ProvenAccount | None, password: str, counted_as: str, waits: Waits
    ) -> ProvenAccount | None:
        waits.take(counted_as)
        if not await self._passwords.matches(found.kept if found else None, password):
            return None
        waits.forget(counted_as)
        return found

    async def join(self, token: str, shown: str, password: str) -> ProvenAccount:
        """The account that a link's token is for, which is then used up.

        PolicyDenied for a token that is wrong, used, replaced or too old; UsageError for a password
        that is not taken, and the token stays good.
        """
        invited = await self._aside(self.accounts.invited, token)
        if invited is None:
            # Counted apart: nobody finds a link by trying, but may want to keep others from theirs.
            self._wrong_links.take()
            await self._aside(self._log.add, "", "join", "the link is not valid")
            raise _worthless()
        self._joins.take()
        made = await self._passwords.hashed(password, invited.name)
        proven = await self._aside(self.accounts.join, token, shown, made)
        if proven is None:
            raise _worthless()
        await self._aside(self._log.add, proven.account.name, "join")
        await self._aside(self.accounts.seen, proven.account)
        return proven

    async def change_password(
        self, person: Requester, old: str, new: str, marks: str = ""
    ) -> ProvenAccount:
        """The person's account with another password; all its sessions end.

        UsageError when the old one is wrong or the new one is not taken, Unauthenticated when the
        account was changed meanwhile.
        """
        account = await self._aside(self.accounts.of_owner, person.owner)
        if account is None:
            raise NotFound("you have no account here", "sign in with one")
        proven = await self._proven(account.name, old, marks)
        if proven is None:
            raise UsageError("the old password is wrong", "try again")
        made = await self._passwords.hashed(new, account.name)
        changed = await self._aside(self.accounts.set_password, proven, made)
        if changed is None:
            raise changed_meanwhile()
        return changed

    def close(self) -> None:
        """End the threads and close the file."""
        self._passwords.close()
        self.accounts.close()


def changed_meanwhile() -> Unauthenticated:
    """What is told when an account changes while its holder comes in."""
    return Unauthenticated("the account was changed meanwhile", "sign in again")


def _worthless() -> PolicyDenied:
    return PolicyDenied(
        "the link was used, replaced or is older than a day", "ask who sent it for a new one"
    )
