"""`chatkeep issuers`: who may sign tokens, asked one by one."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import click

from chatkeep.cli.doctor import all_good, database_if_there
from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.words import examples

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chatkeep.config import Settings
    from chatkeep.setup_checks.findings import Finding


@click.group("issuers", epilog=examples("chatkeep issuers check"))
def command() -> None:
    """Look at who may sign the tokens that are taken here."""


@command.command(
    "check",
    short_help="Ask each issuer, and say what is wrong.",
    epilog=examples("chatkeep issuers check && chatkeep serve"),
)
@data_option
def check(data: Path | None) -> None:
    """Ask each issuer, and say what was found and what to do where something is wrong.

    Keys and algorithms, discovery, endpoints, clocks, and the tables of Better Auth. Works
    while a server runs and while none does. Exit code 1 when anything is wrong.
    """
    logging.disable(logging.WARNING)  # what they would warn of is said once, as a finding
    settings = read_settings(data_folder=data)
    if not asyncio.run(all_good(_findings(settings))):
        sys.exit(1)


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    from chatkeep.setup_checks.issuers import (  # noqa: PLC0415 -- slow to import
        examine_embedded,
        examine_issuers,
    )

    with database_if_there(settings) as complete:
        async for finding in examine_issuers(complete):
            yield finding
        yield await examine_embedded(complete)
