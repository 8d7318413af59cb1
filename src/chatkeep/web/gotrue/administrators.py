"""Who may administer under `/auth/v1`: a server that has the secret key, and nobody else.

No token of a person opens these routes, whatever it says of roles: also none of a Supabase
project's `service_role`, which anybody who knows the shared secret could have signed.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from chatkeep.errors import CredentialsConflict, Unauthenticated
from chatkeep.web.api_document import TakesBearer
from chatkeep.web.gotrue.callers import here_of
from chatkeep.web.gotrue.errors import Refusal, Refused
from chatkeep.web.services import services_of

#: Who acts, as the audit log calls them.
ACTOR = "secret_key"
_NOT_ADMIN = Refusal(403, "not_admin", "User not allowed")


async def secret_key(request: Request) -> str:
    """Let in whoever shows the secret key, as the bearer or as `apikey`; return who that is.

    The bearer decides where there is one, as at Supabase Auth: a person's token beside the
    secret key is still a person's.

    Raises:
        Unauthenticated: neither is there, or nothing but the publishable key.
        CredentialsConflict: one of them is there twice.
        Refused: not_admin, for whoever is signed in.
        TokenInvalid, UserNotFound, SessionNotFound, UserBanned: see `here_of`.
    """
    services = services_of(request)
    keys = services.embedded.supabase_keys
    bearers, named = (request.headers.getlist(name) for name in ("authorization", "apikey"))
    if len(bearers) > 1 or len(named) > 1:
        raise CredentialsConflict
    if not bearers:
        if named and keys.is_secret(named[0]):
            return ACTOR
        raise Unauthenticated
    scheme, bearer = (*bearers[0].split(" ", maxsplit=1), "")[:2]
    if scheme.lower() == "bearer" and keys.is_secret(bearer):
        return ACTOR
    here = await here_of(request)
    services.embedded.notices.note(
        "administration.refused",
        reason=_NOT_ADMIN.code,
        user_id=here.session.user_id,
        issuer=services.embedded.issuer.name,
        session_id=here.session.id,
    )
    raise Refused(_NOT_ADMIN)


SecretKey = Annotated[str, Depends(TakesBearer(secret_key))]
