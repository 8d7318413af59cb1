"""`chatkeep keys`: what a client of this server must be given, and the keys that sign."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from chatkeep.cli.listing import print_list
from chatkeep.cli.own_issuer import run_on_database
from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.steps import Steps
from chatkeep.cli.words import examples

if TYPE_CHECKING:
    from pathlib import Path

    from chatkeep.config import Settings
    from chatkeep.db import Database
    from chatkeep.signing_keys.changes import ListedKey, Rotation

_FILE = click.File("rb")
_LIKE_AN_OPTION = re.compile(r"-[A-Za-z0-9_-]{42}")


@click.group(
    "keys",
    invoke_without_command=True,
    short_help="Show the keys for clients; list, rotate, revoke and import those that sign.",
    epilog=examples(
        "chatkeep keys",
        "chatkeep keys --json | jq -r .publishable_key",
        "chatkeep keys list",
        "chatkeep keys rotate",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@data_option
@click.pass_context
def command(context: click.Context, *, as_json: bool, data: Path | None) -> None:
    """Show the address and the keys for createClient() of supabase-js.

    The publishable key may be in a web page. The secret key belongs on servers only.
    The commands below are about the keys that sign tokens.
    """
    if context.invoked_subcommand is not None:
        return
    from chatkeep.cli.preparation import (  # noqa: PLC0415 -- as above
        at_its_address,
        secret_of,
        warn_of_new_folder,
    )
    from chatkeep.issuance.supabase_keys import SupabaseKeys  # noqa: PLC0415 -- slow to import

    settings = read_settings(data_folder=data)
    if settings.secret is None:
        warn_of_new_folder(settings, Steps(sys.stderr, quiet=True))
    keys = SupabaseKeys.of(secret_of(settings).encode())
    base_url = at_its_address(settings).base_url
    shown = {
        "api_url": base_url,
        "publishable_key": keys.publishable,
        "secret_key": keys.secret,
        "jwks_url": f"{base_url}/auth/v1/.well-known/jwks.json",
    }
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    for name, value in shown.items():
        click.echo(f"{name:16} {value}")


@command.command("list", epilog=examples("chatkeep keys list", "chatkeep keys list --json"))
@click.option("--json", "as_json", is_flag=True, help="As one JSON array.")
@data_option
def list_command(*, as_json: bool, data: Path | None) -> None:
    """Show every key that signs tokens, will or did; nothing secret."""

    async def looked(db: Database, _settings: Settings) -> list[ListedKey]:
        from chatkeep.signing_keys import changes  # noqa: PLC0415 -- slow to import

        return await changes.listed(db)

    found = run_on_database(data, looked)
    nothing = "No key yet: the first start of the server makes one."
    print_list(found, _line, as_json=as_json, nothing=nothing, json_value=_in_utc)


@command.command(
    "rotate",
    short_help="Let the next key sign, and publish the one after it.",
    epilog=examples(
        "chatkeep keys rotate",
        "# somebody else knows the key that signs",
        "chatkeep keys rotate --now",
    ),
)
@click.option("--now", "at_once", is_flag=True, help="Without the wait, for an emergency.")
@data_option
def rotate_command(*, at_once: bool, data: Path | None) -> None:
    """Let the next key sign, and publish the one after it; no server restarts.

    The next key must have been published for SIGNING_KEY_WAIT before: the first call only
    publishes it, and says from when a second one lets it sign. With --now it signs at once:
    this server's own routes know it, but others that verify our tokens with a copy of the
    published keys may refuse new ones for ten minutes or more.
    """

    async def rotated(db: Database, settings: Settings) -> Rotation:
        from chatkeep.signing_keys import changes  # noqa: PLC0415 -- slow to import

        wait = timedelta(seconds=settings.signing_key_wait_s)
        secret = str(settings.secret).encode()
        return await changes.rotate(db, secret, wait=wait, at_once=at_once)

    done = run_on_database(data, rotated)
    if done.ready_at is not None:
        click.echo(f"Published {done.standby}; {done.current} still signs.")
        click.echo(f"Run this again after {_in_utc(done.ready_at)}.")
        return
    click.echo(f"{done.current} signs from now on.")
    click.echo(f"{done.previous} is published while its tokens live; {done.standby} is next.")


class _TakesKeyId(click.Command):
    """A thumbprint (RFC 7638) may begin with a hyphen, in base64url, and is no option then."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words of a call; what looks like a key's id comes after the options."""
        ids = [one for one in args if _LIKE_AN_OPTION.fullmatch(one)]
        if ids and "--" not in args:
            args = [*(one for one in args if one not in ids), "--", *ids]
        return super().parse_args(ctx, args)


@command.command(
    "revoke",
    cls=_TakesKeyId,
    short_help="Take a key out of use, and what it signed.",
    epilog=examples("chatkeep keys revoke KID"),
)
@click.argument("kid")
@data_option
def revoke_command(*, kid: str, data: Path | None) -> None:
    """Take a key out of use: every token that it signed is refused at once.

    Access tokens and session cookies of that key end. Whoever has a refresh token gets a new
    access token with it; whoever has only a cookie signs in again.
    """

    async def revoked(db: Database, _settings: Settings) -> None:
        from chatkeep.signing_keys import changes  # noqa: PLC0415 -- slow to import

        await changes.revoke(db, kid)

    run_on_database(data, revoked)
    click.echo(f"{kid} is revoked: what it signed is refused.")


@command.command(
    "import",
    short_help="Keep a key that was made elsewhere.",
    epilog=examples(
        "# to sign when its turn comes: P-256, RSA of 2,048 bits or more, Ed25519",
        "chatkeep keys import signing-key.pem",
        "",
        "# to take tokens that were signed with a shared secret before",
        "chatkeep keys import --shared-secret secret.txt",
    ),
)
@click.option(
    "--shared-secret", is_flag=True, help="It is an HS256 secret, as text; it only verifies."
)
@click.argument("file", type=_FILE)
@data_option
def import_command(*, file: click.File, shared_secret: bool, data: Path | None) -> None:
    """Keep a key that was made elsewhere; FILE is a path, or - for standard input.

    A private key in PEM waits as standby until its turn. A shared secret (HS256) verifies
    what a former issuer of the same address signed, and never signs.
    """
    content: bytes = file.read()  # type: ignore[attr-defined]  # click hands over the opened file

    async def imported(db: Database, settings: Settings) -> tuple[str, str]:
        from chatkeep.signing_keys import changes  # noqa: PLC0415 -- slow to import
        from chatkeep.signing_keys.imported import (  # noqa: PLC0415 -- as above
            private_key_of,
            shared_secret_of,
        )

        read = shared_secret_of if shared_secret else private_key_of
        key = read(content, str(settings.secret).encode())
        await changes.add(db, key)
        return key.kid, key.algorithm

    kid, algorithm = run_on_database(data, imported)
    what = (
        "it verifies, and never signs" if shared_secret else "`chatkeep keys rotate` lets it sign"
    )
    click.echo(f"Imported {kid} ({algorithm}): {what}.")


@command.command(
    "reencrypt",
    short_help="Encrypt what is kept after CHATKEEP_SECRET was changed.",
    epilog=examples(
        "# with CHATKEEP_SECRET set to the new secret, and all servers stopped",
        "chatkeep keys reencrypt --old-secret old-secret.txt",
    ),
)
@click.option(
    "--old-secret",
    type=_FILE,
    required=True,
    metavar="FILE",
    help="Where the secret that was used so far stands; - is standard input.",
)
@data_option
def reencrypt_command(*, old_secret: click.File, data: Path | None) -> None:
    """Encrypt what is kept under CHATKEEP_SECRET, after that was changed.

    That is signing keys, the key of the audit log's chain, and authenticator secrets. What
    only comes from the secret is new with it: the API keys change, and refresh tokens, codes
    and links that are out are refused.
    """
    old: bytes = old_secret.read()  # type: ignore[attr-defined]  # click hands over the opened file

    async def done(db: Database, settings: Settings) -> int:
        from chatkeep.reencryption import reencrypt  # noqa: PLC0415 -- slow to import

        secrets = old.removesuffix(b"\n").removesuffix(b"\r"), str(settings.secret).encode()
        return await reencrypt(db, old=secrets[0], new=secrets[1])

    click.echo(f"{run_on_database(data, done)} secrets are encrypted under the new one.")


def _line(one: ListedKey) -> str:
    return f"{one.status:9} {one.algorithm:6} {one.kid}  {_since(one)}"


def _since(one: ListedKey) -> str:
    match one.status:
        case "current":
            return f"signs since {_in_utc(one.signs_since)}"
        case "standby":
            return f"published since {_in_utc(one.created_at)}"
        case "previous":
            over = one.until is not None and one.until <= datetime.now(UTC)
            return f"{'verified' if over else 'verifies'} until {_in_utc(one.until)}"
        case _:
            return f"since {_in_utc(one.revoked_at)}"


def _in_utc(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
