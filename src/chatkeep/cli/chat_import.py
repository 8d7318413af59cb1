"""`chatkeep import`: conversations from the export of another chat, for one person."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chatkeep.cli.own_issuer import run_as_issuer
from chatkeep.cli.settings import data_option
from chatkeep.cli.words import examples

if TYPE_CHECKING:
    from chatkeep.config import Settings
    from chatkeep.issuance import EmbeddedIssuer

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

    from chatkeep.conversations import imports  # noqa: PLC0415 -- slow to import
    from chatkeep.errors import Invalid, SetupError  # noqa: PLC0415 -- as above

    try:
        arrivals = imports.read(file.read_bytes())
    except Invalid as error:
        raise SetupError(error.detail) from error

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- as above

        user_id = await user_id_named(issuer, who)
        imported = 0
        with click.progressbar(arrivals, label="Conversations", file=sys.stderr) as bar:
            for arrival in bar:
                imported += await imports.store(issuer.db, user_id, arrival)
        known = len(arrivals) - imported
        click.echo(f"Imported for {who}: {imported}. Here already: {known}.")

    run_as_issuer(data, work)
