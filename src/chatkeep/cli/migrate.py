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

    Uses DATABASE_ADMIN_URL, else DATABASE_URL, else the PostgreSQL in the data folder.
    """
    from chatkeep.cli.preparation import bring_up_to_date, prepared  # noqa: PLC0415 -- slow

    settings = read_settings(data_folder=data)
    steps = Steps(sys.stderr, quiet=True)
    with prepared(settings, steps, "command") as complete:
        done = bring_up_to_date(complete, steps)
    if done.before == done.after:
        click.echo(f"The database is up to date (revision {done.after}).")
    else:
        before = done.before or "nothing"
        click.echo(f"The database was brought from {before} to revision {done.after}.")
