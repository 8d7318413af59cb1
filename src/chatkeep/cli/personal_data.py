"""`chatkeep users export` and `erase`: everything a person has, for whoever runs the server."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from chatkeep.cli.own_issuer import ACTOR, run_as_issuer
from chatkeep.cli.settings import data_option
from chatkeep.cli.words import examples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chatkeep.config import Settings
    from chatkeep.db import Database
    from chatkeep.files.stored import StoredFiles
    from chatkeep.issuance import EmbeddedIssuer

_who = click.argument("who", metavar="WHO")


@click.command(
    "export",
    short_help="Write everything somebody has into a file.",
    epilog=examples("chatkeep users export ana@example.com ana.json"),
)
@_who
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
def export_user(*, who: str, file: Path, data: Path | None) -> None:
    """Write everything somebody has into FILE, as JSON: for them, not to look around in.

    WHO is an address, or an id, also one of another issuer's.
    """

    async def work(issuer: EmbeddedIssuer, settings: Settings) -> None:
        number = await _export(issuer, settings, who, file)
        click.echo(f"Everything of {who} is in {file}. Conversations: {number}")

    run_as_issuer(data, work)


@click.command("erase", epilog=examples("chatkeep users erase ana@example.com"))
@_who
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
def erase_user(*, who: str, yes: bool, data: Path | None) -> None:
    """Erase everything somebody said, was told and chose. It cannot be undone.

    The account stays: `chatkeep users delete` deletes it.
    """

    async def work(issuer: EmbeddedIssuer, settings: Settings) -> None:
        from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- as above
        from chatkeep.cli.users import require_yes  # noqa: PLC0415 -- it has this command
        from chatkeep.personal_data import erasure, exports  # noqa: PLC0415 -- slow to import

        user_id = await user_id_named(issuer, who)
        found = await exports.belongings(issuer.db, user_id)
        require_yes(f"Erase everything of {who} (conversations: {found.conversations})?", yes=yes)
        stored = _stored_files(settings, issuer.db)
        label = "Conversations"
        with click.progressbar(length=found.conversations, label=label, file=sys.stderr) as bar:
            erased = await erasure.erase(
                issuer.db, user_id, by=None, actor=ACTOR, stored=stored, tell=bar.update
            )
        click.echo(f"Everything of {who} is erased. Conversations: {erased.conversations}")

    run_as_issuer(data, work)


async def _export(issuer: EmbeddedIssuer, settings: Settings, who: str, file: Path) -> int:
    from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- as above
    from chatkeep.personal_data import exports  # noqa: PLC0415 -- slow to import
    from chatkeep.web import rest_exports  # noqa: PLC0415 -- as above

    user_id = await user_id_named(issuer, who)
    found = await exports.belongings(issuer.db, user_id)
    total = found.conversations
    with (
        _new(file) as into,
        click.progressbar(length=total, label="Conversations", file=sys.stderr) as bar,
    ):
        stored = _stored_files(settings, issuer.db)
        pieces = rest_exports.account(stored, user_id, found, wrote=lambda: bar.update(1))
        async for piece in pieces:
            into.write(piece)
    await exports.note_export(issuer.db, user_id, by=None, actor=ACTOR)
    return total


def _stored_files(settings: Settings, db: Database) -> StoredFiles:
    from chatkeep.files import FileLimits  # noqa: PLC0415 -- slow to import
    from chatkeep.files.buckets import bucket_of  # noqa: PLC0415 -- as above
    from chatkeep.files.stored import StoredFiles  # noqa: PLC0415 -- as above

    nothing_more = FileLimits(size=0, types=())
    return StoredFiles(db, nothing_more, bucket_of(settings))


@contextmanager
def _new(file: Path) -> Iterator[BinaryIO]:
    """Lend a new *file* that nobody else can read; take away what was not finished."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.BadParameter(f"{file} is there already", param_hint="FILE") from None
    except OSError as error:
        why = f"{file} cannot be made: {error.strerror}"
        raise click.BadParameter(why, param_hint="FILE") from error
    with os.fdopen(descriptor, "wb") as into:
        try:
            yield into
        except BaseException:
            file.unlink(missing_ok=True)
            raise
