"""What a personal API key reaches: the routes named here, within its scopes, and no other.

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

_CHATS: Final = "/api/v1/chat"
_CHAT: Final = f"{_CHATS}/{{conversation_id}}"
_ITEMS: Final = "/v1/conversations/{conversation_id}/items"
_UPLOAD: Final = "/support/attachments/{attachment_id}/upload"

#: By method and path, as the route has it; several scopes where a route does several things.
SCOPES_OF: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("POST", "/v1/chat/completions"): ("chat",),
    ("POST", "/v1/responses"): ("chat",),
    ("POST", "/v1/responses/{response_id}/cancel"): ("chat",),
    ("POST", "/v1/conversations"): ("chat",),
    ("POST", "/api/chat"): ("chat",),
    ("GET", "/api/chat/{conversation_id:path}/stream"): ("chat",),
    ("POST", "/api/chat/{conversation_id:path}/stop"): ("chat",),
    ("POST", f"{_CHATS}/start"): ("chat",),
    ("POST", f"{_CHATS}/message"): ("chat",),
    ("POST", f"{_CHAT}/continue"): ("chat",),
    ("GET", f"{_CHAT}/queue"): ("chat",),
    ("DELETE", f"{_CHAT}/queue/{{run_id}}"): ("chat",),
    ("POST", "/api/files"): ("chat",),
    ("POST", _UPLOAD): ("chat",),
    ("PUT", _UPLOAD): ("chat",),
    # One route for everything that ChatKit does, so it wants all of it.
    ("POST", "/support/chatkit"): ("chat", "conversations:read", "conversations:write"),
    ("GET", "/v1/models"): ("models:read",),
    ("GET", "/v1/models/{model:path}"): ("models:read",),
    ("GET", "/api/models"): ("models:read",),
    ("GET", _CHATS): ("conversations:read",),
    ("GET", _CHAT): ("conversations:read",),
    ("GET", f"{_CHATS}/export"): ("conversations:read",),
    ("GET", f"{_CHAT}/export"): ("conversations:read",),
    ("GET", "/api/v1/search"): ("conversations:read",),
    ("GET", "/v1/responses/{response_id}"): ("conversations:read",),
    ("GET", "/v1/responses/{response_id}/input_items"): ("conversations:read",),
    ("GET", "/v1/conversations/{conversation_id}"): ("conversations:read",),
    ("GET", _ITEMS): ("conversations:read",),
    ("GET", f"{_ITEMS}/{{item_id}}"): ("conversations:read",),
    ("GET", "/api/files/{file_id}"): ("conversations:read",),
    ("GET", "/support/attachments/{attachment_id}/content"): ("conversations:read",),
    ("PATCH", _CHAT): ("conversations:write",),
    ("DELETE", _CHAT): ("conversations:write",),
    ("DELETE", "/api/files/{file_id}"): ("conversations:write",),
    ("POST", f"{_CHAT}/restore"): ("conversations:write",),
    # What is copied can be read in the copy's own answer.
    ("POST", f"{_CHAT}/fork"): ("conversations:read", "conversations:write"),
    ("POST", f"{_CHATS}/import"): ("conversations:write",),
    ("DELETE", "/v1/responses/{response_id}"): ("conversations:write",),
    ("POST", "/v1/conversations/{conversation_id}"): ("conversations:write",),
    ("DELETE", "/v1/conversations/{conversation_id}"): ("conversations:write",),
    ("POST", _ITEMS): ("conversations:write",),
    ("DELETE", f"{_ITEMS}/{{item_id}}"): ("conversations:write",),
    ("GET", "/api/usage"): ("usage:read",),
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
    wanted = SCOPES_OF.get((request.method, path))
    if wanted is None:
        _refuse(request, principal, ApiKeyNotAccepted())
    else:
        _require(request, principal, wanted)


def require_reading(request: Request, principal: Principal) -> None:
    """Let a key read what was said before, on a route that is open to others for something else.

    Raises:
        InsufficientScope: this one may not.
    """
    if principal.credential == "api_key":
        _require(request, principal, ("conversations:read",))


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
    address = request.scope["state"]["chatkeep_client"].bucket
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


def _require(request: Request, principal: Principal, wanted: tuple[str, ...]) -> None:
    if missing := [one for one in wanted if one not in principal.scopes]:
        _refuse(request, principal, InsufficientScope.of(*missing))


def _refuse(request: Request, principal: Principal, error: ChatkeepError) -> None:
    services_of(request).embedded.notices.note(
        "api_key.refused",
        reason=error.code,
        user_id=principal.user_id,
        issuer=principal.issuer,
        session_id=principal.token_id,
    )
    raise error
