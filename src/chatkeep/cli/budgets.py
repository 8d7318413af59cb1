"""`chatkeep budgets`: who may use more or less than everybody, and what was used."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import TYPE_CHECKING

import click

from chatkeep.cli.listing import json_option, print_list
from chatkeep.cli.own_issuer import run_as_issuer, run_on_database
from chatkeep.cli.settings import data_option
from chatkeep.cli.words import examples
from chatkeep.config.budgets import dollars
from chatkeep.config.values import Refused, whole
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from chatkeep.budgets.administered import Kind, OwnLimits
    from chatkeep.budgets.overview import UsedOnDay
    from chatkeep.config import Settings
    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer

_role = click.option("--role", metavar="ROLE", help="Everybody with this role of their token.")
_user = click.option("--user", metavar="WHO", help="One person: an address, or an id.")


@click.group(
    "budgets",
    epilog=examples(
        "chatkeep budgets list",
        "chatkeep budgets set --user ana@example.com --cost-per-month 20",
        "chatkeep budgets set --role staff --tokens-per-day none",
        "chatkeep budgets used",
    ),
)
def command() -> None:
    """Who may use more or less than everybody.

    Also shows what was used. What everybody may use is in the settings BUDGET_TOKENS_PER_DAY
    and so on. What is set here goes before them at once, on every server, and what is said of
    a person goes before what is said of a role.
    """


@command.command("list", epilog=examples("chatkeep budgets list --json"))
@json_option
@data_option
def list_budgets(*, as_json: bool, data: Path | None) -> None:
    """List who has limits of their own; 500 at most."""

    async def work(db: Database, _: Settings) -> None:
        from chatkeep.budgets.administered import list_limits  # noqa: PLC0415 -- slow to import

        found = await list_limits(db)
        nobody = "Nobody: what the settings say counts for everybody."
        print_list(found, _line, as_json=as_json, nothing=nobody, json_value=_json)

    run_on_database(data, work)


@command.command(
    "set",
    epilog=examples(
        "chatkeep budgets set --user ana@example.com --cost-per-month 20 --tokens-per-day none",
        "# what everybody has, again",
        "chatkeep budgets set --user ana@example.com --cost-per-month default",
    ),
)
@_role
@_user
@click.option("--tokens-per-day", metavar="N", help="Tokens in a day (UTC).")
@click.option("--tokens-per-month", metavar="N", help="Tokens in a calendar month.")
@click.option("--tokens-per-run", metavar="N", help="Tokens in one answer.")
@click.option("--cost-per-day", metavar="USD", help="US dollars in a day (UTC).")
@click.option("--cost-per-month", metavar="USD", help="US dollars in a calendar month.")
@click.option("--cost-per-run", metavar="USD", help="US dollars in one answer.")
@data_option
def set_budget(
    *, role: str | None, user: str | None, data: Path | None, **wishes: str | None
) -> None:
    """Set limits of a role or a person.

    Each is an amount, "none" for no limit, or "default" for what everybody else has.
    """
    named = {name: _limit(name, text) for name, text in wishes.items() if text is not None}
    if not named:
        raise click.UsageError("Say at least one limit, such as --tokens-per-day 10000.")
    _require_one(role, user)

    async def work(db: Database, kind: Kind, name: str) -> None:
        from chatkeep.budgets.administered import set_limits  # noqa: PLC0415 -- slow to import

        click.echo(_line(await set_limits(db, kind, name, named)))

    _run_for(data, role, user, work)


@command.command("unset", epilog=examples("chatkeep budgets unset --role staff"))
@_role
@_user
@data_option
def unset(*, role: str | None, user: str | None, data: Path | None) -> None:
    """Let a role or a person have what everybody has."""
    _require_one(role, user)

    async def work(db: Database, kind: Kind, name: str) -> None:
        from chatkeep.budgets.administered import forget_limits  # noqa: PLC0415 -- slow to import

        if not await forget_limits(db, kind, name):
            raise SetupError("There are no limits of that role or person.")
        click.echo("Done: what the settings say counts again.")

    _run_for(data, role, user, work)


@command.command("used", epilog=examples("chatkeep budgets used --days 7"))
@click.option(
    "--days",
    type=click.IntRange(1, 400),
    default=30,
    show_default=True,
    help="How many days back, with today.",
)
@json_option
@data_option
def used(*, days: int, as_json: bool, data: Path | None) -> None:
    """Show what everybody together used on each day (UTC)."""

    async def work(db: Database, _: Settings) -> None:
        from chatkeep.budgets.overview import totals  # noqa: PLC0415 -- slow to import

        found = await totals(db, days=days)
        print_list(found, _day_line, as_json=as_json, nothing="Nothing was used.", json_value=_json)

    run_on_database(data, work)


def _require_one(role: str | None, user: str | None) -> None:
    if (role is None) == (user is None):
        raise click.UsageError("Say --role or --user.")


def _limit(name: str, text: str) -> Decimal | None:
    if text == "default":
        return None
    if text == "none":
        return Decimal("Infinity")
    try:
        return dollars(text) if name.startswith("cost") else Decimal(whole(0, 10**15)(text))
    except Refused as refused:
        option = "--" + name.replace("_", "-")
        raise click.UsageError(f'{option} {refused}, or "none", or "default".') from None


def _line(one: OwnLimits) -> str:
    said = {name: value for name, value in asdict(one).items() if name not in {"kind", "name"}}
    words = [
        f"{name.replace('_', '-')} {f'{value:f}' if value.is_finite() else 'none'}"
        for name, value in said.items()
        if value is not None
    ]
    return f"{one.kind} {one.name}: {', '.join(words) or 'as everybody'}"


def _day_line(one: UsedOnDay) -> str:
    tokens = one.prompt_tokens + one.completion_tokens
    return f"{one.day}  {one.answers} answers  {tokens} tokens  {one.cost:f} USD"


def _json(value: object) -> object:
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() else "none"
    return str(value)


def _run_for(
    data: Path | None,
    role: str | None,
    user: str | None,
    work: Callable[[Database, Kind, str], Awaitable[None]],
) -> None:
    from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- slow to import

    async def named(issuer: EmbeddedIssuer, _: Settings) -> None:
        if user is None:
            await work(issuer.db, "role", str(role))
        else:
            await work(issuer.db, "user", await user_id_named(issuer, user))

    run_as_issuer(data, named)
