"""`chatkeep keys`: what a client of this server must be given."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from chatkeep.cli.settings import data_option, read_settings
from chatkeep.cli.words import examples

if TYPE_CHECKING:
    from pathlib import Path


@click.command(
    "keys",
    epilog=examples(
        "chatkeep keys",
        "chatkeep keys --json | jq -r .publishable_key",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@data_option
def command(*, as_json: bool, data: Path | None) -> None:
    """Show the address and the keys for createClient() of supabase-js.

    The publishable key may be in a web page. The secret key belongs on servers only.
    """
    from chatkeep.api_keys import ApiKeys  # noqa: PLC0415 -- slow to import
    from chatkeep.cli.preparation import at_its_address, secret_of  # noqa: PLC0415 -- as above

    settings = read_settings(data_folder=data)
    keys = ApiKeys.of(secret_of(settings).encode())
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
