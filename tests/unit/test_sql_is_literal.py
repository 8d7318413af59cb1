"""All SQL stands in the source as it is sent: there is nothing to inject into."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import chatkeep

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(str(chatkeep.__file__)).parent
FILES = sorted(SOURCE.rglob("*.py"))
RUNS_SQL = {"execute", "executemany", "fetch", "stream", "exec_driver_sql", "copy"}
#: Where a statement may be a value, and why.
EXEMPT = {
    "token_hook.py": "names the function that an operator configured",
    "audit/entries.py": "puts the literal of a change and that of its entry together",
    "db.py": "the door hands on the literals it is given",
    "embedded_postgresql/cluster.py": "names our own database, its login and the password of that",
    "sql/indexes.py": "builds the literals of its list, and names what it drops",
    "sql/migrations.py": "names the login that an administrator configured",
    "sql/versions/0001_initial.py": "hands over whole parts by name",
}
#: What stays on a connection for everybody, in the file that makes it.
MEANT_TO_STAY = {
    "db.py": "select set_config('plan_cache_mode', 'force_generic_plan', false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('TimeZone', 'UTC', false)"
    " where pg_backend_pid() = %s",
}
# On a pooled connection it would reach the next borrower.
OUTLIVES = re.compile(
    r"set_config\([^)]*,\s*(false|off|%s|%\(\w+\)s)\s*\)"
    r"|(^|;)\s*set\s+(session\s+)?(?!local\b)[\w.]+\s*(=|\bto\b)",
    re.IGNORECASE,
)


def literals_of(tree: ast.Module) -> set[str]:
    """Return the names that the module gives to literals, or declares to be for literals."""
    names = {
        node.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.arg)
        and isinstance(node.annotation, ast.Name)
        and node.annotation.id == "LiteralString"
    }
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if is_literal(value, set()):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if is_literal(
                value, set()
            ):
                names.add(name)
            case _:
                pass
    return names


def is_literal(node: ast.expr, names: set[str]) -> bool:
    """Whether *node* is text that stands in the source, or a name for such text."""
    match node:
        case ast.Constant(value=str()):
            return True
        case ast.Name(id=name):
            return name in names
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return is_literal(left, names) and is_literal(right, names)
        case _:
            return False


def is_made_up(node: ast.expr) -> bool:
    """Whether *node* puts text together when it runs."""
    match node:
        case ast.JoinedStr():
            return True
        case ast.BinOp(op=ast.Mod() | ast.Add()):
            return True
        case ast.Call(func=ast.Attribute(attr="format" | "join" | "replace" | "as_string")):
            return True
        case _:
            return False


def statements(tree: ast.Module) -> Iterator[tuple[ast.Call, list[ast.expr]]]:
    """Yield the calls that run SQL, with the arguments that may be its text.

    A connection takes the text first; our door takes the caller before it.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="Query"), args=[text, *_]):
                yield node, [text]
            case ast.Call(func=ast.Attribute(attr=name), args=[*arguments]) if (
                name in RUNS_SQL and arguments
            ):
                yield node, arguments[:2]
            case _:
                pass


def offences(source: str) -> list[int]:
    """Return the lines of *source* on which SQL is not a literal."""
    tree = ast.parse(source)
    names = literals_of(tree)
    found = []
    for call, candidates in statements(tree):
        if any(is_made_up(one) and not is_literal(one, names) for one in candidates) or not (
            any(is_literal(one, names) for one in candidates)
            or is_about_something_else(call, candidates)
        ):
            found.append(call.lineno)
    return found


def outliving(source: str) -> list[int]:
    """Return the lines of *source* with a setting that does not end with its transaction."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and OUTLIVES.search(node.value)
    ]


def is_about_something_else(call: ast.Call, candidates: list[ast.expr]) -> bool:
    """Whether the method only has the name of one that runs SQL: it is given no text at all.

    `model.stream(prompt)` is such a call.
    """
    if not isinstance(call.func, ast.Attribute):
        return False
    hands_on = all(isinstance(one, ast.Name | ast.Attribute) for one in candidates)
    receiver = call.func.value
    named = receiver.id if isinstance(receiver, ast.Name) else getattr(receiver, "attr", "")
    database = named in {"db", "_db", "connection", "cursor", "admin", "self"}
    return hands_on and not database


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_sql_is_literal(file: Path) -> None:
    """No statement is put together with f-strings, `%`, `format`, `join` or `+`."""
    source = file.read_text()
    if str(file.relative_to(SOURCE)) not in EXEMPT:
        assert offences(source) == []
    meant = MEANT_TO_STAY.get(str(file.relative_to(SOURCE)))
    assert [found for found in outliving(source) if meant != _said_at(source, found)] == []


def _said_at(source: str, line: int) -> str:
    return next(
        str(node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and node.lineno == line
    )


@pytest.mark.parametrize(
    "line",
    [
        'db.fetch(caller, f"select {name}", [], row=Row)',
        'db.execute(caller, "select %s" % name, [])',
        'db.execute(caller, "select {}".format(name), [])',
        'db.execute(caller, "select " + name, [])',
        "connection.execute(text)",
        'Query("select " + name, [], Row)',
        "Query(text, [], Row)",
        'cursor.execute(" ".join(words))',
        'connection.execute(_ASK.replace("a", name))',
    ],
)
def test_each_way_around_is_seen(line: str) -> None:
    """The check finds what it is for."""
    assert offences(f'_ASK = "select 1"\n{line}\n') == [2]


@pytest.mark.parametrize(
    "statement",
    [
        "select set_config('role', %s, false)",
        "set search_path to chat",
        "select 1; SET SESSION statement_timeout = 0",
    ],
)
def test_settings_that_stay_are_seen(statement: str) -> None:
    """The check finds what would reach the next borrower of a connection."""
    assert outliving(f"db.execute(caller, {statement!r}, [])") == [1]


@pytest.mark.parametrize(
    "line",
    [
        'db.fetch(caller, "select %s", [name], row=Row)',
        "db.execute(caller, _ASK, [])",
        "connection.execute(\"select set_config('role', %s, true)\", [role])",
        'connection.execute("set local role chatkeep_app")',
        'db.execute(caller, "update chat.runs set state = 1", [])',
        'Query("""\n  select 1\n""", [], Row)',
        "model.stream(prompt)",
    ],
)
def test_what_is_right_is_let_be(line: str) -> None:
    """Literals, and names of literals, are what we want."""
    source = f'_ASK = "select 1"\n{line}\n'
    assert (offences(source), outliving(source)) == ([], [])
