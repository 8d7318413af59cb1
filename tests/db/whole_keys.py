"""Whether a plan finds rows by their whole keys, for whoever there is and however much.

What a plan costs on few rows says nothing of many. So the plan itself is looked at: where a
statement says enough to name one row, an index must be given all of that, not a part of it
with the rest looked at row by row; and what an index is given must be its first columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

#: What else is as good as the key of one row, by what it must be given.
FEW: Final = {
    "runs_of_messages": frozenset({"user_id", "conversation_id", "message_id"}),
    "messages_answers": frozenset({"user_id", "conversation_id", "parent_id"}),
    "chatkit_items_of_messages": frozenset({"user_id", "conversation_id", "message_id"}),
    # One is made in a conversation, and fifty of a person wait.
    "runs_one_at_a_time": frozenset({"user_id", "conversation_id"}),
    "runs_waiting": frozenset({"user_id"}),
}

#: What does not go by a whole key, by how the statement begins, and why that may be.
MAY_BE: Final = {
    "with batch as ( select user_id, id from chat.conversations": "erases all, for minutes",
    "with recursive source as ( select c.user_id": "copies a conversation with all its files",
    "select object_key from chat.chatkit_attachments": "lists all the files of a person",
    "delete from chat.shares": "a person has few",
    "with changed as (update public.user_sessions": "ends one of a person's sessions",
    "select distinct q.user_id": "lists all that wait, once a second for all servers",
    "with moved as materialized": "reads a table that has one row a day",
    "with few as materialized (select user_id, id from chatkeep.personal_keys": "a chore",
    "update chatkeep.personal_keys": "of all that were used in a second, with one look",
}

_JOINS: Final = ("Join Filter", "Hash Cond", "Merge Cond")
_COLUMN: Final = r"\(?(\w+)\.(\w+)\)?(?:::\w+)?"
_EQUALS: Final = (re.compile(_COLUMN + r" = (?!\(hashed)"), re.compile(r" = " + _COLUMN))
_COMPARED: Final = re.compile(_COLUMN + r" (?:[<>=]|IS NULL)")
_ROW: Final = re.compile(r"ROW\((\w+)\.(\w+), ")

_INDEXES: LiteralString = """
select t.relname, i.relname, x.indisunique and x.indpred is null,
  array(select coalesce(a.attname, '') from unnest(x.indkey) with ordinality k (number, place)
    left join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.number
    where k.place <= x.indnkeyatts order by k.place)
from pg_index x join pg_class i on i.oid = x.indexrelid join pg_class t on t.oid = x.indrelid
join pg_namespace n on n.oid = t.relnamespace
where n.nspname in ('chat', 'chatkeep', 'public')
"""


@dataclass(frozen=True, slots=True)
class Indexes:
    """The indexes of a database: the columns of each, and which name one row of a table."""

    columns: dict[str, list[str]]
    keys: dict[str, list[frozenset[str]]]


def indexes_of(connection: psycopg.Connection) -> Indexes:
    """Return those of our schemas."""
    found = Indexes({}, {})
    for table, name, is_key, columns in connection.execute(_INDEXES).fetchall():
        found.columns[name] = columns
        if is_key and "" not in columns:
            found.keys.setdefault(table, []).append(frozenset(columns))
    return found


def detours(text: str, plan: dict[str, Any], indexes: Indexes) -> list[str]:
    """Name the steps of the verbose *plan* of a statement that look for rows of a known key."""
    if any(text.startswith(beginning) for beginning in MAY_BE):
        return []
    return [said for scan in _scans(plan, ()) for said in _of_scan(scan, indexes)]


def found_by(plan: dict[str, Any]) -> frozenset[str]:
    """Return the columns that an index is given the values of, in a plan of one table."""
    return frozenset(
        column
        for scan in _scans(plan, ())
        for column in scan.equals(*(one.get("Index Cond", "") for one in scan.by))
    )


@dataclass(frozen=True, slots=True)
class _Scan:
    """A step that reads a table, the indexes *by* which it does, and what joins it."""

    node: dict[str, Any]
    by: list[dict[str, Any]]
    joins: tuple[str, ...]

    @property
    def names(self) -> str:
        """Say which indexes."""
        return ", ".join(one["Index Name"] for one in self.by) or "no index"

    def equals(self, *texts: str) -> frozenset[str]:
        """Return the columns of the table that *texts* say the value of."""
        alias = self.node["Alias"]
        found = (match for text in texts for one in _EQUALS for match in one.finditer(text))
        return frozenset(match[2] for match in found if match[1] == alias)

    def compares(self, condition: str) -> set[str]:
        """Return the columns of the table that *condition* says anything of."""
        found = (match for one in (_COMPARED, _ROW) for match in one.finditer(condition))
        return {match[2] for match in found if match[1] == self.node["Alias"]}


def _scans(node: dict[str, Any], joins: tuple[str, ...]) -> Iterator[_Scan]:
    joins += tuple(node[name] for name in _JOINS if name in node)
    below = node.get("Plans", [])
    if "Relation Name" in node and node["Node Type"] != "ModifyTable":
        by = [one for one in (node, *_beneath(node)) if "Index Name" in one]
        yield _Scan(node, by, joins)
    for one in below:
        yield from _scans(one, joins)


def _beneath(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the indexes of a bitmap, which lie below the scan of the table."""
    for one in node.get("Plans", []):
        if one["Node Type"] in {"Bitmap Index Scan", "BitmapOr", "BitmapAnd"}:
            yield one
            yield from _beneath(one)


def _of_scan(scan: _Scan, indexes: Indexes) -> Iterator[str]:
    table, alias = scan.node["Relation Name"], scan.node["Alias"]
    conditions = [one.get("Index Cond", "") for one in scan.by]
    given = scan.equals(*conditions)
    known = given | scan.equals(scan.node.get("Filter", ""), *scan.joins)
    keys = indexes.keys.get(table, [])
    if any(key <= given for key in keys) or _finds_few(scan, given):
        return
    for key in keys:
        if key <= known:
            yield f"{alias} ({table}): one row of {sorted(key)} by {scan.names}"
    if lost := (known - given) & {"user_id", "conversation_id"}:
        yield f"{alias} ({table}): {sorted(lost)} looked at row by row, by {scan.names}"
    for step, condition in zip(scan.by, conditions, strict=True):
        used = scan.compares(condition)
        if skipped := set(indexes.columns[step["Index Name"]][: len(used)]) - used:
            yield f"{alias} ({table}): skips {sorted(skipped)} of {scan.names}"


def _finds_few(scan: _Scan, given: frozenset[str]) -> bool:
    names = [one["Index Name"] for one in scan.by]
    return bool(names) and all(name in FEW and FEW[name] <= given for name in names)
