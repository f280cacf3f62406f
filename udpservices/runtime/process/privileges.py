"""Giving up privileges for good, once all that needs them is open."""

import grp
import os
import pwd
from contextlib import suppress
from typing import NamedTuple

from udpservices.net.capabilities import drop_capabilities


class Identity(NamedTuple):
    """Whom a process is to belong to, looked up while that is possible."""

    user: int | None
    group: int | None
    #: Supplementary groups; None keeps those that there are.
    groups: tuple[int, ...] | None


def identity(user: str | None, group: str | None) -> Identity:
    """The identity of a user, by name or number, and a group. Raises ValueError where there is none of that name.

    A user has his own group and supplementary groups, unless a group is given: that is the only one then.
    """
    entry = None if user is None else _user(user)
    number = _group(group) if group is not None else None if entry is None else entry.pw_gid
    if entry is not None and group is None and entry.pw_name:
        return Identity(entry.pw_uid, number, tuple(os.getgrouplist(entry.pw_name, entry.pw_gid)))
    return Identity(None if entry is None else entry.pw_uid, number, None if number is None else (number,))


def _user(text: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(text)
    except KeyError:
        pass
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"--uid {text}: there is no such user")
    with suppress(KeyError, OverflowError):
        return pwd.getpwuid(int(text))
    raise ValueError(f"--uid {text}: there is no user of that number")


def _group(text: str) -> int:
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        if not (text.isascii() and text.isdecimal() and int(text) < 2**32 - 1):
            raise ValueError(f"--gid {text}: there is no such group") from None
        return int(text)


def give_up(whom: Identity, root: str | None) -> None:
    """Become somebody else, with another root if there is one, and never again who this was. Raises OSError.

    Of Linux's capabilities none is left to another user than root, whoever had them before.
    """
    is_user = whom.user is None or set(os.getresuid()) == {whom.user}
    is_group = whom.group is None or set(os.getresgid()) == {whom.group}
    if root is None and is_user and is_group and os.geteuid():
        return  # a program before this one has done it
    if root is not None:
        os.chroot(root)
        os.chdir("/")
    if whom.groups is not None:
        os.setgroups(whom.groups)
    if whom.group is not None:
        os.setresgid(whom.group, whom.group, whom.group)
    if whom.user is not None:
        os.setresuid(whom.user, whom.user, whom.user)
    if whom.user:
        drop_capabilities()  # which the kernel leaves to whom was not root, or has it do so (SECBIT_NO_SETUID_FIXUP)
