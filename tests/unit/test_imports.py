"""Exports of other chats are read with their trees, and what is hostile is refused in words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chatkeep.conversations import imports
from chatkeep.errors import Invalid


def node(parent: str | None, role: str, text: object, **more: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """Return a node of ChatGPT's tree."""
    content = {"content_type": "text", "parts": [text]}
    message = {"author": {"role": role}, "content": content, "create_time": 1.7e9, **more}
    return {"parent": parent, "message": message}


def chatgpt(mapping: dict[str, Any], **more: Any) -> bytes:  # noqa: ANN401 -- JSON
    """Return ChatGPT's export of one conversation."""
    one = {"conversation_id": "c", "title": "A\ntitle", "create_time": 1.6e9, "mapping": mapping}
    return msgspec.json.encode([{**one, **more}])


def shape(arrival: imports.Arrival) -> list[tuple[int | None, str, str]]:
    """Return parent, role and text of each message."""
    return [(line.parent, line.role, line.text) for line in arrival.lines]


def test_chatgpt_keeps_branches_and_leaves_out_what_is_no_text() -> None:
    """What hangs below a tool's answer, or the empty root, moves up."""
    mapping = {
        "root": {"parent": None, "message": None},
        "q": node("root", "user", "Question"),
        "tool": node("q", "tool", "secret"),
        "a1": node("tool", "assistant", "First"),
        "a2": node("q", "assistant", "Second"),
        "hidden": node(
            "a2", "system", "x", metadata={"is_visually_hidden_from_conversation": True}
        ),
        "image": node("hidden", "assistant", {"asset_pointer": "file"}),
    }
    (one,) = imports.read(chatgpt(mapping, current_node="image"))
    assert shape(one) == [
        (None, "user", "Question"),
        (0, "assistant", "First"),
        (0, "assistant", "Second"),
    ]
    assert (one.head, one.title, one.at.year, one.lines[0].at.year) == (2, "A title", 2020, 2023)


def test_open_webui_keeps_branches() -> None:
    """Its messages are inside `chat.history`."""
    messages = {
        "b": {"id": "b", "parentId": "a", "role": "assistant", "content": "Hi", "timestamp": 1.7e9},
        "a": {"id": "a", "parentId": None, "role": "user", "content": "Hello"},
    }
    chat = {"history": {"messages": messages, "currentId": "b"}}
    (one,) = imports.read(msgspec.json.encode([{"id": "o", "title": "T", "chat": chat}]))
    assert shape(one) == [(None, "user", "Hello"), (0, "assistant", "Hi")]
    assert one.head == 1


def test_a_very_deep_tree_is_read() -> None:
    """Depth of the tree costs no stack."""
    mapping = {str(n): node(str(n - 1), "user", "x") for n in range(15_000)}
    (one,) = imports.read(chatgpt(mapping))
    assert len(one.lines) == 15_000


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JSON"),
        (b"PK\x03\x04", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b'"x"', "no list"),
        (b"[1]", "no list"),
        (b"[{}]", "neither"),
        (chatgpt({}, conversation_id=None), "without an id"),
        (chatgpt({"a": node(None, "user", "a\x00b")}), "NUL"),
        (chatgpt({"a": node(None, "user", "x" * 200_001)}), "more than 200000 characters"),
        (chatgpt({"a": node("b", "user", "x"), "b": node("a", "user", "x")}), "own ancestors"),
        (chatgpt({"a": node("a", "user", "x")}), "own ancestors"),
        (chatgpt({str(n): {} for n in range(20_001)}), "more than 20000 messages"),
        (msgspec.json.encode([{}] * 20_001), "more than 20000 conversations"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_is_hostile_is_refused_in_words(content: bytes, why: str) -> None:
    """The refusal says what is wrong, and that nothing happened."""
    with pytest.raises(Invalid, match=why) as refused:
        imports.read(content)
    assert "Nothing was imported" in refused.value.detail


@pytest.mark.parametrize("time", [None, "x", True, -1e300, 1e300, float("1e12"), 1.0, 4e9, {}])
def test_impossible_times_are_replaced(time: object) -> None:
    """A message whose time is none has that of what it answers."""
    mapping = {"a": node(None, "user", "x", create_time=time)}
    (one,) = imports.read(chatgpt(mapping))
    assert one.lines[0].at == one.at
