"""`chatkeep assign`: adopted conversations given to their owner."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from chatkeep.cli.finding_people import require_user_id
from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.steps import Steps
from chatkeep.cli.words import examples
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "assign",
    short_help="Give adopted conversations to their owner.",
    epilog=examples("chatkeep assign --conversation 0192f3c1 --conversation 0192f3c2 --user ana"),
)
@click.option(
    "--conversation",
    "conversations",
    required=True,
    multiple=True,
    metavar="ID",
    help="A conversation that nobody owns; may be repeated.",
)
@click.option("--user", required=True, metavar="ID", help="Whose it is from now on.")
@data_option
def command(conversations: tuple[str, ...], user: str, data: Path | None) -> None:
    """Give adopted conversations, whose owner was unknown, to a person.

    Until then nobody sees them. One that has an owner is never given to another.
    """
    from chatkeep.cli.preparation import bring_up_to_date, prepared  # noqa: PLC0415 -- slow
    from chatkeep.sql.assignment import assign_conversations  # noqa: PLC0415 -- as above

    require_user_id(user)
    settings = read_settings(data_folder=data)
    steps = Steps(sys.stderr, quiet=True)
    with prepared(settings, steps, "command") as complete:
        bring_up_to_date(complete, steps)
        admin_url = str(complete.database_admin_url or complete.database_url)
        given = assign_conversations(admin_url, user, list(conversations))
    if given < len(set(conversations)):
        missing = len(set(conversations)) - given
        raise SetupError(f"{given} given; {missing} have an owner already or do not exist.")
    click.echo(f"{given} given to {user}.")
