"""`chatkeep sessions`: where people are signed in, and ending it, for whoever runs the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chatkeep.cli.listing import json_option, print_list
from chatkeep.cli.own_issuer import ACTOR, run_as_issuer
from chatkeep.cli.settings import data_option
from chatkeep.cli.users import require_yes
from chatkeep.cli.words import examples, printable
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from chatkeep.config import Settings
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.sessions.administration import SessionOfSomebody

_user = click.option(
    "--user", metavar="WHO", help="Whose: an address, or an id of whichever issuer."
)
_reason = click.option("--reason", metavar="TEXT", help="Why, for the audit log.")


@click.group(
    "sessions",
    short_help="See where people are signed in, and end it at once.",
    epilog=examples(
        "chatkeep sessions list --user ana@example.com",
        "chatkeep sessions revoke 0199f1c2-7a6e-7b1f-9d3c-5a0e6f0d2b11",
        "chatkeep sessions revoke-all --everybody",
    ),
)
def command() -> None:
    """See where people are signed in, and end it at once on every server.

    Sessions of every issuer. What is done is in the audit log, by "operator".
    """


@command.command("list", epilog=examples("chatkeep sessions list --user ana@example.com"))
@_user
@click.option("--ended", is_flag=True, help="Also what has ended.")
@json_option
@data_option
def list_sessions(*, user: str | None, ended: bool, as_json: bool, data: Path | None) -> None:
    """List sessions, last used first; 500 at most."""

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- slow to import
        from chatkeep.sessions.administration import list_sessions_of  # noqa: PLC0415 -- as above

        whose = await user_id_named(issuer, user) if user else None
        found = await list_sessions_of(issuer.db, whose, ended=ended)
        nothing = "Nobody is signed in." if user is None else "Signed in nowhere."
        print_list(found, _line, as_json=as_json, nothing=nothing)

    run_as_issuer(data, work)


@command.command(
    "revoke", epilog=examples("chatkeep sessions revoke 0199f1c2-7a6e-7b1f-9d3c-5a0e6f0d2b11")
)
@click.argument("session_id", metavar="ID", type=click.UUID)
@_reason
@data_option
def revoke(*, session_id: UUID, reason: str | None, data: Path | None) -> None:
    """End one session, at once and everywhere."""

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep.sessions.administration import end_session_of  # noqa: PLC0415 -- slow

        why = reason or "revoked"
        if not await end_session_of(issuer.db, None, session_id, actor=ACTOR, reason=why):
            raise SetupError("There is no such session, or it has ended.")
        click.echo("Ended.")

    run_as_issuer(data, work)


@command.command(
    "revoke-all",
    epilog=examples(
        "chatkeep sessions revoke-all --user ana@example.com",
        "chatkeep sessions revoke-all --everybody --reason 'secret was published'",
    ),
)
@_user
@click.option("--everybody", is_flag=True, help="Of everybody, at every issuer.")
@_reason
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
def revoke_all(
    *, user: str | None, everybody: bool, reason: str | None, yes: bool, data: Path | None
) -> None:
    """End every session and token of somebody, or of everybody. They may sign in again."""
    if (user is None) != everybody:
        raise click.UsageError("Say --user or --everybody.")
    if everybody:
        require_yes("Sign everybody out?", yes=yes)

    async def work(issuer: EmbeddedIssuer, settings: Settings) -> None:
        from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- as above
        from chatkeep.sessions import administration as session_administration  # noqa: PLC0415 -- slow to import

        if user is None:
            ended = await session_administration.force_everybody_out(
                issuer.db,
                issuer.revocations,
                settings.issuer_names,
                actor=ACTOR,
                reason=reason or "everybody_out",
            )
        else:
            ended = await session_administration.force_out(
                issuer.db,
                issuer.revocations,
                await user_id_named(issuer, user),
                actor=ACTOR,
                reason=reason or "forced_out",
            )
        click.echo(f"{ended} sessions ended.")

    run_as_issuer(data, work)


def _line(one: SessionOfSomebody) -> str:
    state = "" if one.is_active else f"  ended: {one.reason or 'expired'}"
    where = f"{one.device or '-'}  {one.address or '-'}"
    return printable(
        f"{one.id}  {one.last_seen_at:%Y-%m-%d %H:%M}  {one.user_id}  {one.issuer}  {where}{state}"
    )
