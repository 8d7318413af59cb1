"""The records of an export file: JSON, one JSON object a line, or CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Record = dict[str, Any]


def read_records(path: Path, *names: str) -> list[Record]:
    """Return the records of the file, whichever of the three it is.

    *names* are columns of which every export of the kind has one.

    Raises:
        SetupError: it cannot be read, or is none of them, or of another kind.
    """
    found = read_json(path)
    # The only line of a file that has one line reads like a whole one.
    rows = [found] if isinstance(found, dict) and any(one in found for one in names) else found
    if not isinstance(rows, list):
        raise SetupError(f"{path} must hold a list of people.")
    records = _objects(path, rows)
    if records and not any(name in one for one in records for name in names):
        raise SetupError(
            f"Nothing in {path} is called {' or '.join(names)}. Is it the export that was asked"
            " for, and does it, if it is CSV, begin with the names of its columns?"
        )
    return records


def read_json(path: Path) -> list[Any] | Mapping[str, Any]:
    """Return the JSON value of the file, or a list of the records of its lines.

    Raises:
        SetupError: it cannot be read, or holds neither JSON nor CSV.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read: {error}.") from error
    if not text.lstrip().startswith(("{", "[")):
        return _rows(path, text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [_line(path, number, line) for number, line in _lines(text)]
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise SetupError(f"{path} must hold a list of people.")
    return value


def tables(path: Path, *names: str) -> list[list[Record]]:
    """Return the lists that the JSON object in the file has under *names*.

    Raises:
        SetupError: it is no such object, or lacks one: nobody would have what stands in it.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise SetupError(f"{path} must hold a JSON object with the tables {', '.join(names)}.")
    if missing := [name for name in names if name not in value]:
        found = ", ".join(value) or "nothing"
        raise SetupError(f"{path} has no table {' and no table '.join(missing)}, but {found}.")
    return [_objects(path, value[name] or []) for name in names]


def _objects(path: Path, found: object) -> list[Record]:
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise SetupError(f"{path} must hold lists of JSON objects.")
    return found


def _lines(text: str) -> list[tuple[int, str]]:
    # Not `splitlines`, which breaks at characters that stand in JSON as they are.
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _line(path: Path, number: int, line: str) -> Any:  # noqa: ANN401 -- JSON can be anything
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SetupError(f"{path}, line {number}: is no JSON.") from error


def _rows(path: Path, text: str) -> list[Record]:
    csv.field_size_limit(1 << 24)
    try:
        return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise SetupError(f"{path} cannot be read as CSV: {error}.") from error
