"""Other versions of Chatkeep for a test: the one before, from history, and one to come.

A version is a folder of sources that goes before the installed one (`PYTHONPATH`), with the
same virtual environment.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from chatkeep.sql.migrations import HEAD

ROOT: Final = Path(__file__).parent.parent
_MIGRATIONS: Final = "src/chatkeep/sql/migrations.py"

#: What a version to come does to the tables: all that a migration may.
_NEXT: Final = '''
"""What a version to come adds."""

from alembic import op

from chatkeep.sql.closing import closed

revision = "9999"
down_revision = "{head}"

ADDED = """
create table chat.to_come (user_id text not null, id text not null, primary key (user_id, id));
create index to_come_id on chat.to_come (id);
alter table chat.messages add column to_come text, add column more integer not null default 0;
alter table chat.runs add column to_come text;
alter table chat.conversations add column to_come jsonb;
alter table chatkeep.users add column to_come text;
alter table public.user_sessions add column to_come text;
create function chatkeep.to_come() returns trigger language plpgsql as $$
begin
  new.to_come := 'seen';
  return new;
end
$$;
create trigger to_come before update on chat.runs
  for each row execute function chatkeep.to_come();
"""


def upgrade():
    """Add it."""
    for part in (ADDED, closed("chat.to_come")):
        op.execute(part)
'''


def version_to_come(folder: Path) -> dict[str, str]:
    """Make in *folder* what comes after this version; return the environment that runs it."""
    shutil.copytree(
        ROOT / "src" / "chatkeep",
        folder / "chatkeep",
        ignore=shutil.ignore_patterns("__pycache__", "static"),
    )
    sql = folder / "chatkeep" / "sql"
    (sql / "versions" / "9999_next.py").write_text(_NEXT.format(head=HEAD).lstrip())
    migrations = (sql / "migrations.py").read_text().replace(f'HEAD = "{HEAD}"', 'HEAD = "9999"')
    (sql / "migrations.py").write_text(migrations)
    return {"PYTHONPATH": str(folder)}


def version_at(revision: str, folder: Path) -> dict[str, str] | None:
    """Put into *folder* the newest sources whose tables were at *revision*.

    Return the environment that runs them, None where no such commit is at hand, as in a
    shallow clone.
    """
    for commit in _git("log", "--format=%H", "--", _MIGRATIONS).decode().split():
        if f'HEAD = "{revision}"' in _git("show", f"{commit}:{_MIGRATIONS}").decode():
            # What came after it and left the tables alone belongs to the same version.
            later = _git("log", "--format=%H", "--ancestry-path", f"{commit}..HEAD", "--", "src")
            newest = _before_the_next(revision, [*reversed(later.decode().split())], commit)
            with tarfile.open(fileobj=io.BytesIO(_git("archive", newest, "src"))) as archive:
                archive.extractall(folder, filter="data")
            return {"PYTHONPATH": str(folder / "src")}
    return None


def _before_the_next(revision: str, later: list[str], commit: str) -> str:
    for one in later:
        if f'HEAD = "{revision}"' not in _git("show", f"{one}:{_MIGRATIONS}").decode():
            break
        commit = one
    return commit


def _git(*arguments: str) -> bytes:
    """Ask git; where there is no history, it knows of nothing."""
    try:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, check=True, capture_output=True, timeout=60
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return b""
