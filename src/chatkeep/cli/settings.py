"""Settings as a command sees them: environment, then `.env.local`, under its own options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from chatkeep.config import Settings, read_environment

if TYPE_CHECKING:
    from collections.abc import Callable

_Command = TypeVar("_Command", bound="Callable[..., object]")


def read_settings(**options: object) -> Settings:
    """Return the settings; *options* that are not None win over all.

    Raises:
        SetupError: with one sentence per problem.
    """
    return Settings.from_env(read_environment(), **options)


def data_option(command: _Command) -> _Command:
    """Add `--data` to *command*."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False, readable=False),
        metavar="DIR",
        help="The data folder.  [default: .chatkeep, or CHATKEEP_DATA]",
    )(command)
