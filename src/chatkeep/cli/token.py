"""`chatkeep token`: somebody's access token, for development."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import click

from chatkeep.cli.finding_people import require_user_id
from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.steps import Steps
from chatkeep.cli.words import examples
from chatkeep.errors import SetupError, TokenInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chatkeep.config import Settings


@click.command(
    "token",
    epilog=examples(
        "chatkeep token --user ana",
        'curl -H "Authorization: Bearer $(chatkeep token --user ana)" \\',
        "     http://127.0.0.1:8000/api/v1/chat",
    ),
)
@click.option("--user", required=True, metavar="ID", help="Who it speaks for: its `sub`.")
@click.option("--email", help="The e-mail address in it.  [default: none]")
@click.option("--role", default="authenticated", show_default=True, help="The role in it.")
@click.option(
    "--expires-in",
    type=click.IntRange(1, 30 * 86_400),
    default=3600,
    show_default=True,
    metavar="SECONDS",
    help="How long it is good for.",
)
@data_option
def command(user: str, email: str | None, role: str, expires_in: int, data: Path | None) -> None:
    """Print an access token for anybody, to try the API with. Not in production.

    The person need not have signed up: the token is theirs because this server signed it.
    """
    from chatkeep.cli.preparation import (  # noqa: PLC0415 -- slow
        bring_up_to_date,
        prepared,
        warn_of_new_folder,
    )
    from chatkeep.issuers import ROLES_OF_SERVERS  # noqa: PLC0415 -- as above

    settings = read_settings(data_folder=data)
    if settings.production:
        raise SetupError("ENVIRONMENT=production: tokens are for those who sign in.")
    require_user_id(user)
    if role in ROLES_OF_SERVERS:
        raise click.BadParameter("is a role that no person has", param_hint="--role")
    steps = Steps(sys.stderr, quiet=True)
    warn_of_new_folder(settings, steps)
    with prepared(settings, steps, "command") as complete:
        bring_up_to_date(complete, steps)
        claims = {"sub": user, "email": email or "", "role": role}
        click.echo(asyncio.run(_signed(complete, claims, expires_in)))


async def _signed(settings: Settings, claims: Mapping[str, object], life_s: int) -> str:
    """Sign as the server does, and see that it would let the token in."""
    from chatkeep import tokens  # noqa: PLC0415 -- slow to import
    from chatkeep.db import Database  # noqa: PLC0415 -- as above
    from chatkeep.ids import new_id  # noqa: PLC0415 -- as above
    from chatkeep.issuers import Issuers, StaticKeys, embedded_issuer  # noqa: PLC0415 -- as above
    from chatkeep.signing_keys import load_signing_keys  # noqa: PLC0415 -- as above

    db = Database(str(settings.database_url), pool_size=1, behind_pooler=settings.database_pooler)
    await db.open()
    try:
        keys = await load_signing_keys(db, str(settings.secret).encode())
    finally:
        await db.close()
    issuer = embedded_issuer(
        base_url=settings.base_url, keys=StaticKeys(keys.verifying), primary=True
    )
    now = int(time.time())
    standard = {"iss": issuer.rules.iss, "aud": "authenticated", "iat": now, "exp": now + life_s}
    rest = {"jti": new_id(), "aal": "aal1", "app_metadata": {}, "user_metadata": {}}
    token = tokens.issue({**standard, **claims, **rest}, keys.current)
    try:
        await Issuers([issuer]).authenticate(token)
    except TokenInvalid as error:
        raise click.BadParameter("is not what a user id looks like", param_hint="--user") from error
    return token
