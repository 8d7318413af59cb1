"""What a migration may do to tables that servers of the version before are using meanwhile.

Each runs while those serve, and must leave them what they need; see the how-to for upgrades.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from chatkeep import sql
from chatkeep.sql.migrations import OLDEST_READER

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSIONS: Final = Path(str(sql.__file__)).parent / "versions"
#: Those before were made when nobody ran an older version, and are what they are.
RULED_SINCE: Final = "0024"

_TABLE: Final = r"(?:if (?:not )?exists )?(?:only )?(?P<table>[\w.]+)"
#: What takes something away that an older server may use: in a revision of its own, later. None
#: uses that whoever migrates may hand over functions meanwhile, which is taken back each time.
TAKES_AWAY: Final = re.compile(
    r"\bdrop (?:table|column|function|view|schema|role|default)\b|\brename\b"
    r"|\brevoke (?!all on (?:function|table)\b.*\bfrom public\b"
    r"|create on schema \w+ from chatkeep_\w+;|[\w, ]+ from %i', current_user\))"
    r"|\bset not null\b|\balter column \w+ (?:set data )?type\b"
)
#: What holds up everybody on a table that has rows, for as long as it has rows to look at.
LOOKS_AT_ALL_ROWS: Final = {
    "an index made with the table locked, and not listed in `sql/indexes.py`": re.compile(
        rf"\bcreate (?:unique )?index [\w. ]*?\bon {_TABLE}"
    ),
    "a constraint that is not `not valid`": re.compile(
        rf"\balter table {_TABLE}\s+add (?:constraint \w+ )?"
        r"(?:check|foreign key|unique|primary key)(?![^;]*\bnot valid\b)"
    ),
    "a column without a default that older servers could leave out": re.compile(
        rf"\balter table {_TABLE}[^;]*?add column (?:if not exists )?\w+ [^,;]*?\bnot null\b"
        r"(?![^,;]*\bdefault\b)"
    ),
    "a default that is another one for each row": re.compile(
        rf"\balter table {_TABLE}[^;]*?add column [^,;]*?\bdefault (?:gen_random_uuid|random"
        r"|clock_timestamp|nextval)"
    ),
    "a whole table locked": re.compile(rf"\block (?:table )?{_TABLE}"),
    "every row written anew": re.compile(rf"\bupdate {_TABLE} set\b(?![^;]*\bwhere\b)"),
}


def broken_rules(source: str) -> list[str]:
    """Return what the upgrade in *source* does that servers of the version before would feel."""
    tree = ast.parse(source)
    apart = {id(node) for one in _of_the_way_back(tree) for node in ast.walk(one)}
    said = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart
    ]
    text = " ".join(re.sub(r"--.*", "", "; ".join(said[1:])).lower().split())
    made = set(re.findall(r"\bcreate table (?:if not exists )?([\w.]+)", text))
    found = [
        f"{what}: {match['table']}"
        for what, pattern in LOOKS_AT_ALL_ROWS.items()
        for match in pattern.finditer(text)
        if match["table"] not in made
    ]
    # What is taken away was needed by no server from this revision on, so none may be older.
    named = [one.value for one in tree.body if isinstance(one, ast.Assign) and _names(one)]
    since = ast.literal_eval(named[0]) if named else "9999"
    if TAKES_AWAY.search(text) and since > OLDEST_READER:
        found.append(f"takes away: {TAKES_AWAY.search(text)}")
    return found


def _of_the_way_back(tree: ast.Module) -> list[ast.stmt]:
    """Return `downgrade`, and the constants that only it uses."""
    back = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "downgrade"]
    for_it = _read(back) - _read([n for n in tree.body if n not in back])
    constants = [n for n in tree.body if isinstance(n, ast.Assign)]
    return [*back, *(n for n in constants if getattr(n.targets[0], "id", None) in for_it)]


def _read(nodes: Sequence[ast.stmt]) -> set[str]:
    """Return the names that are read in *nodes*."""
    found = (n for one in nodes for n in ast.walk(one))
    return {n.id for n in found if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _names(node: ast.Assign) -> bool:
    return getattr(node.targets[0], "id", None) == "takes_from"


@pytest.mark.parametrize(
    "file",
    [one for one in sorted(VERSIONS.glob("0*.py")) if one.name[:4] >= RULED_SINCE],
    ids=lambda file: file.stem,
)
def test_servers_of_the_version_before_go_on(file: Path) -> None:
    """Nothing they use is taken away, and nothing holds them up for long."""
    assert broken_rules(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "statement",
    [
        "drop table chat.shares",
        "alter table chat.runs drop column asked",
        "alter table chat.runs rename column asked to wished",
        "alter table chat.runs alter column asked set not null",
        "alter table chat.runs alter column asked type jsonb using asked::jsonb",
        "create index runs_asked on chat.runs (asked)",
        "create unique index if not exists runs_asked on chat.runs (asked)",
        "alter table chat.runs add constraint known check (state <> 'x')",
        "alter table chat.runs add column place integer not null",
        "alter table chat.runs add column token uuid default gen_random_uuid()",
        "lock table chat.runs",
        "update chat.runs set asked = ''",
        "revoke select on chat.runs from chatkeep_app",
        "revoke usage on schema chat from chatkeep_app",
        "revoke chatkeep_app from chatkeep_login",
    ],
)
def test_what_they_would_feel_is_seen(statement: str) -> None:
    """Each is refused by itself."""
    assert broken_rules(f'"""A migration."""\ndef upgrade(): op.execute("{statement}")') != []


@pytest.mark.parametrize(
    "statement",
    [
        "create table chat.new (id text not null); create index new_id on chat.new (id)",
        "alter table chat.runs add column asked text, add column said integer not null default 0",
        "alter table chat.runs add constraint known check (state <> 'x') not valid",
        "create policy p on chat.runs for select to chatkeep_app using (true)",
        "revoke create on schema chat from chatkeep_search;",
        "execute format('revoke chatkeep_search, chatkeep_webhooks from %I', current_user)",
    ],
)
def test_what_they_do_not_feel_is_let_be(statement: str) -> None:
    """What only adds, and looks at no row, is how a migration is written."""
    assert broken_rules(f'"""A migration."""\ndef upgrade(): op.execute("{statement}")') == []


def test_only_the_way_back_may_undo() -> None:
    """What a downgrade takes away, nobody uses any more; a constant that both use is refused."""
    source = (
        '"""A migration."""\nAWAY = "drop table a"\ndef downgrade(): op.execute(AWAY)\n'
        "def upgrade(): op.execute({})"
    )
    assert broken_rules(source.format("''")) == []
    assert broken_rules(source.format("AWAY")) != []


def test_what_nobody_needs_any_more_may_be_taken_away() -> None:
    """A revision says from which one on nobody needs it, and older servers are refused."""
    source = '"""A migration."""\ntakes_from = "{}"\ndef upgrade(): op.execute("drop table a")'
    assert broken_rules(source.format(OLDEST_READER)) == []
    assert broken_rules(source.format("9998")) != []
