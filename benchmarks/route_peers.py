"""The route of `benchmarks.applications`, signed in with a token that PyJWT verifies.

A dependency and ES256, as FastAPI's documentation has it; nobody looks whether the token
was revoked. Runs in a virtual environment of its own (`benchmarks.peers`).
"""

from __future__ import annotations

import os
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

_KEY, _ISS, _AUDIENCE = os.environ.get("PUBLIC_KEY", ""), os.environ.get("ISS"), "authenticated"
_bearer = HTTPBearer()
pyjwt = FastAPI()


async def claims_of(
    shown: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)],
) -> dict[str, Any]:
    """Return the claims of a token that verifies; 401 for another."""
    try:
        return jwt.decode(
            shown.credentials, _KEY, algorithms=["ES256"], audience=_AUDIENCE, issuer=_ISS
        )
    except jwt.InvalidTokenError as error:
        raise HTTPException(401) from error


@pyjwt.get("/me")
async def me(claims: Annotated[dict[str, Any], Depends(claims_of)]) -> dict[str, str]:
    """Say who is calling."""
    return {"id": claims["sub"]}
