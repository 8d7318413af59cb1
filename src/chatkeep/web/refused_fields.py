"""Which members of a request do not fit its schema, as whoever sent it knows them.

Where a member may be of several kinds, Pydantic tells of each why it is not that one, under a
name of its own for the kind. Told is of the kind that what was sent comes closest to: where it
went wrong deepest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_AT_MOST: Final = 20
_LONGEST_FIELD: Final = 100

_Step = str | int


class _Refused(NamedTuple):
    """*path* is what there is of it in the request; *choice* is the member of several kinds."""

    path: tuple[_Step, ...]
    choice: tuple[_Step, ...] | None
    message: str


def refused_fields(found: Sequence[Mapping[str, Any]], body: object) -> list[dict[str, str]]:
    """Return field and message of what Pydantic *found* wrong with a request that had *body*.

    No value is told. The name of a member we do not know is the caller's own text: kept short,
    and storable.
    """
    refused = [_located(one, body) for one in found]
    deepest: dict[tuple[_Step, ...], int] = {}
    for one in refused:
        if one.choice is not None:
            deepest[one.choice] = max(deepest.get(one.choice, 0), len(one.path))
    told = [one for one in refused if one.choice is None or len(one.path) == deepest[one.choice]]
    return [{"field": _name(one.path), "message": one.message} for one in told[:_AT_MOST]]


def _located(one: Mapping[str, Any], body: object) -> _Refused:
    message = str(one["msg"]).removeprefix("Value error, ")
    place, *steps = one["loc"]
    if not steps:
        return _Refused((place,), None, message)
    if place != "body" or body is None:
        return _Refused(tuple(steps), None, message)
    path: tuple[_Step, ...] = ()
    choice = None
    is_missing = one["type"] == "missing"
    for is_last, step, is_sent in _walk(steps, body):
        if is_sent or (is_last and is_missing):
            path = (*path, step)
        elif choice is None:
            choice = path
    return _Refused(path or (place,), choice, message)


def _walk(steps: Sequence[_Step], value: object) -> Iterator[tuple[bool, _Step, bool]]:
    """Yield of each step whether it is the last, the step, and whether it is in what was sent."""
    for number, step in enumerate(steps, 1):
        is_sent = False
        match value, step:
            case dict(), str() if step in value:
                value, is_sent = value[step], True
            case list(), int() if step < len(value):
                value, is_sent = value[step], True
        yield number == len(steps), step, is_sent


def _name(path: Sequence[_Step]) -> str:
    name = ".".join(str(step) for step in path)
    return name[:_LONGEST_FIELD].encode("utf-8", "replace").decode()
