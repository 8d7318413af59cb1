"""What every test of real processes needs: a folder to start them in."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chatkeep.embedded_postmaster import stop_left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder to start a server in; no PostgreSQL is left running in its data folder.

    Not below pytest's own folder for temporary files: every other pytest of the same account
    closes that one again, and the PostgreSQL of root's server is another account.
    """
    folder = Path(tempfile.mkdtemp(prefix="chatkeep-home-"))
    yield folder
    if (folder / ".chatkeep" / "postgresql").exists():
        stop_left_behind(folder / ".chatkeep" / "postgresql")
    shutil.rmtree(folder)
