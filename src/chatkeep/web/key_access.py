"""What a personal API key reaches: the routes named here, each with one scope, and no other.

A new route takes no keys until somebody names it. Keys make no keys, change no account, end
no session and administer nothing, because none of that is here.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from chatkeep.errors import ApiKeyNotAccepted, InsufficientScope, TokenInvalid
from chatkeep.personal_keys.texts import claims_to_be_one
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from chatkeep.authentication import Presented
    from chatkeep.errors import ChatkeepError
    from chatkeep.principal import Principal

_CONVERSATIONS: Final = "/api/v1/chat"
_CONVERSATION: Final = f"{_CONVERSATIONS}/{{conversation_id}}"

#: By method and path, as the route has it.
SCOPE_OF: Final[dict[tuple[str, str], str]] = {
    ("POST", "/v1/chat/completions"): "chat",
    ("POST", "/api/chat"): "chat",
    ("GET", "/api/chat/{conversation_id:path}/stream"): "chat",
    ("POST", "/api/chat/{conversation_id:path}/stop"): "chat",
    ("POST", f"{_CONVERSATIONS}/start"): "chat",
    ("POST", f"{_CONVERSATIONS}/message"): "chat",
    ("POST", "/support/chatkit"): "chat",
    ("POST", "/support/attachments/{attachment_id}/upload"): "chat",
    ("PUT", "/support/attachments/{attachment_id}/upload"): "chat",
    ("GET", "/support/attachments/{attachment_id}/content"): "chat",
    ("GET", "/v1/models"): "models:read",
    ("GET", "/v1/models/{model:path}"): "models:read",
    ("GET", "/api/models"): "models:read",
    ("GET", _CONVERSATIONS): "conversations:read",
    ("GET", _CONVERSATION): "conversations:read",
    ("GET", f"{_CONVERSATIONS}/export"): "conversations:read",
    ("GET", f"{_CONVERSATION}/export"): "conversations:read",
    ("GET", "/api/v1/search"): "conversations:read",
    ("PATCH", _CONVERSATION): "conversations:write",
    ("DELETE", _CONVERSATION): "conversations:write",
    ("POST", f"{_CONVERSATION}/restore"): "conversations:write",
    ("POST", f"{_CONVERSATION}/fork"): "conversations:write",
    ("POST", f"{_CONVERSATIONS}/import"): "conversations:write",
    ("GET", "/api/usage"): "usage:read",
}


def require_reach(request: Request, principal: Principal) -> None:
    """Let a key through only where its scopes reach; every other credential may pass.

    Raises:
        ApiKeyNotAccepted: no key reaches this route.
        InsufficientScope: this one does not.
    """
    if principal.credential != "api_key":
        return
    path = getattr(request.scope.get("route"), "path", "")
    scope = SCOPE_OF.get((request.method, path))
    if scope is None:
        _refuse(request, principal, ApiKeyNotAccepted())
    elif scope not in principal.scopes:
        _refuse(request, principal, InsufficientScope.of(scope))


@asynccontextmanager
async def guessing(request: Request, presented: Presented) -> AsyncIterator[None]:
    """Count the block as a guess of its client's address where it looks up an unknown key.

    It is given back unless the key is refused: nobody's guesses cost the owner of a key, and
    whoever has a good one is not counted.

    Raises:
        RateLimited: too many guesses; the block is not run.
    """
    services = services_of(request)
    key = _key_in(presented)
    if key is None or services.personal_keys.remembers(key):
        yield
        return
    address = request.scope["state"]["client"].bucket
    await services.limits.spend("api_key", address)
    try:
        yield
    except TokenInvalid:
        raise
    except BaseException:
        await services.limits.give_back("api_key", address)
        raise
    await services.limits.give_back("api_key", address)


def _key_in(presented: Presented) -> str | None:
    for value in presented.authorization:
        _, _, token = value.partition(" ")
        if claims_to_be_one(token):
            return token
    return None


def _refuse(request: Request, principal: Principal, error: ChatkeepError) -> None:
    services_of(request).embedded.notices.note(
        "api_key.refused",
        reason=error.code,
        user_id=principal.user_id,
        issuer=principal.issuer,
        session_id=principal.token_id,
    )
    raise error
