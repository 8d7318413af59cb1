"""Failures of what an operator hangs into the making of tokens."""

from __future__ import annotations

from chatkeep.errors.base import ChatkeepError


class AccessTokenHookFailed(ChatkeepError):
    """The operator's hook gave no claims that can be in a token; the log says why."""

    code = "access_token_hook_failed"
    status = 500
    default_detail = "The access token could not be made."


class AccessTokenHookRefused(ChatkeepError):
    """The operator's hook does not let this person have a token; *detail* is its message."""

    code = "access_token_hook_refused"
    status = 403
    default_detail = "You may not sign in."
