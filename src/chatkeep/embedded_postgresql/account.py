"""As whom the embedded PostgreSQL runs when we are root, which it refuses to be.

It gets a system account of its own that can log in nowhere, and the right to pass through
exactly the folders that lead to its files and programs (an access control list entry of
that one account; nobody else may see more than before).
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT = "chatkeep-postgres"
_READ, _TRAVERSE = 4, 1

# POSIX.1e access control lists as Linux keeps them (linux/posix_acl_xattr.h).
_ATTRIBUTE = "system.posix_acl_access"
_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")  # what kind, which rights, whose
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_MASKED = frozenset({_USER, _OWNING_GROUP, _GROUP})
_NOBODY_NAMED = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Account:
    """An account of this machine."""

    name: str
    uid: int
    gid: int


def account_for(postgresql: Path) -> Account | None:
    """Return as whom PostgreSQL must run on the files in *postgresql*; None: as ourselves.

    Files that are there already keep their owner.

    Raises:
        SetupError: we are root and there is no account to be had.
    """
    if os.geteuid() != 0:
        return None
    if not postgresql.exists():
        return _account(ACCOUNT) or _make_account()
    owner = postgresql.stat()
    if owner.st_uid == 0:
        name = (_account(ACCOUNT) or _make_account()).name
        raise SetupError(
            f"{postgresql} belongs to root, as which PostgreSQL does not run:"
            f" run chown -R {name}: '{postgresql}'."
        )
    return Account(str(owner.st_uid), owner.st_uid, owner.st_gid)


def let_through(account: Account, folder: Path) -> None:
    """Let *account* pass through *folder* and those above it, and see nothing there."""
    for each in (*reversed(folder.parents), folder):
        _grant(account, each, _TRAVERSE)


def let_read(account: Account, folder: Path) -> None:
    """Let *account* read and run everything below *folder*, where not everybody may."""
    for place, _, names in os.walk(folder):
        _grant(account, folder / place, _READ | _TRAVERSE)
        for name in names:
            path = folder / place / name
            if not path.is_symlink():
                executable = path.stat().st_mode & stat.S_IXUSR
                _grant(account, path, _READ | (_TRAVERSE if executable else 0))


def _account(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _make_account() -> Account:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        made = _account(ACCOUNT)  # by another process at the same time
        if made is None:
            raise SetupError(
                "PostgreSQL does not run as root, and no account could be made for it with"
                f" useradd: make one called {ACCOUNT}, or run Chatkeep as an ordinary user."
            ) from error
        return made
    made = _account(ACCOUNT)
    if made is None:
        raise SetupError(f"The account {ACCOUNT} was made and cannot be found.")
    return made


def _grant(account: Account, path: Path, rights: int) -> None:
    about = path.stat()
    if _has(account, about, rights):
        return
    try:
        entries = _entries_of(path, stat.S_IMODE(about.st_mode))
        entries[_USER, account.uid] = entries.get((_USER, account.uid), 0) | rights
        entries[_MASK, _NOBODY_NAMED] = _mask_over(entries)
        os.setxattr(path, _ATTRIBUTE, _packed(entries))
    except (AttributeError, OSError) as error:  # not Linux, or not on this file system
        raise SetupError(
            f"PostgreSQL does not run as root, and the account {account.name} may not look into"
            f" {path}: choose another folder with --data, or run Chatkeep as an ordinary user."
        ) from error


def _has(account: Account, about: os.stat_result, rights: int) -> bool:
    if about.st_uid == account.uid:
        granted = about.st_mode >> 6
    elif about.st_gid == account.gid:
        granted = about.st_mode >> 3
    else:
        granted = about.st_mode
    return granted & rights == rights


def _entries_of(path: Path, mode: int) -> dict[tuple[int, int], int]:
    try:
        packed = os.getxattr(path, _ATTRIBUTE)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        owner, group, other = mode >> 6 & 7, mode >> 3 & 7, mode & 7
        return {
            (_OWNER, _NOBODY_NAMED): owner,
            (_OWNING_GROUP, _NOBODY_NAMED): group,
            (_OTHER, _NOBODY_NAMED): other,
        }
    entries = {(kind, who): rights for kind, rights, who in _ENTRY.iter_unpack(packed[4:])}
    mask = entries.get((_MASK, _NOBODY_NAMED), 7)
    # What the mask takes away today must stay away when the mask is made wider.
    return {
        (kind, who): rights & mask if kind in _MASKED else rights
        for (kind, who), rights in entries.items()
    }


def _mask_over(entries: dict[tuple[int, int], int]) -> int:
    """The mask that takes nothing away from what the entries give."""
    mask = 0
    for (kind, _), rights in entries.items():
        if kind in _MASKED:
            mask |= rights
    return mask


def _packed(entries: dict[tuple[int, int], int]) -> bytes:
    ordered = sorted(entries.items())
    return _VERSION + b"".join(_ENTRY.pack(kind, rights, who) for (kind, who), rights in ordered)
