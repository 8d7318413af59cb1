"""`chatkeep webhooks`: what others could not be told, told again; a secret; a try."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chatkeep.cli.listing import json_option, print_list
from chatkeep.cli.own_issuer import run_as_issuer
from chatkeep.cli.settings import data_option
from chatkeep.cli.words import examples
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path

    from chatkeep.config import Settings
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.webhooks.records import Dead


@click.group(
    "webhooks",
    epilog=examples(
        "chatkeep webhooks secret",
        "chatkeep webhooks test crm",
        "chatkeep webhooks list",
        "chatkeep webhooks redeliver --all",
        "chatkeep webhooks end crm",
    ),
)
def command() -> None:
    """What other programs are told of, by the setting WEBHOOKS."""


@command.command("secret", epilog=examples("chatkeep webhooks secret"))
def secret() -> None:
    """Print a new secret to sign with, for WEBHOOK_<NAME>_SECRET."""
    from chatkeep.webhooks import new_secret  # noqa: PLC0415 -- slow to import

    click.echo(new_secret())


@command.command("list", epilog=examples("chatkeep webhooks list --json"))
@json_option
@data_option
def list_dead(*, as_json: bool, data: Path | None) -> None:
    """List what could not be told and was given up.

    500 at most; it is kept for a month.
    """

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep.webhooks import records  # noqa: PLC0415 -- slow to import

        found = await records.list_dead(issuer.db)
        nothing = "Nothing: everything was told, or is still tried."
        print_list(found, _line, as_json=as_json, nothing=nothing)

    run_as_issuer(data, work)


@command.command(
    "redeliver",
    epilog=examples("chatkeep webhooks redeliver --all", "chatkeep webhooks redeliver msg_4f0e..."),
)
@click.argument("identities", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Everything that `list` shows.")
@data_option
def redeliver(identities: tuple[str, ...], *, everything: bool, data: Path | None) -> None:
    """Tell again what was given up.

    It has the same ids as before, and all its attempts.
    """
    if bool(identities) == everything:
        raise click.UsageError("Say which, by the ids of `chatkeep webhooks list`, or --all.")

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep.webhooks import records  # noqa: PLC0415 -- slow to import

        found = await records.redeliver(issuer.db, None if everything else identities)
        click.echo(f"{found} will be told again.")
        if found < len(set(identities)):
            raise SetupError(f"Only {found} of these ids were given up, so the others are not.")

    run_as_issuer(data, work)


@command.command("test", epilog=examples("chatkeep webhooks test crm"))
@click.argument("name")
@data_option
def test(name: str, *, data: Path | None) -> None:
    """Send a signed event "test" to a receiver.

    Now and once; says what came of it.
    """

    async def work(issuer: EmbeddedIssuer, settings: Settings) -> None:
        from chatkeep.webhooks.delivery import Webhooks, test_event  # noqa: PLC0415 -- slow to import

        everybody = Webhooks(issuer.db, settings, issuer.issuer.user_id).deliveries
        found = next((one for one in everybody if one.endpoint.name == name), None)
        if found is None:
            raise SetupError(f"WEBHOOKS does not name {name}.")
        reason = await found.send(test_event())
        if reason is not None:
            own = found.endpoint.prefix
            raise SetupError(f"{name} did not take it ({reason}): check {own}_URL and its log.")
        click.echo(f"{name} took it.")

    run_as_issuer(data, work)


@command.command("end", epilog=examples("chatkeep webhooks end crm"))
@click.argument("name")
@data_option
def end(name: str, *, data: Path | None) -> None:
    """End a receiver at once, and drop what waits for it.

    First take it out of WEBHOOKS at all servers: one that names it begins it again.
    """

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep.webhooks import records  # noqa: PLC0415 -- slow to import

        if not await records.end(issuer.db, name):
            raise SetupError(f"Nobody called {name} is told.")
        dropped = await records.drop_waiting(issuer.db)
        click.echo(f"{name} is told no more; {dropped} that waited are dropped.")

    run_as_issuer(data, work)


def _line(one: Dead) -> str:
    when = f"{one.died_at:%Y-%m-%d %H:%M}"
    return f"{one.id}  {one.name}  {one.event}  {when}  {one.reason}"
