"""`chatkeep version`."""

from __future__ import annotations

import click

import chatkeep


@click.command("version")
def command() -> None:
    """Print the version."""
    click.echo(chatkeep.__version__)
