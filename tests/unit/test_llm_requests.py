"""What is asked of each kind of provider."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chatkeep.events import ToolCall
from chatkeep.llm.chat_requests import Kind, encode_request, find_kind
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage, Tool

MESSAGES = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi 👋"}]
PLAIN = {
    "model": "m",
    "messages": MESSAGES,
    "stream": True,
    "stream_options": {"include_usage": True},
}


def prompt(**settings: Any) -> Prompt:  # noqa: ANN401 -- whatever ModelSettings takes
    """Return a prompt with these settings."""
    return Prompt(
        messages=[
            PromptMessage(role="system", text="Be kind."),
            PromptMessage(role="user", text="Hi 👋"),
        ],
        settings=ModelSettings(model="m", **settings),
        user_key="u-1",
        conversation_id="c-1",
    )


@pytest.mark.parametrize(
    ("kind", "particulars"),
    [
        ("openrouter", {"user": "u-1", "session_id": "c-1", "usage": {"include": True}}),
        ("openai", {"safety_identifier": "u-1", "prompt_cache_key": "c-1"}),
        ("compatible", {}),
    ],
)
def test_only_what_somebody_set_is_sent(kind: Kind, particulars: dict[str, Any]) -> None:
    """A setting of None is left out, and a stranger gets no member it may not know."""
    assert json.loads(encode_request(prompt(), kind=kind)) == PLAIN | particulars


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        ("openrouter", "max_tokens"),
        ("openai", "max_completion_tokens"),
        ("compatible", "max_tokens"),
    ],
)
def test_settings_are_sent_as_they_are(kind: Kind, limit: str) -> None:
    """Zero is a setting, not an absence."""
    body = json.loads(encode_request(prompt(temperature=0.0, top_p=0.5, max_tokens=7), kind=kind))
    assert (body["temperature"], body["top_p"], body[limit]) == (0.0, 0.5, 7)
    assert len({"max_tokens", "max_completion_tokens"} & set(body)) == 1


def test_tools_and_images_are_sent_as_the_api_spells_them() -> None:
    """An assistant that only asked for a tool says null; a tool answers by its call's id."""
    call = ToolCall(call_id="c1", name="weather", arguments='{"city": "Rome"}')
    asked = Prompt(
        messages=[
            PromptMessage(role="user", text="Look.", images=("data:image/png;base64,AA==",)),
            PromptMessage(role="assistant", text="", calls=(call,)),
            PromptMessage(role="tool", text="Sun.", call_id="c1"),
        ],
        settings=ModelSettings(model="m", tool_choice="auto", stop=("END",)),
        tools=[Tool(name="weather", parameters={"type": "object"})],
    )
    body = json.loads(encode_request(asked, kind="compatible"))
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look."},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
                    "type": "function",
                }
            ],
        },
        {"role": "tool", "content": "Sun.", "tool_call_id": "c1"},
    ]
    function = {"name": "weather", "parameters": {"type": "object"}}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert (body["tool_choice"], body["stop"]) == ("auto", ["END"])


def test_lone_surrogate_in_a_prompt_is_replaced() -> None:
    """An anonymous caller's history is JSON, which can carry what UTF-8 cannot."""
    odd = Prompt(
        messages=[
            PromptMessage(role="user", text="a\ud800b"),
            PromptMessage(role="user", text="é"),
        ],
        settings=ModelSettings(model="m"),
    )
    body = json.loads(encode_request(odd, kind="openrouter"))
    assert [message["content"] for message in body["messages"]] == ["a?b", "é"]
    assert "user" not in body


def test_identifiers_are_no_longer_than_the_provider_takes() -> None:
    """Longer ones would be refused with the whole request."""
    long = Prompt(
        messages=[],
        settings=ModelSettings(model="m"),
        user_key="u" * 500,
        conversation_id="c" * 500,
    )
    body = json.loads(encode_request(long, kind="openrouter"))
    assert (len(body["user"]), len(body["session_id"])) == (64, 256)
    body = json.loads(encode_request(long, kind="openai"))
    assert (len(body["safety_identifier"]), len(body["prompt_cache_key"])) == (64, 64)


@pytest.mark.parametrize(
    ("base_url", "kind"),
    [
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://eu.openrouter.ai/api/v1", "openrouter"),
        ("https://api.openai.com/v1", "openai"),
        ("https://notopenai.com/v1", "compatible"),
        ("https://openai.com.example/v1", "compatible"),
        ("http://127.0.0.1:4000", "compatible"),
    ],
)
def test_kind_is_found_from_the_host(base_url: str, kind: Kind) -> None:
    """Only the provider's own hosts understand its particulars."""
    assert find_kind(base_url) == kind
