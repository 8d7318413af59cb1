"""The job queue's schema is the library's."""

from __future__ import annotations

from pathlib import Path

import procrastinate
from procrastinate.schema import SchemaManager

from chatkeep import sql


def test_our_copy_is_the_schema_of_the_installed_library() -> None:
    """A version of procrastinate with other tables comes with a migration of ours."""
    copy = Path(str(sql.__file__)).parent / "procrastinate_3_10.sql"
    assert SchemaManager.get_schema() in copy.read_text(encoding="utf-8")
    assert procrastinate.__version__.startswith("3.10.")
