"""What an answer cost, as people are shown it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatkeep.runs import Ending


def usage_json(ending: Ending) -> dict[str, Any] | None:
    """Return usage in the words of chat completions, None when the provider did not say."""
    if ending.prompt_tokens is None and ending.completion_tokens is None:
        return None
    prompt, said = ending.prompt_tokens or 0, ending.completion_tokens or 0
    shown: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
    }
    return shown if ending.cost is None else {**shown, "cost": float(ending.cost)}
