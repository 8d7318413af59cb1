"""`chatkeep mail`: whether mail reaches people."""

from __future__ import annotations

import asyncio

import click

from chatkeep.cli.settings import read_settings
from chatkeep.cli.words import examples


@click.group("mail", epilog=examples("chatkeep mail test you@example.com"))
def command() -> None:
    """Look at the mail that people are sent."""


@command.command("test", epilog=examples("chatkeep mail test you@example.com"))
@click.argument("address")
def test(address: str) -> None:
    """Send a test mail to ADDRESS, and say what the mail server answered.

    Nothing is queued: what goes wrong is said at once. Works while a server runs and while
    none does.
    """
    from chatkeep.mail.checks import send_test  # noqa: PLC0415 -- slow to import

    place = asyncio.run(send_test(read_settings(), address))
    click.echo(f"Sent to {address} through {place}. If it does not arrive, look into spam.")
