"""`chatkeep import`: conversations from the export of another chat, for one person."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chatkeep.cli.own_issuer import own_issuer, with_database
from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.words import examples

if TYPE_CHECKING:
    from chatkeep.config import Settings

_BYTES_AT_MOST = 1 << 30


@click.command(
    "import",
    short_help="Import conversations that were exported elsewhere.",
    epilog=examples("chatkeep import conversations.json --for ana@example.com"),
)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--for", "who", required=True, metavar="WHO", help="An address, or an id.")
@data_option
def command(*, file: Path, who: str, data: Path | None) -> None:
    """Import the conversations of FILE, an export of ChatGPT or Open WebUI, for WHO.

    Of ChatGPT's export it is `conversations.json`. Running it again imports what is new.
    """
    if file.stat().st_size > _BYTES_AT_MOST:
        raise click.BadParameter("is larger than 1 GiB: split it", param_hint="FILE")

    async def run(settings: Settings) -> None:
        from chatkeep import imports  # noqa: PLC0415 -- slow to import
        from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- as above
        from chatkeep.errors import Invalid, SetupError  # noqa: PLC0415 -- as above

        try:
            arrivals = imports.read(await asyncio.to_thread(file.read_bytes))
        except Invalid as error:
            raise SetupError(error.detail) from error
        async with own_issuer(settings) as issuer:
            user_id = await user_id_named(issuer, who)
            imported = 0
            with click.progressbar(arrivals, label="Conversations", file=sys.stderr) as bar:
                for arrival in bar:
                    imported += await imports.store(issuer.db, user_id, arrival)
        known = len(arrivals) - imported
        click.echo(f"Imported for {who}: {imported}. Here already: {known}.")

    with with_database(read_settings(data_folder=data)) as complete:
        asyncio.run(run(complete))
