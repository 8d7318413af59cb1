"""`chatkeep claims`: how many old session tokens still come, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from chatkeep.cli.own_issuer import run_on_database
from chatkeep.cli.settings import data_option
from chatkeep.cli.words import examples

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chatkeep.claims import Drain
    from chatkeep.claims.counts import ClaimDrain, VersionDrain
    from chatkeep.config import Settings
    from chatkeep.db import Database

_HEADINGS: Final = ("version", "claim", "this hour", "last day", "30 days", "look-ups", "ends")


@click.command(
    "claims",
    short_help="Show which old session tokens still come, and when they end.",
    epilog=examples("chatkeep claims", "chatkeep claims --json | jq -r .fallback_ends_at"),
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object, hour by hour.")
@data_option
def command(*, as_json: bool, data: Path | None) -> None:
    """Show how many session tokens of each version had to be upgraded, and when they end.

    All servers on the database are counted together, a few seconds late.
    """
    import msgspec  # noqa: PLC0415 -- slow to import

    drain = run_on_database(data, _read)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(drain), indent=2))
        return
    for line in in_words(drain, now=datetime.now(UTC)):
        click.echo(line)


async def _read(db: Database, settings: Settings) -> Drain:
    from chatkeep.claims import declared_versions, read_drain  # noqa: PLC0415 -- slow to import

    return await read_drain(db, declared_versions(settings))


def in_words(drain: Drain, *, now: datetime) -> list[str]:
    """Return a table of *drain* for people, and what to do, a line each."""
    rows = [_HEADINGS]
    for version in drain.versions:
        ends = f"{version.ends_at:%Y-%m-%d %H:%M}" if version.ends_at else "-"
        rows.append((f"{version.version} {version.state}", "", *_numbers(version, now), ends))
        rows += [("", one.claim, *_numbers(one, now), "") for one in version.claims]
    return [*_aligned(rows), "", _advice(drain, now)]


def _numbers(one: VersionDrain | ClaimDrain, now: datetime) -> tuple[str, str, str, str]:
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    recent, day = (
        sum(count.tokens for count in one.hours if count.hour >= since)
        for since in (this_hour, now - timedelta(days=1))
    )
    return str(recent), str(day), str(one.tokens), str(one.reads)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < len(("version", "claim")) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _advice(drain: Drain, now: datetime) -> str:
    ends = drain.fallback_ends_at
    if all(one.state != "old" for one in drain.versions):
        return f"Version {drain.newest_version} is the only one declared: there is no fallback."
    if ends is None:
        return "No older token was issued or seen in 30 days: the fallbacks can be deleted."
    if ends <= now:
        return (
            f"The last older token ended {ends:%Y-%m-%d %H:%M} UTC: the fallbacks can be deleted."
        )
    return f"The fallbacks can be deleted after {ends:%Y-%m-%d %H:%M} UTC."
