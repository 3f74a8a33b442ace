"""Who runs a command on this machine, by the operating system's word."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OsUser:
    """A user of this machine: the account's name, and what people call its owner."""

    name: str
    shown: str


def at_this_machine() -> OsUser:
    """The user that this process runs as; of a container without an account, its number.

    Not from the environment, which anybody can set.
    """
    try:
        account = pwd.getpwuid(os.getuid())
    except KeyError:
        return OsUser(f"uid {os.getuid()}", f"uid {os.getuid()}")
    shown = account.pw_gecos.split(",")[0].strip()
    return OsUser(account.pw_name, shown or account.pw_name)
