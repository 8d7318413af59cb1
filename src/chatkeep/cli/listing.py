"""Lists of records, as commands print them: a line for each, or all of them as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import DataclassInstance

_Record = TypeVar("_Record", bound="DataclassInstance")

json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


def print_list(
    found: Sequence[_Record],
    line: Callable[[_Record], str],
    *,
    as_json: bool,
    nothing: str,
    json_value: Callable[[Any], object] = str,
) -> None:
    """Print a *line* of each record, or with *as_json* one array of them.

    *nothing* is what a person is told, on stderr, where there is none. *json_value* writes
    what JSON has no type for.
    """
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2, default=json_value))
        return
    for one in found:
        click.echo(line(one))
    if not found:
        click.echo(nothing, err=True)
