"""The response object of the Responses API, from what is kept or as it is being made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from chatkeep.answering.answers import ending_of
from chatkeep.answering.parts import unstored
from chatkeep.errors import error_named
from chatkeep.runs import Ending
from chatkeep.web.openai.items import CONVERSATION, RESPONSE, answer_items, find_place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from chatkeep.answering.parts import Part
    from chatkeep.openai_api.responses import Response

_INCOMPLETE: Final = {"length": "max_output_tokens", "content-filter": "content_filter"}
_LIMITED: Final = frozenset({"model_rate_limited", "budget_exhausted", "rate_limited"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a response says from its start to its end.

    *id* and *conversation_id* are ours, None where nothing is kept of it. *noted* is what its
    request said.
    """

    id: str
    conversation_id: str | None
    model: str
    created_at: int
    noted: dict[str, Any]

    def runs_in_client(self, name: str) -> bool:
        """Whether the client brought the function *name*."""
        return any(one["name"] == name for one in self.noted["tools"])


def head_of(kept: Response) -> Head:
    """Return the head of a response that is kept."""
    return Head(
        id=kept.id,
        conversation_id=kept.conversation_id,
        model=kept.model,
        created_at=int(kept.started_at.timestamp()),
        noted=kept.request,
    )


def response_json(
    head: Head,
    status: str,
    output: Sequence[dict[str, Any]],
    *,
    ending: Ending | None = None,
    ended_at: datetime | None = None,
) -> dict[str, Any]:
    """Return the object; with *ending* it says how it came out."""
    failed = status == "failed"
    reason = _INCOMPLETE.get(ending.finish_reason or "") if ending else None
    return {
        "id": f"{RESPONSE}{head.id}",
        "object": "response",
        "created_at": head.created_at,
        "completed_at": int(ended_at.timestamp()) if ended_at and status == "completed" else None,
        "status": status,
        "error": _error(ending) if failed and ending else None,
        "incomplete_details": {"reason": reason} if status == "incomplete" and reason else None,
        "conversation": _conversation(head),
        "model": ending.model if ending and ending.model else head.model,
        "output": list(output),
        "usage": usage_json(ending) if ending else None,
        "store": head.conversation_id is not None,
        "truncation": "disabled",
        "service_tier": "default",
        "top_logprobs": 0,
        **head.noted,
        "tool_choice": head.noted["tool_choice"] or "auto",
    }


def kept_json(kept: Response) -> dict[str, Any]:
    """Return the object of a response that is kept, as it is now."""
    head = head_of(kept)
    output = answer_items(
        kept.message_id,
        said_in(kept),
        begun=kept.begun,
        decided=decided_in(kept),
        runs_in_client=head.runs_in_client,
    )
    ending = ending_of(kept) if kept.ended else None
    status = status_of(ending) if ending else _UNFINISHED[kept.state]
    return response_json(head, status, list(output), ending=ending, ended_at=kept.ended_at)


def said_in(kept: Response) -> list[Part]:
    """Return the parts of the answer up to the end of the response."""
    return unstored(kept.content, kept.parts)[: kept.until]


def decided_in(kept: Response) -> list[int]:
    """Return which tools of an earlier response the request of this one let run."""
    places = [find_place(one) for one in kept.input]
    return [one.index for one in places if one is not None and one.kind == "mcpa"]


def status_of(ending: Ending) -> str:
    """Return how this API calls the way something ended."""
    if ending.state == "stopped":
        return "cancelled"
    if ending.state != "done":
        return "failed"
    return "incomplete" if ending.finish_reason in _INCOMPLETE else "completed"


def usage_json(ending: Ending) -> dict[str, Any] | None:
    """Return what the answer cost; None when its provider did not say."""
    if ending.prompt_tokens is None and ending.completion_tokens is None:
        return None
    prompt, said = ending.prompt_tokens or 0, ending.completion_tokens or 0
    shown: dict[str, Any] = {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": ending.cached_tokens or 0,
            "cache_write_tokens": 0,
        },
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": ending.reasoning_tokens or 0},
        "total_tokens": prompt + said,
    }
    return shown if ending.cost is None else {**shown, "cost": float(ending.cost)}


_UNFINISHED: Final = {"queued": "queued", "running": "in_progress"}


def _conversation(head: Head) -> dict[str, str] | None:
    if head.conversation_id is None:
        return None
    return {"id": f"{CONVERSATION}{head.conversation_id}"}


def _error(ending: Ending) -> dict[str, str]:
    code = ending.error_code or "internal"
    named = "rate_limit_exceeded" if code in _LIMITED else "server_error"
    return {"code": named, "message": error_named(code).detail}
