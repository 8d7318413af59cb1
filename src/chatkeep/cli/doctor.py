"""`chatkeep doctor`: one line a check, and what to do."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

import click

from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.steps import Steps
from chatkeep.cli.words import examples
from chatkeep.errors import ChatkeepError, SetupError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from chatkeep.config import Settings
    from chatkeep.doctor import Finding


@click.command("doctor", epilog=examples("chatkeep doctor", "chatkeep doctor && chatkeep serve"))
@data_option
def command(data: Path | None) -> None:
    """Look at everything that a server needs, and say what to do where something is wrong.

    Settings, data folder, database, migrations, isolation, keys, model, Supabase, addresses.
    Works while a server runs and while none does. Exit code 1 when anything is wrong.
    """
    from chatkeep.doctor import Finding  # noqa: PLC0415 -- slow to import

    logging.disable(logging.WARNING)  # what they would warn of is said once, as a finding
    try:
        settings = read_settings(data_folder=data)
    except SetupError as error:
        _show(Finding(name="Settings", problems=error.problems))
        sys.exit(1)
    if not asyncio.run(_all_good(settings)):
        sys.exit(1)


async def _all_good(settings: Settings) -> bool:
    good = True
    async for finding in _findings(settings):
        _show(finding)
        good = good and finding.is_good
    return good


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    from chatkeep import doctor  # noqa: PLC0415 -- slow to import
    from chatkeep.cli.preparation import at_its_address, prepared  # noqa: PLC0415 -- as above
    from chatkeep.data_folder import DataFolder  # noqa: PLC0415 -- as above

    folder = DataFolder(settings.data_folder.expanduser().absolute())
    yield doctor.examine_settings(settings)
    if settings.database_url is None or settings.secret is None:
        yield doctor.examine_folder(folder)
    if settings.database_url is None and not folder.postgresql.exists():
        yield doctor.Finding(name="PostgreSQL", note="will be made at the first start")
    else:
        try:
            with prepared(settings, Steps(sys.stderr, quiet=True), "command") as complete:
                async for finding in doctor.examine_database(complete):
                    yield finding
        except ChatkeepError as error:
            yield doctor.Finding(name="PostgreSQL", problems=(error.detail,))
    yield await doctor.examine_model(settings)
    yield await doctor.examine_supabase(settings)
    yield await doctor.examine_address(at_its_address(settings))


def _show(finding: Finding) -> None:
    mark = "\N{CHECK MARK}" if finding.is_good else "\N{BALLOT X}"
    encoding = sys.stdout.encoding or "utf-8"
    for text in finding.problems or (finding.note,):
        line = f"{mark} {finding.name:14} {text}"
        click.echo(line.encode(encoding, "replace").decode(encoding))
