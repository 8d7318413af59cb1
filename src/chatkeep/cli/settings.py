"""Settings as a command sees them: environment, then `.env.local`, under its own options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from chatkeep.config import Settings
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE: Final = ".env.local"

_Command = TypeVar("_Command", bound="Callable[..., object]")


def read_settings(**options: object) -> Settings:
    """Return the settings; *options* that are not None win over all.

    Raises:
        SetupError: with one sentence per problem.
    """
    return Settings.from_env(_environment(), **options)


def data_option(command: _Command) -> _Command:
    """Add `--data` to *command*."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="The data folder.  [default: .chatkeep, or CHATKEEP_DATA]",
    )(command)


def _environment() -> dict[str, str]:
    """The real environment goes before the file, which says the same for every start."""
    file = Path(_FILE)
    if not file.is_file():
        return dict(os.environ)
    from dotenv import dotenv_values  # noqa: PLC0415 -- only when there is a file

    try:
        found = dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{_FILE} cannot be read: {error}.") from error
    return {name: value for name, value in found.items() if value is not None} | dict(os.environ)
