"""Pieces of an answer between nodes: late, twice or missing, they never make another answer."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.answering.live import LiveAnswer
from chatkeep.answering.parts import Cut, Graft, Growth, stored, unstored
from chatkeep.events import ApprovalAsked, ReasoningDelta, TextDelta, ToolCall, ToolResult
from chatkeep.runs import Address

CALL = ToolCall(call_id="c", name="look", arguments='{"order": 7}')
EVENTS = st.sampled_from(
    [
        *(TextDelta(text=text) for text in ("a", "bc", "ä\U0001f600")),
        ReasoningDelta(text="hm"),
        CALL,
        ApprovalAsked(call_id="c", approval_id="x"),
        ToolResult(call_id="c", output={"on": "its way"}),
        ToolResult(call_id="c", error="no"),
    ]
)


def answering() -> LiveAnswer:
    """Return an answer that has a tool to speak of."""
    address = Address(id="r", conversation_id="c", message_id="m", user_message_id="u")
    live = LiveAnswer(user_id="ana", address=address, model="m")
    live.add(CALL)
    return live


def sent(grafts: list[Graft]) -> list[Graft]:
    """Return *grafts* as another node reads them."""
    read: list[Graft] = msgspec.json.decode(msgspec.json.encode(grafts), type=list[Graft])
    return read


@given(st.lists(st.tuples(EVENTS, st.sampled_from(["arrives", "is lost", "twice", "look"]))))
def test_whatever_becomes_of_the_pieces_the_answer_is_what_was_said(
    happened: list[tuple[TextDelta, str]],
) -> None:
    """Lost ones leave a gap that is seen, and a look into the database always helps."""
    live, cut, growth = answering(), Cut(), Growth()
    pending: list[Graft] = []
    for event, fate in happened:
        live.add(event)
        grafts = sent(cut.take(live.parts))
        if fate != "is lost":
            pending += grafts
        if fate == "twice":
            pending += grafts
        if fate == "look":
            growth.take(unstored("", stored(live.parts)))
        pending = growth.graft(pending)
        whole = "".join(part.text for part in live.parts if part.kind == "text")
        assert whole.startswith("".join(p.text for p in growth.parts if p.kind == "text"))
    growth.take(unstored("", stored(live.parts)))
    assert growth.graft(pending) == []
    assert stored(growth.parts) == stored(live.parts)


def test_what_was_told_is_not_told_again() -> None:
    """Each piece has what the one before had not, and nothing new is no piece."""
    live, cut = answering(), Cut()
    assert [graft[:2] for graft in cut.take(live.parts)] == [(0, 0)]
    assert cut.take(live.parts) == []
    live.add(TextDelta(text="Hel"))
    assert cut.take(live.parts) == [(1, 0, {"type": "text", "text": "Hel"})]
    live.add(TextDelta(text="lo"))
    live.add(ReasoningDelta(text="Hm"))
    assert cut.take(live.parts) == [
        (1, 3, {"type": "text", "text": "lo"}),
        (2, 0, {"type": "reasoning", "text": "Hm"}),
    ]
    live.add(ToolResult(call_id="c", output=1))
    assert [graft[0] for graft in cut.take(live.parts)] == [0]
    assert cut.take(live.parts) == []
