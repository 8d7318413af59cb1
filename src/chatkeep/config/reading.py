"""How a setting is declared, and read from the environment."""

from __future__ import annotations

import os
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatkeep.config.values import Refused
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FILE = ".env.local"


def setting(name: str, parse: Callable[[str], Any], *aliases: str, default: Any = None) -> Any:  # noqa: ANN401 -- a dataclass field takes its type from its annotation
    """Declare a setting: its environment name, other names for it, and how it is read."""
    return field(default=default, metadata={"names": (name, *aliases), "parse": parse})


def read_environment() -> dict[str, str]:
    """Return the environment, and beneath it `.env.local` of the current folder.

    Raises:
        SetupError: the file is there and cannot be read.
    """
    file = Path(_FILE)
    if not file.is_file():
        return dict(os.environ)
    from dotenv import dotenv_values  # noqa: PLC0415 -- only when there is a file

    try:
        found = dotenv_values(file, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{_FILE} cannot be read: {error}.") from error
    return {name: value for name, value in found.items() if value is not None} | dict(os.environ)


def read_setting(
    name: str,
    metadata: Mapping[str, Any],
    environ: Mapping[str, str],
    values: dict[str, Any],
    problems: list[str],
) -> None:
    """Read one setting into *values*, or say in *problems* what is wrong with it."""
    found = {alias: environ[alias] for alias in metadata["names"] if environ.get(alias)}
    if not found:
        return
    read = []
    for alias, text in found.items():
        try:
            read.append(metadata["parse"](text))
        except Refused as refused:
            problems.append(f"{alias} {refused}.")
        except ValueError:  # whose text may quote the value, which may be a secret
            problems.append(f"{alias} cannot be read.")
    if any(one != read[0] for one in read[1:]):
        problems.append(f"{' and '.join(found)} mean the same and disagree: set only one of them.")
    elif read:
        values[name] = read[0]
