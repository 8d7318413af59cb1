"""`/api/admin`, for those who operate the server: claims, limits, signing keys."""

from __future__ import annotations

from datetime import datetime

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import Response

from chatkeep.claims import read_drain
from chatkeep.limits import AT_ONCE, RATES
from chatkeep.signing_keys import changes
from chatkeep.web.administrators import Administrator
from chatkeep.web.services import ServicesDep

router = APIRouter(prefix="/api/admin", tags=["administration"])


class RateLimitAnswer(BaseModel):
    """So many at once, refilled evenly over the period."""

    kind: str
    burst: int
    period_seconds: float
    #: Whether all processes count together where they share a Redis.
    shared: bool


class LimitsAnswer(BaseModel):
    """What may be done how often, and how much may go on at once."""

    enabled: bool
    limits: list[RateLimitAnswer]
    at_once: dict[str, int]


class SigningKeyAnswer(BaseModel):
    """A key that signs, will, or did. `until`: when it is taken out of the published set."""

    kid: str
    algorithm: str
    status: str
    created_at: datetime
    signs_since: datetime | None
    until: datetime | None


class SigningKeysAnswer(BaseModel):
    """All keys of our own issuer, the one that signs first."""

    keys: list[SigningKeyAnswer]


@router.get("/claims", response_model=None)
async def claims(_: Administrator, services: ServicesDep) -> Response:
    """Show how many session tokens of each version had to be upgraded, and when they end."""
    drain = await read_drain(services.db, services.session_tokens.versions)
    return Response(msgspec.json.encode(drain), media_type="application/json")


@router.get("/limits")
async def limits(_: Administrator, services: ServicesDep) -> LimitsAnswer:
    """Show the limits in force."""
    return LimitsAnswer(
        enabled=services.settings.rate_limits,
        limits=[
            RateLimitAnswer(
                kind=kind, burst=rate.burst, period_seconds=rate.period_s, shared=rate.shared
            )
            for kind, rate in sorted(RATES.items())
        ],
        at_once=dict(AT_ONCE),
    )


@router.get("/signing-keys")
async def signing_keys(_: Administrator, services: ServicesDep) -> SigningKeysAnswer:
    """Show the keys of our own issuer, without what signs: which does, and which is next."""
    return SigningKeysAnswer(
        keys=[
            SigningKeyAnswer(
                kid=one.kid,
                algorithm=one.algorithm,
                status=one.status,
                created_at=one.created_at,
                signs_since=one.signs_since,
                until=one.until,
            )
            for one in await changes.listed(services.db)
        ]
    )
