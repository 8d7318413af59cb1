"""How a setting is declared, and read from the environment."""

from __future__ import annotations

import os
import re
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from chatkeep.config.values import Refused
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_FILE = ".env.local"
#: What Kubernetes tells all of a service, which may be called mcp-shop, or mcp-shop-2.
_OF_A_SERVICE = re.compile(
    r".+_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?"
    r"|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class Named(Protocol):
    """Something of which there may be several, each with settings under a name of its own."""

    @property
    def prefix(self) -> str:
        """How the names of its settings begin."""


_Named = TypeVar("_Named", bound=Named)


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


def find_strays(
    environ: Mapping[str, str], own: Collection[str], *, every: str, begins: tuple[str, ...]
) -> set[str]:
    """Return the names in *environ* that are a setting of some name, or would be of one of ours.

    The first begin as the pattern *every* and end in one of *own*; the others begin with one of
    *begins*.
    """
    ours = re.compile(f"{every}({'|'.join(own)})")
    return {
        name
        for name, value in environ.items()
        if value
        and (
            ours.fullmatch(name) or (name.startswith(begins) and not _OF_A_SERVICE.fullmatch(name))
        )
    }


def read_named(
    make: Callable[..., _Named],
    own: Mapping[str, tuple[str, Callable[[str], Any]]],
    names: tuple[str, ...],
    environ: Mapping[str, str],
    problems: list[str],
    *,
    listed: str,
    elsewhere: Collection[str] = (),
) -> tuple[_Named, ...]:
    """Read what is set of each of *names*, which the setting *listed* lists.

    *own* has, by how their names end, what members their settings are and how they are read;
    *make* takes the name and those that are set. A setting that could be one of these, is not
    read *elsewhere*, and is of none, is a problem, and so is one of theirs that there is not:
    what was to be narrowed by it would be wide open.
    """
    every = make(name="x").prefix.removesuffix("X")
    begins = tuple(f"{make(name=name).prefix}_" for name in names)
    strays = find_strays(environ, own, every=f"{every}.+_", begins=begins).difference(elsewhere)
    made = []
    for name in names:
        said: dict[str, Any] = {}
        for ending, (member, parse) in own.items():
            full = f"{make(name=name).prefix}_{ending}"
            read_setting(member, {"names": [full], "parse": parse}, environ, said, problems)
            strays.discard(full)
        made.append(make(name=name, **said))
    problems += [
        f"{name} belongs to no name in {listed}."
        if name.endswith(tuple(f"_{ending}" for ending in own))
        else f"{name} is no setting of a name in {listed}: there are {', '.join(own)}."
        for name in sorted(strays)
    ]
    return tuple(made)
