from __future__ import annotations

import os
import pwd

import pytest

from siloquy.os_user import OsUser, at_this_machine


def account(gecos: str) -> pwd.struct_passwd:
    return pwd.struct_passwd(("anna", "x", 1, 1, gecos, "/", "/bin/sh"))


@pytest.mark.parametrize(("gecos", "shown"), [("Anna Berg,,,", "Anna Berg"), ("", "anna")])
def test_the_person_is_who_the_account_belongs_to_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, gecos: str, shown: str
) -> None:
    monkeypatch.setenv("USER", "somebody else")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: account(gecos))
    assert at_this_machine() == OsUser("anna", shown)


def test_a_user_without_an_account_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert at_this_machine().name == f"uid {os.getuid()}"
