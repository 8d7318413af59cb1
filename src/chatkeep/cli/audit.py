"""`chatkeep audit`: read the audit log, and find out whether it is whole."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from chatkeep.cli.own_issuer import own_issuer, run_on_database
from chatkeep.cli.settings import data_option
from chatkeep.cli.words import examples

if TYPE_CHECKING:
    from pathlib import Path

    from chatkeep.audit import Entry, Verification
    from chatkeep.config import Settings
    from chatkeep.db import Database

_BROKEN: Final = 1
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}


class _Since(click.ParamType[datetime]):
    """A moment, or how long ago: `2026-03-01`, `2026-03-01T12:00Z`, `90m`, `24h`, `7d`."""

    name = "when"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        text = str(value)
        try:
            if text[-1:] in _UNITS:
                return datetime.now(UTC) - timedelta(**{_UNITS[text[-1]]: int(text[:-1])})
            moment = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is neither a moment nor how long ago, like 24h.", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@click.group(
    "audit",
    short_help="Read the audit log, and verify that it is whole.",
    epilog=examples("chatkeep audit list --since 24h", "chatkeep audit verify"),
)
def command() -> None:
    """Read the audit log, and verify that nobody has changed it."""


@command.command(
    "list",
    epilog=examples(
        "chatkeep audit list --since 24h",
        "chatkeep audit list --user ana@example.com --action session.begun",
        "chatkeep audit list --json --limit 100000 > audit.jsonl",
    ),
)
@click.option("--user", metavar="WHO", help="Only about this person: an address or an id.")
@click.option("--action", metavar="NAME", help="Only of this action, like session.begun.")
@click.option(
    "--outcome", type=click.Choice(["succeeded", "refused"]), help="Only with this outcome."
)
@click.option("--since", type=_Since(), help="Only since then: 2026-03-01, 24h, 7d.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=100,
    show_default=True,
    metavar="N",
    help="How many at most.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object a line.")
@data_option
def list_command(
    *,
    user: str | None,
    limit: int,
    as_json: bool,
    data: Path | None,
    **filters: Any,  # noqa: ANN401 -- what click read
) -> None:
    """Show entries, newest first."""
    import msgspec  # noqa: PLC0415 -- slow to import

    async def shown(db: Database, settings: Settings) -> int:
        from chatkeep import audit  # noqa: PLC0415 -- slow to import

        filters["user_id"] = await _id_of(user, db, settings)
        count, before = 0, None
        while count < limit:
            wanted = min(limit - count, audit.AT_MOST)
            page = await audit.listed(db, **filters, before=before, limit=wanted)
            for one in page:
                click.echo(msgspec.json.encode(one).decode() if as_json else _in_words(one))
            count += len(page)
            if len(page) < wanted:
                break
            before = page[-1].number
        return count

    if not run_on_database(data, shown) and not as_json:
        click.echo("No such entries.", err=True)


@command.command(
    "verify",
    short_help="Look whether every entry is there as it was written.",
    epilog=examples(
        "chatkeep audit verify",
        "# against the end of the chain that was kept elsewhere",
        "chatkeep audit verify --head 1204:9f2c...",
    ),
)
@click.option(
    "--head",
    metavar="POSITION:DIGEST",
    help="An end that was kept elsewhere: the chain must go through it.",
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@data_option
def verify_command(*, head: str | None, as_json: bool, data: Path | None) -> None:
    """Look whether every entry is there as it was written; the exit code is 1 when not.

    Names the first entry that does not hold. Prints the end of the chain: kept outside of
    the database it also shows, later, whether an old backup of all of it was put back.
    """
    import msgspec  # noqa: PLC0415 -- slow to import

    from chatkeep import audit  # noqa: PLC0415 -- as above

    if head is not None and not audit.is_head(head):
        raise click.BadParameter("it has the form POSITION:DIGEST", param_hint="--head")

    async def looked(db: Database, settings: Settings) -> Verification:
        return await audit.verify(db, str(settings.secret).encode(), known_head=head)

    found = run_on_database(data, looked)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        for line in _verdict(found):
            click.echo(line)
    if found.broken is not None:
        sys.exit(_BROKEN)


async def _id_of(user: str | None, db: Database, settings: Settings) -> str | None:
    """Return whom *user* names: what is no address is an id, also of somebody deleted."""
    from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- slow to import

    if user is None or "@" not in user:
        return user
    async with own_issuer(db, settings) as issuer:
        return await user_id_named(issuer, user)


def _in_words(one: Entry) -> str:
    who = one.user_id or "-"
    by = f" by {one.actor}" if one.actor not in {None, one.user_id} else ""
    outcome = f"refused ({one.reason})" if one.outcome == "refused" else one.reason or ""
    place = " ".join(part for part in (one.address, one.device) if part)
    parts = (f"{one.at:%Y-%m-%d %H:%M:%S}", one.action, outcome, f"{who}{by}", place)
    return "  ".join(part for part in (str(one.number), *parts) if part)


def _verdict(found: Verification) -> list[str]:
    if found.broken is not None:
        what = "" if found.broken.number is None else f"entry {found.broken.number} "
        return [f"BROKEN: {what}{found.broken.problem}.", f"{found.entries} entries before hold."]
    lines = [f"{found.entries} entries, every one as it was written."]
    if found.waiting:
        lines.append(f"{found.waiting} more wait to be sealed: a running server does that.")
    if found.head:
        lines.append(f"End of the chain, to keep elsewhere: {found.head}")
    return lines
