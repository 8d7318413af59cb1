"""Chunks of chat completions: every dialect becomes our events, nonsense one error."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.errors import (
    ChatkeepError,
    ModelBroken,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
)
from chatkeep.events import Done, ModelEvent, ReasoningDelta, TextDelta, ToolCall, Usage
from chatkeep.llm import chunks
from chatkeep.llm.chunks import AnswerReader

STOP: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """Return a chunk with this delta."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def read(*payloads: dict[str, Any] | bytes) -> list[ModelEvent]:
    """Read a whole answer, each payload as if it came by itself."""
    reader = AnswerReader()
    events: list[ModelEvent] = []
    for payload in payloads:
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        events += reader.read([raw])
    return [*events, *reader.end()]


def text_of(events: list[ModelEvent]) -> str:
    """Return everything that is thought or said."""
    return "".join(one.text for one in events if isinstance(one, TextDelta | ReasoningDelta))


def test_text_is_yielded_in_order_and_ends_with_done() -> None:
    """The simplest answer."""
    assert read(
        chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo"), STOP
    ) == [TextDelta(text="Hel"), TextDelta(text="lo"), Done(finish_reason="stop")]


def test_neighbours_of_a_kind_that_came_together_are_joined() -> None:
    """A fast model's tokens are not handled one by one, and never reordered."""
    said = [chunk(reasoning="a"), chunk(reasoning="b"), chunk(content="c"), chunk(content="d"),
            chunk(reasoning="e"), chunk(content="f")]  # fmt: skip
    events = list(AnswerReader().read(json.dumps(one).encode() for one in said))
    assert events == [
        ReasoningDelta(text="ab"),
        TextDelta(text="cd"),
        ReasoningDelta(text="e"),
        TextDelta(text="f"),
    ]


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning": "hm"},
        {"reasoning_content": "hm"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": None}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        {"reasoning": "hm", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]},
        {"reasoning": "hm", "reasoning_content": "hm", "content": None},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "eA=="}], "reasoning": "hm"},
    ],
)
def test_reasoning_is_read_once_in_every_dialect(delta: dict[str, Any]) -> None:
    """Providers send the same thought under several names at once."""
    assert read(chunk(**delta), STOP)[0] == ReasoningDelta(text="hm")
    assert len(read(chunk(**delta), STOP)) == 2


def test_refusal_in_words_is_text() -> None:
    """OpenAI puts a model's refusal beside the content; the person should read it."""
    assert read(chunk(refusal="No."), STOP)[0] == TextDelta(text="No.")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content-filter"),
        ("tool_calls", "tool-calls"),
        ("function_call", "tool-calls"),
        ("eos_token_of_the_future", "other"),
    ],
)
def test_finish_reasons_are_translated(theirs: str, ours: str) -> None:
    """A reason we do not know is `other`, not a failure."""
    assert read(chunk(theirs, content="x"))[-1] == Done(finish_reason=ours)  # type: ignore[arg-type] # parametrised


def test_terminal_chunk_may_come_twice_with_usage_in_either_form() -> None:
    """OpenRouter repeats the reason in its usage chunk; OpenAI sends no choices there."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8, "cost": 0.00014}
    expected = [
        TextDelta(text="x"),
        Usage(prompt_tokens=3, completion_tokens=5, cost=Decimal("0.00014")),
        Done(finish_reason="stop", model="vendor/m"),
    ]
    for last in (STOP | {"usage": usage}, {"choices": [], "usage": usage}):
        assert read(chunk(content="x") | {"model": "vendor/m"}, STOP, last, b"[DONE]") == expected


@pytest.mark.parametrize(
    ("told", "count"), [(7, 7), (0, 0), (-1, 0), (1e9, 0), ("7", 0), (None, 0), (2**40, 0)]
)
def test_details_of_usage_are_taken_where_they_make_sense(told: object, count: int) -> None:
    """Nothing depends on them, so a good answer does not fail for one."""
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": told, "audio_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": told},
    }
    expected = Usage(
        prompt_tokens=9, completion_tokens=8, cached_tokens=count, reasoning_tokens=count
    )
    assert expected in read(STOP | {"usage": usage})
    odd = {**usage, "prompt_tokens_details": [told], "completion_tokens_details": told}
    assert Usage(prompt_tokens=9, completion_tokens=8) in read(STOP | {"usage": odd})


def test_usage_that_grows_with_each_chunk_is_yielded_once() -> None:
    """Some providers count aloud; the last word counts."""
    growing = [chunk(content="x") | {"usage": {"completion_tokens": n}} for n in (1, 2, 3)]
    events = read(*growing, STOP)
    assert [event for event in events if isinstance(event, Usage)] == [Usage(completion_tokens=3)]


@pytest.mark.parametrize(
    "cost", ["NaN", "Infinity", "-1", "1e999999999", -0.5, 1e300, None], ids=str
)
def test_implausible_cost_is_unknown_cost(cost: object) -> None:
    """Nothing that cannot be booked is booked, and a good answer does not fail for it."""
    usage = {"prompt_tokens": None, "completion_tokens": 1, "cost": cost}
    assert Usage(completion_tokens=1, cost=None) in read(STOP | {"usage": usage})


def tool(index: int | None = None, **members: Any) -> dict[str, Any]:  # noqa: ANN401 -- JSON
    """Return a chunk with one piece of a tool call."""
    name, arguments = members.pop("name", None), members.pop("arguments", None)
    piece = {"index": index, "function": {"name": name, "arguments": arguments}, **members}
    return chunk(tool_calls=[{key: value for key, value in piece.items() if value is not None}])


@pytest.mark.parametrize(
    "pieces",
    [
        [
            tool(0, id="a", name="f", arguments=""),
            tool(0, arguments='{"x'),
            tool(1, id="b", name="g"),
            tool(0, arguments='":1}'),
            tool(1, arguments="{}"),
        ],
        [tool(0, id="a", name="f", arguments='{"x":1}'), tool(0, id="b", name="g")],
        [tool(id="a", name="f", arguments='{"x":1}'), tool(id="b", name="g", arguments="{}")],
        [tool(id="a", name="f"), tool(arguments='{"x":1}'), tool(id="b", name="g")],
        [tool(0, id="a", name="f"), tool(0, id="a", name="f", arguments='{"x":1}'),
         tool(1, id="b", name="g")],
    ],
    ids=["interleaved", "all numbered 0", "whole, not numbered", "not numbered", "id repeated"],
)  # fmt: skip
def test_tool_calls_are_put_together(pieces: list[dict[str, Any]]) -> None:
    """Each call comes whole, before the end, in the order they began."""
    assert read(*pieces, chunk("tool_calls")) == [
        ToolCall(call_id="a", name="f", arguments='{"x":1}'),
        ToolCall(call_id="b", name="g", arguments="{}"),
        Done(finish_reason="tool-calls"),
    ]


@pytest.mark.parametrize("members", [{}, {"id": "a"}], ids=["no id", "one id"])
def test_tools_that_only_their_names_tell_apart_are_two_calls(members: dict[str, str]) -> None:
    """Where a provider numbers every call 0 and gives them no id, or all the same."""
    first = tool(0, name="f", arguments='{"x":1}', **members)
    events = read(first, tool(0, name="g", arguments="{}", **members), chunk("tool_calls"))
    called = [(one.name, one.arguments) for one in events if isinstance(one, ToolCall)]
    assert called == [("f", '{"x":1}'), ("g", "{}")]


def test_tool_call_without_an_id_gets_one_and_without_a_name_is_broken() -> None:
    """A call can be answered without the provider's id, but not without its name."""
    assert read(tool(0, name="f"), STOP)[0] == ToolCall(call_id="call_0", name="f", arguments="{}")
    with pytest.raises(ModelBroken):
        read(tool(0, arguments="{}"), STOP)
    with pytest.raises(ModelBroken):
        read(*(tool(index, name="f") for index in range(200)), STOP)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (rb'{"choices":[{"delta":{"content":"a\ud800b"}}]}', "a\ufffdb"),
        (rb'{"choices":[{"delta":{"content":"a\ude00"}}]}', "a\ufffd"),
        (rb'{"choices":[{"delta":{"content":"\ud83d\ude00"}}]}', "😀"),
        (rb'{"choices":[{"delta":{"content":"a\u0000b"}}]}', "ab"),
        (b'{"choices":[{"delta":{"content":"a\xffb"}}]}', "a\ufffdb"),
        (b'{"choices":[{"delta":{"content":"a\xed\xa0\x80b"}}]}', "a\ufffd\ufffd\ufffdb"),
        (rb'{"x":"\ud800","choices":[{"delta":{"content":"ok"}}]}', "ok"),
    ],
)
def test_text_comes_out_fit_to_be_stored(payload: bytes, text: str) -> None:
    """Lone surrogates, NUL and bad UTF-8 are replaced, because PostgreSQL refuses them."""
    assert read(payload, STOP)[0] == TextDelta(text=text)


CUT = rb"\ud83d", rb"\ude00"


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("member", ["content", "reasoning"])
def test_character_that_is_cut_in_two_is_one(member: str, together: bool) -> None:
    """As by a provider that cuts its text where JavaScript counts, whatever stands between."""
    template = b'{"choices":[{"delta":{"%s":"%s"}}],"usage":{"cost":0.5}}'
    payloads = [template % (member.encode(), text) for text in (b"a" + CUT[0], b"", CUT[1] + b"b")]
    reader = AnswerReader()
    batches = [payloads] if together else [[one] for one in payloads]
    events = [event for batch in batches for event in reader.read(batch)]
    assert text_of(events) == "a😀b"
    assert {type(one) for one in events} == {TextDelta if member == "content" else ReasoningDelta}


@pytest.mark.parametrize("after", ["b", "é", "\ud83d", "\ude00\ude00"])
def test_half_a_character_takes_no_other_with_it(after: str) -> None:
    """It becomes U+FFFD where it stood; what follows is as it came."""
    reader = AnswerReader()
    payloads = [json.dumps(chunk(content=text)).encode() for text in ("a\ud83d", after, "c")]
    said = text_of([event for one in payloads for event in reader.read([one])])
    whole = f"a\ud83d{after}c".encode("utf-16-le", "surrogatepass")
    assert said == whole.decode("utf-16-le", "replace")


def test_arguments_of_a_tool_that_are_cut_in_a_character_are_whole() -> None:
    """As any text is."""
    pieces = [tool(0, name="f", arguments='"a\ud83d'), tool(0, arguments='\ude00"')]
    assert ToolCall(call_id="call_0", name="f", arguments='"a😀"') in read(*pieces, STOP)


def test_content_in_parts_is_thoughts_and_text() -> None:
    """As Mistral's models say it that reason."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "x"}]}
    said = {"type": "text", "text": "Hel"}
    plain = {"type": "thinking", "thinking": "."}
    events = read(chunk(content=[thought]), chunk(content=[plain, said]), chunk(content="lo"), STOP)
    assert [event for event in events if isinstance(event, ReasoningDelta)] == events[:2]
    assert text_of(events) == "Hm.Hello"


def test_nothing_but_nul_is_no_event() -> None:
    """There are no empty deltas."""
    assert read(chunk(content="\0"), STOP) == [Done(finish_reason="stop")]


JUNK = [
    b"junk",
    b"5",
    b"[]",
    b'"text"',
    b"{",
    b'{"choices":5}',
    b'{"choices":[5]}',
    b'{"choices":[{"delta":"x"}]}',
    b'{"choices":[{"delta":{"content":5}}]}',
    b'{"choices":[{"delta":{"content":["x"]}}]}',
    b'{"choices":[{"delta":{"content":{"text":"x"}}}]}',
    b'{"choices":[{"delta":{"tool_calls":[{"index":-1}]}}]}',
    b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{}}}]}}]}',
    b'{"choices":[{"delta":{},"finish_reason":7}]}',
    b'{"usage":{"prompt_tokens":"many"}}',
    b'{"usage":{"prompt_tokens":1e30}}',
    b'{"usage":{"prompt_tokens":-1}}',
    b'{"usage":{"cost":"much"}}',
    b'{"x":NaN}',
    b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"error":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    rb'{"x":"\ud800","y":' + b"9" * 10_000 + b"}",
    rb'{"x":"\ud800","y":1e999}',
    rb'{"x":"\ud800","y":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: junk[:40].decode())
def test_junk_is_one_error_and_what_came_before_is_kept(junk: bytes) -> None:
    """Whatever a provider sends, no other exception gets out."""
    reader = AnswerReader()
    events = reader.read([json.dumps(chunk(content="so far")).encode(), junk])
    assert next(events) == TextDelta(text="so far")
    with pytest.raises(ModelBroken):
        next(events)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["choices", "delta", "content", "usage", "error", "code", "index", "model",
                     "tool_calls", "function", "metadata", "finish_reason", "reasoning_details"]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=20,
    )
)  # fmt: skip
def test_no_json_raises_anything_but_our_errors(value: object) -> None:
    """Any JSON at all is read or refused."""
    try:
        read(json.dumps(value).encode())
    except ChatkeepError as error:
        assert error.status in {422, 429, 502, 503, 504}  # noqa: PT017 -- most values are refused, not all


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": 429, "message": "slow down"}, ModelRateLimited),
        ({"code": "429", "message": "slow down"}, ModelRateLimited),
        ({"code": "rate_limit_exceeded"}, ModelRateLimited),
        ({"code": "server_error", "message": "Provider disconnected"}, ModelBroken),
        ({"code": 502, "metadata": {"error_type": "provider_unavailable"}}, ModelBroken),
        ({"code": 408}, ModelTimeout),
        ({"code": 401}, ModelMisconfigured),
        ({"code": 402}, ModelMisconfigured),
        ({"code": 400, "metadata": {"error_type": "context_length_exceeded"}}, ModelRefused),
        ({"code": 403, "metadata": {"reasons": ["violence"]}}, ModelRefused),
        ({"code": True}, ModelBroken),
        ({"message": "?"}, ModelBroken),
        ("boom", ModelBroken),
        (["boom"], ModelBroken),
        (1, ModelBroken),
    ],
    ids=str,
)
def test_error_inside_a_stream_is_typed(error: object, expected: type[ChatkeepError]) -> None:
    """First and only event or after text; the code a number, digits or a word."""
    broken = chunk("error", content="") | {"error": error}
    in_choice = {"choices": [{"delta": {}, "finish_reason": "error", "error": error}]}
    for last in (broken, {"error": error}, in_choice):
        for before in ([], [chunk(content="so far")]):
            with pytest.raises(expected) as caught:
                read(*before, last)
            assert type(caught.value) is expected


def test_reason_error_without_an_error_is_broken() -> None:
    """There is nothing else to say."""
    with pytest.raises(ModelBroken):
        read(chunk("error", content="so far"))


def test_no_error_said_in_an_odd_way_is_no_error() -> None:
    """Some servers carry an empty error along."""
    nothings: list[object] = [None, "", False, {}]
    for nothing in nothings:
        assert read(STOP | {"error": nothing}) == [Done(finish_reason="stop")]


def test_stream_that_just_ends_is_broken() -> None:
    """No reason to stop and no [DONE]: nobody knows what is missing."""
    without_end: list[list[dict[str, Any] | bytes]] = [
        [],
        [{}],
        [chunk(content="so far")],
        [b"[DONE]"],
        [chunk(content=""), b"[DONE]"],
    ]
    for said in without_end:
        with pytest.raises(ModelBroken):
            read(*said)


def test_done_without_a_reason_ends_an_answer_that_said_something() -> None:
    """Old servers leave the reason out; what was said is an answer, its end is `other`."""
    assert read(chunk(content="x"), b"[DONE]")[-1] == Done(finish_reason="other")
    assert read(tool(0, name="f"), b" [DONE] ")[-1] == Done(finish_reason="other")


def test_nothing_counts_after_done() -> None:
    """Not even junk."""
    reader = AnswerReader()
    said = [json.dumps(STOP).encode(), b"[DONE]", json.dumps(chunk(content="late")).encode(), b"{"]
    assert list(reader.read(said)) == []
    assert reader.ended
    assert list(reader.read(said)) == []


def test_other_choices_and_empty_payloads_are_passed_over() -> None:
    """We asked for one choice; prompt filters and keep-alives say nothing."""
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "length"}]}
    assert read({"choices": [], "prompt_filter_results": []}, b"", b" ", other, STOP) == [
        Done(finish_reason="stop")
    ]


def test_endless_answer_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider in a loop does not fill our memory, by text or by arguments."""
    monkeypatch.setattr(chunks, "MAX_ANSWER_CHARACTERS", 100)
    for more in (
        chunk(content="x" * 30),
        chunk(reasoning="x" * 30),
        tool(0, name="f", arguments="x" * 30),
    ):
        assert read(*[more] * 3, STOP)[-1] == Done(finish_reason="stop")
        with pytest.raises(ModelBroken):
            read(*[more] * 4, STOP)


def test_long_model_name_is_cut_and_clean() -> None:
    """It goes to the database too."""
    done = read(STOP | {"model": "m\0" + "x" * 1000})[-1]
    assert done == Done(finish_reason="stop", model="m" + "x" * 199)
