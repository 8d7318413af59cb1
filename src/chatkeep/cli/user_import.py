"""`chatkeep users import`: people who move here from another server."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from chatkeep.cli.own_issuer import run_as_issuer
from chatkeep.cli.settings import data_option
from chatkeep.cli.words import examples
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chatkeep.config import Settings
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.user_imports import Arrival, Outcome, Report, Skipped

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_SOURCES: Final = ("supabase", "better-auth", "auth0")
_SHOWN_NOTES: Final = 20


@click.command(
    "import",
    short_help="Take people in from another server, with their passwords.",
    epilog=examples(
        "# what would happen, and to whom not",
        "chatkeep users import users.csv --from supabase --identities identities.csv --dry-run",
        "",
        "chatkeep users import users.ndjson --from auth0 --report report.ndjson",
        "",
        "# straight from the tables of Better Auth",
        "chatkeep users import --from better-auth --database-url postgresql://...",
    ),
)
@click.argument("file", type=_FILE, required=False)
@click.option(
    "--from",
    "source",
    type=click.Choice(_SOURCES),
    required=True,
    help="Which server exported it.",
)
@click.option("--identities", type=_FILE, help="The table auth.identities of Supabase.")
@click.option("--database-url", metavar="URL", help="Better Auth's database, in place of a file.")
@click.option("--confirmed", is_flag=True, help="Count every address as confirmed.")
@click.option("--dry-run", is_flag=True, help="Look at everybody and write nothing.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write what became of each person, one JSON object a line.",
)
@click.option("--json", "as_json", is_flag=True, help="Say the counts as one JSON object.")
@data_option
def import_users(  # noqa: PLR0913 -- the options of the command
    *,
    file: Path | None,
    source: str,
    identities: Path | None,
    database_url: str | None,
    confirmed: bool,
    dry_run: bool,
    report: Path | None,
    as_json: bool,
    data: Path | None,
) -> None:
    """Take people in from another server, with their ids, passwords and identities.

    They go on signing in with the passwords they have. Whoever is here already stays as they
    are, so a second run changes nothing and a broken one goes on. Passwords are taken as
    hashes of bcrypt, argon2 or scrypt; roles that they had elsewhere are not.
    """
    found = _read(source, file, identities, database_url)
    if not found:
        raise SetupError("There is nobody in it.")

    with _written(report) as write, _shown(len(found)) as show:

        def progress(outcomes: Sequence[Outcome]) -> None:
            write(outcomes)
            show(len(outcomes))

        async def work(issuer: EmbeddedIssuer, _: Settings) -> Report:
            from chatkeep.user_imports import Import  # noqa: PLC0415 -- slow to import

            run = Import(issuer, source, dry=dry_run, confirmed=confirmed)
            return await run.run(found, progress)

        outcome = run_as_issuer(data, work)
    _show(outcome, dry_run=dry_run, as_json=as_json)


def _read(
    source: str, file: Path | None, identities: Path | None, database_url: str | None
) -> list[tuple[str, Arrival | Skipped]]:
    from chatkeep.user_imports import auth0, better_auth, files, supabase  # noqa: PLC0415 -- slow

    if (file is None) == (database_url is None):
        raise click.UsageError("Name a file, or with --from better-auth a --database-url.")
    if database_url is not None and source != "better-auth":
        raise click.UsageError("--database-url is for --from better-auth.")
    if identities is not None and source != "supabase":
        raise click.UsageError("--identities is for --from supabase.")
    if file is None:
        return list(better_auth.arrivals(*better_auth.read_database(str(database_url))))
    if source == "better-auth":
        return list(better_auth.arrivals(*files.tables(file, "user", "account")))
    if source == "auth0":
        return list(auth0.arrivals(files.read_records(file, "user_id", "_id")))
    theirs = files.read_records(identities, "user_id") if identities is not None else []
    return list(supabase.arrivals(files.read_records(file, "id"), theirs))


@contextmanager
def _written(path: Path | None) -> Iterator[Callable[[Sequence[Outcome]], None]]:
    """Keep what becomes of people in the file, and have it there before anybody is taken in.

    What was written stays when the run ends early: a second one tells of no password that it
    could not take.

    Raises:
        SetupError: the file cannot be written.
    """
    if path is None:
        yield lambda _: None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"The report cannot be written: {error.strerror}: {path}.") from error

    def write(outcomes: Sequence[Outcome]) -> None:
        file.writelines(f"{json.dumps(asdict(one), default=str)}\n" for one in outcomes)
        file.flush()

    with file:
        yield write


@contextmanager
def _shown(total: int) -> Iterator[Callable[[int], None]]:
    """Show people at a terminal how far it is."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, label="People", file=sys.stderr) as bar:
        yield bar.update


def _show(report: Report, *, dry_run: bool, as_json: bool) -> None:
    counts = {
        "imported": report.count("imported"),
        "already_here": report.count("already_here"),
        "skipped": report.count("skipped"),
    }
    if as_json:
        click.echo(json.dumps({**counts, "dry_run": dry_run, "notes": dict(report.notes())}))
        return
    would = "would be " if dry_run else ""
    click.echo(f"{counts['imported']} {would}imported, {counts['already_here']} already here,")
    click.echo(f"{counts['skipped']} {would}skipped.")
    for note, times in report.notes().most_common(_SHOWN_NOTES):
        click.echo(f"{times:8} {note}")
