"""Every action of the audit log stands in its reference, and nothing else does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import chatkeep

SOURCE = Path(str(chatkeep.__file__)).parent
REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "audit.md"
#: A noun and what happened to it.
ACTION = re.compile(
    r"[a-z]+(_[a-z]+)*\.([a-z]+_)*[a-z]*(ed|begun|made|sent|used|chosen|given_up|out|taken|let_go)"
)
#: What looks like one and is something else: of webhooks, and of `/v1/responses`.
OTHERS = {
    *("answer.finished", "budget.exhausted", "conversation.created", "conversation.deleted"),
    *("response.created", "response.completed", "response.failed"),
}


def actions_in_source() -> set[str]:
    """Return every text of the source that has the form of an action."""
    return {
        node.value
        for file in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and ACTION.fullmatch(node.value)
        and node.value not in OTHERS
    }


def given_to_the_log() -> set[str]:
    """Return what is handed to `audit.entry`, `audit.of_change` and `note` as a literal."""
    places = {"entry": 0, "of_change": 1, "note": 0}
    found = set()
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr=name), args=args) if (
                    name in places and len(args) > places[name]
                ):
                    action = args[places[name]]
                    if isinstance(action, ast.Constant) and isinstance(action.value, str):
                        found.add(action.value)
                case _:
                    pass
    return found


def test_every_action_is_explained_and_none_beside_them() -> None:
    """Source and reference name the same actions."""
    explained = set(re.findall(r"^\| `([a-z_.]+)` \|", REFERENCE.read_text(), re.MULTILINE))
    assert {"session.begun", "session.ended", "credential.refused"} <= explained
    assert actions_in_source() | given_to_the_log() == explained


def test_what_the_log_is_given_has_the_form_of_an_action() -> None:
    """So that the search above finds also what is handed on in a variable."""
    assert [one for one in given_to_the_log() if not ACTION.fullmatch(one)] == []
