"""`chatkeep migrate`: the database brought to the shape that this version needs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.steps import Steps
from chatkeep.cli.words import examples

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "migrate",
    epilog=examples(
        "chatkeep migrate",
        "DATABASE_ADMIN_URL=postgresql://postgres:...@db.example/chat chatkeep migrate",
    ),
)
@data_option
def command(data: Path | None) -> None:
    """Bring the database to the shape that this version needs.

    Makes the roles, tables and policies, and adopts chat.conversations and chat.messages that
    are there already; nothing is lost. Safe to repeat, and while an older version runs.

    Then builds the indexes that need time, which holds up nobody; Ctrl-C stops that, and the
    next call goes on with it.

    Uses DATABASE_ADMIN_URL, else DATABASE_URL, else the PostgreSQL in the data folder.
    """
    from chatkeep.cli.preparation import (  # noqa: PLC0415 -- slow
        administered_at,
        bring_up_to_date,
        prepared,
    )
    from chatkeep.sql.migrations import build_indexes  # noqa: PLC0415 -- as above

    settings = read_settings(data_folder=data)
    steps = Steps(sys.stderr, quiet=True)
    with prepared(settings, steps, "command") as complete:
        done = bring_up_to_date(complete, steps, progress=_say)
        built = build_indexes(administered_at(complete), progress=_say)
    if done.before == done.after:
        click.echo(f"The database is up to date (revision {done.after}).")
    else:
        before = done.before or "nothing"
        click.echo(f"The database was brought from {before} to revision {done.after}.")
    for name in built:
        click.echo(f"The index {name} was built.")


def _say(step: str) -> None:
    click.echo(f"{step} …", err=True)
