"""`chatkeep doctor`: one line a check, and what to do."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import click

from chatkeep.cli.misspellings import find_misspellings
from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.steps import Steps
from chatkeep.cli.words import examples
from chatkeep.config import read_environment
from chatkeep.errors import ChatkeepError, SetupError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from chatkeep.config import Settings
    from chatkeep.setup_checks.findings import Finding


@click.command(
    "doctor",
    short_help="Look at everything that a server needs, and what is wrong.",
    epilog=examples("chatkeep doctor", "chatkeep doctor && chatkeep serve"),
)
@data_option
def command(data: Path | None) -> None:
    """Look at everything that a server needs, and say what to do where something is wrong.

    Settings, extensions, data folder, database, migrations, isolation, keys, Redis,
    issuers, models, mail, proxy, address. Works while a server runs and while none does.
    Exit code 1 when anything is wrong.
    """
    from chatkeep.setup_checks.findings import Finding  # noqa: PLC0415 -- only for what cannot be read

    logging.disable(logging.WARNING)  # what they would warn of is said once, as a finding
    try:
        settings = read_settings(data_folder=data)
    except SetupError as error:
        show(Finding(name="Settings", problems=error.problems))
        sys.exit(1)
    if not asyncio.run(all_good(_findings(settings))):
        sys.exit(1)


async def all_good(findings: AsyncIterator[Finding]) -> bool:
    """Show each of *findings* as it comes; return whether there is nothing to do."""
    good = True
    async for finding in findings:
        show(finding)
        good = good and finding.is_good
    return good


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    from chatkeep.cli.preparation import at_its_address  # noqa: PLC0415 -- as above
    from chatkeep.data_folder import DataFolder  # noqa: PLC0415 -- as above
    from chatkeep.setup_checks import doctor  # noqa: PLC0415 -- slow to import
    from chatkeep.setup_checks.findings import Finding  # noqa: PLC0415 -- as above
    from chatkeep.setup_checks.issuers import examine_issuers  # noqa: PLC0415 -- as above

    folder = DataFolder(settings.data_folder.expanduser().absolute())
    yield doctor.examine_settings(settings)
    if misspellings := find_misspellings(read_environment()):
        yield Finding(name="Spelling", problems=tuple(misspellings))
    yield doctor.examine_extensions(settings)
    if settings.database_url is None or settings.secret is None:
        yield doctor.examine_folder(folder)
    with ExitStack() as stack:
        complete = settings
        try:
            complete = stack.enter_context(database_if_there(settings))
        except ChatkeepError as error:
            yield Finding(name="PostgreSQL", problems=(error.detail,))
        else:
            if complete.database_url is None:
                yield Finding(name="PostgreSQL", note="will be made at the first start")
            else:
                async for finding in doctor.examine_database(complete):
                    yield finding
        yield await doctor.examine_redis(settings)
        yield await doctor.examine_files(settings)
        async for finding in examine_issuers(complete):
            yield finding
    async for finding in _neighbours(settings):
        yield finding
    with suppress(SetupError):  # of the data folder, and said as its finding
        settings = at_its_address(settings)
    async for finding in _address(settings):
        yield finding


async def _neighbours(settings: Settings) -> AsyncIterator[Finding]:
    """Look at whom a server asks."""
    from chatkeep.mail.checks import examine_mail  # noqa: PLC0415 -- slow to import
    from chatkeep.setup_checks.models import examine_models  # noqa: PLC0415 -- as above

    for finding in await examine_models(settings):
        yield finding
    yield await examine_mail(settings)
    if settings.mcp_servers:
        from chatkeep.mcp_servers import examine_mcp_servers  # noqa: PLC0415 -- slow to import

        for finding in await examine_mcp_servers(settings):
            yield finding


async def _address(settings: Settings) -> AsyncIterator[Finding]:
    """Look at the way to our own address, and at who answers there."""
    from chatkeep.setup_checks import doctor  # noqa: PLC0415 -- slow to import
    from chatkeep.setup_checks.models import examine_running  # noqa: PLC0415 -- as above

    if (proxy := doctor.examine_proxy(settings)) is not None:
        yield proxy
    yield await doctor.examine_address(settings)
    if (running := await examine_running(settings)) is not None:
        yield running


@contextmanager
def database_if_there(settings: Settings) -> Iterator[Settings]:
    """Lend *settings* with their database; without one where the first start is to make it."""
    from chatkeep.cli.preparation import prepared  # noqa: PLC0415 -- slow to import
    from chatkeep.data_folder import DataFolder  # noqa: PLC0415 -- as above

    folder = DataFolder(settings.data_folder.expanduser().absolute())
    if settings.database_url is None and not folder.has(folder.postgresql):
        yield settings
        return
    with prepared(settings, Steps(sys.stderr, quiet=True), "command") as complete:
        yield complete


def show(finding: Finding) -> None:
    """Print one line for *finding*, or one for each problem of it."""
    mark = "\N{CHECK MARK}" if finding.is_good else "\N{BALLOT X}"
    encoding = sys.stdout.encoding or "utf-8"
    for text in finding.problems or (finding.note,):
        line = f"{mark} {finding.name:14} {text}"
        click.echo(line.encode(encoding, "replace").decode(encoding))
