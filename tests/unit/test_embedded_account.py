"""Another account is let through folders, and nobody else sees more than before."""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING

import pytest

from chatkeep.embedded_postgresql.account import Account, let_read, let_through
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path

SOMEBODY = Account("somebody", 64_999, 64_999)
ATTRIBUTE = "system.posix_acl_access"
USER, OWNING_GROUP, MASK = 0x02, 0x04, 0x10


def entries(path: Path) -> dict[tuple[int, int], int]:
    """Return the access control list of *path*: rights by kind and id."""
    packed = os.getxattr(path, ATTRIBUTE)[4:]
    return {(kind, who): rights for kind, rights, who in struct.iter_unpack("<HHI", packed)}


def right_of(path: Path, kind: int) -> int:
    """Return what the one entry of *kind* allows."""
    (found,) = [rights for (each, _), rights in entries(path).items() if each == kind]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder below one that is closed to others."""
    tmp_path.chmod(0o700)
    made = tmp_path / "data"
    made.mkdir(mode=0o700)
    return made


def test_account_may_pass_and_not_look(folder: Path) -> None:
    """It gets the right to pass through the folder and each above, and no other right."""
    let_through(SOMEBODY, folder)
    for each in (folder, folder.parent):
        assert entries(each)[USER, SOMEBODY.uid] == 0o1
        assert right_of(each, OWNING_GROUP) == 0
        assert stat.S_IMODE(each.stat().st_mode) == 0o710
    before = entries(folder)
    let_through(SOMEBODY, folder)
    assert entries(folder) == before


def test_open_folder_stays_as_it_is(folder: Path) -> None:
    """Where everybody may pass already, nothing is changed."""
    folder.chmod(0o755)
    let_through(SOMEBODY, folder)
    assert ATTRIBUTE not in os.listxattr(folder)


def test_what_was_taken_away_from_a_group_stays_away(folder: Path) -> None:
    """Making room for one account does not give back what chmod took from a group."""
    folder.chmod(0o750)
    let_through(SOMEBODY, folder)
    assert right_of(folder, OWNING_GROUP) == 0o5
    folder.chmod(0o700)  # with a list, these bits are its mask
    let_through(SOMEBODY, folder)
    assert right_of(folder, MASK) == 0o1
    assert right_of(folder, OWNING_GROUP) == 0
    assert entries(folder)[USER, SOMEBODY.uid] == 0o1


def test_programs_can_be_read_and_run(folder: Path) -> None:
    """Everything below can be read, and run where its owner can; links are left alone."""
    (folder / "bin").mkdir(mode=0o700)
    for name, mode in (("postgres", 0o700), ("postgres.bki", 0o600)):
        (folder / "bin" / name).write_text("")
        (folder / "bin" / name).chmod(mode)
    (folder / "bin" / "nowhere").symlink_to("/nonexistent")
    let_read(SOMEBODY, folder)
    rights = {
        path.name: entries(path)[USER, SOMEBODY.uid]
        for path in (folder, *folder.rglob("*"))
        if not path.is_symlink()
    }
    assert rights == {"data": 5, "bin": 5, "postgres": 5, "postgres.bki": 4}


def test_file_system_without_lists_is_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a right cannot be given to one account alone, nobody gets it."""

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    with pytest.raises(SetupError, match="may not look into"):
        let_through(SOMEBODY, folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
