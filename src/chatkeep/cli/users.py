"""`chatkeep users`: the people of our own issuer."""

from __future__ import annotations

import click

from chatkeep.cli.user_import import import_users
from chatkeep.cli.words import examples


@click.group(
    "users",
    epilog=examples(
        "chatkeep users import users.csv --from supabase --dry-run",
    ),
)
def command() -> None:
    """Administer the people who sign in with this server's own accounts."""


command.add_command(import_users)
