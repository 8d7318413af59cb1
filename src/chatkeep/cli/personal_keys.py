"""`chatkeep users keys` and `revoke-key`: people's API keys, for whoever runs the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from chatkeep.cli.listing import json_option, print_list
from chatkeep.cli.own_issuer import ACTOR, run_as_issuer
from chatkeep.cli.settings import data_option
from chatkeep.cli.words import examples, printable
from chatkeep.errors import NotFound, SetupError

if TYPE_CHECKING:
    from pathlib import Path
    from uuid import UUID

    from chatkeep.config import Settings
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.personal_keys.records import PersonalKey

_who = click.argument("who", metavar="WHO")


@click.command("keys", epilog=examples("chatkeep users keys ana@example.com --json"))
@_who
@json_option
@data_option
def list_keys(*, who: str, as_json: bool, data: Path | None) -> None:
    """List somebody's API keys, the newest first.

    Also what ended in the last 90 days. WHO is an address, or an id, also one of another
    issuer's. Nobody can be shown a key again.
    """

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- slow to import
        from chatkeep.personal_keys import records  # noqa: PLC0415 -- as above

        found = await records.list_own(issuer.db, await user_id_named(issuer, who))
        print_list(found, _line, as_json=as_json, nothing="No API keys.")

    run_as_issuer(data, work)


@click.command(
    "revoke-key",
    epilog=examples(
        "chatkeep users revoke-key ana@example.com 0199f1c2-7a6e-7b1f-9d3c-5a0e6f0d2b11"
    ),
)
@_who
@click.argument("key_id", metavar="ID", type=click.UUID)
@click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
@data_option
def revoke_key(*, who: str, key_id: UUID, reason: str | None, data: Path | None) -> None:
    """Revoke one of somebody's API keys, at once and everywhere.

    WHO is an address, or an id, also one of another issuer's; `chatkeep users keys` has the ID.
    """

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- slow to import
        from chatkeep.personal_keys import records  # noqa: PLC0415 -- as above

        user_id = await user_id_named(issuer, who)
        try:
            await records.revoke(
                issuer.db, user_id, key_id, actor=ACTOR, reason=reason or "revoked_by_admin"
            )
        except NotFound:
            raise SetupError("They have no such key, or it has ended.") from None
        click.echo("Revoked.")

    run_as_issuer(data, work)


def _line(one: PersonalKey) -> str:
    used = "never" if one.last_used_at is None else f"{one.last_used_at:%Y-%m-%d %H:%M}"
    state = f"expires {one.expires_at:%Y-%m-%d}"
    if one.revoked_at is not None:
        state = f"ended {one.revoked_at:%Y-%m-%d}: {one.reason}"
    elif one.ended_at is not None:
        state = f"expired {one.expires_at:%Y-%m-%d}"
    return printable(
        f"{one.id}  {one.shown}…  {one.name}  {','.join(one.scopes)}  used {used}  {state}"
    )
