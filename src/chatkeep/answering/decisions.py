"""What a person, or their client, says to the tools that an answer waits for.

A client sends its whole message back. All that is taken of it are the yes or no to an
approval that was asked for, and the output of a tool that the client runs; whatever else it
says is ours already, or forged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from chatkeep.answering.parts import stored, unstored
from chatkeep.errors import Invalid
from chatkeep.events import ToolResult
from chatkeep.storable import DEPTH_AT_MOST, has_nul, is_too_deep
from chatkeep.tools import OUTPUT_AT_MOST

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.answering.parts import Part
    from chatkeep.conversations import AnswerShown


def resolved(
    kept: Sequence[dict[str, Any]] | None, sent: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the parts that are *kept*, with what *sent* decides.

    Raises:
        Invalid: the answer waits for nothing, or not everything is decided.
    """
    parts = unstored("", kept)
    if not any(part.waits for part in parts):
        raise waits_for_nothing()
    said = {one["toolCallId"]: one for one in sent if isinstance(one.get("toolCallId"), str)}
    decided = [_decided(part, said) if part.waits else part for part in parts]
    return stored(decided) or []


def was_cut_off(found: AnswerShown) -> bool:
    """Whether *found* is to be gone on with, or is, although nothing waits for the person."""
    waits = [part for part in unstored("", found.parts) if part.waits]
    if found.status in {"queued", "running"}:
        return not waits
    if found.status == "done":
        return found.finish_reason == "length" and not waits
    asked = any(part.approval_id for part in waits)
    return found.status in {"stopped", "interrupted"} and not asked


def waits_for_nothing() -> Invalid:
    """Return the refusal of an answer that is sent back without having been asked for."""
    return Invalid.of("messages", "must end with one of the user: this answer waits for nothing")


def _decided(part: Part, said: dict[str, dict[str, Any]]) -> Part:
    assert part.call is not None  # noqa: S101 -- only tools wait
    found = said.get(part.call.call_id, {})
    if part.approval_id is not None:
        return replace(part, approved=_approval(part.approval_id, found))
    return replace(part, result=_output(part.call.call_id, found))


def _approval(approval_id: str, found: dict[str, Any]) -> bool:
    approval = found.get("approval")
    match approval:
        case {"id": str(known), "approved": bool(approved)} if known == approval_id:
            return approved
    raise Invalid.of("messages", "must say yes or no to every tool that waits for approval")


def _output(call_id: str, found: dict[str, Any]) -> ToolResult:
    match found:
        case {"state": "output-available", "output": output}:
            return ToolResult(call_id=call_id, output=_bounded(output))
        case {"state": "output-error", "errorText": str(text)}:
            return ToolResult(call_id=call_id, error=str(_bounded(text[:OUTPUT_AT_MOST])))
    raise Invalid.of("messages", "must have the output of every tool that the client runs")


def _bounded(output: object) -> object:
    try:
        written = msgspec.json.encode(output)
    except (UnicodeEncodeError, RecursionError) as error:
        raise _not_storable() from error
    if len(written) > OUTPUT_AT_MOST:
        raise Invalid.of(
            "messages", f"must not have a tool output of more than {OUTPUT_AT_MOST} bytes"
        )
    if has_nul(written):
        raise _not_storable()
    if is_too_deep(output):
        raise Invalid.of("messages", f"must not have an output more than {DEPTH_AT_MOST} deep")
    return msgspec.json.decode(written)  # what was no number is none


def _not_storable() -> Invalid:
    return Invalid.of("messages", "must not have a character that cannot be stored")
