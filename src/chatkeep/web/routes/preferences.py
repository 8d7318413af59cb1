"""A person's settings."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Header
from pydantic import BaseModel, Field
from starlette.responses import Response

from chatkeep.errors import Invalid
from chatkeep.web.auth import SignedIn
from chatkeep.web.problems import described
from chatkeep.web.schemas import (
    Line,
    LongText,
    MaxTokens,
    ModelId,
    Request,
    Temperature,
    TopP,
)
from chatkeep.web.services import Services, ServicesDep

if TYPE_CHECKING:
    from chatkeep.preferences import Profile
    from chatkeep.principal import Principal

router = APIRouter(
    prefix="/api/settings",
    tags=["settings"],
    responses=described(422),
)


class SettingsRequest(Request):
    """Any subset; null clears a field."""

    version: Annotated[int, Field(ge=0)] | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    max_tokens: MaxTokens | None = None
    system_prompt: LongText | None = None
    default_model: ModelId | None = None
    custom_instructions: LongText | None = None
    display_name: Line | None = None
    theme: Literal["system", "light", "dark"] | None = None
    locale: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")] | None = None


class EffectiveAnswer(BaseModel):
    """What an answer without overrides is made with now."""

    model: str
    temperature: float | None
    top_p: float | None
    max_tokens: int | None


class PolicyAnswer(BaseModel):
    """What the operator allows. `models` empty: any."""

    models: list[str]
    locked: list[str]
    temperature: dict[str, float]
    top_p: dict[str, float]
    max_tokens: dict[str, float]


class SettingsAnswer(BaseModel):
    """A person's settings; null is "no wish"."""

    version: int
    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    system_prompt: str | None
    default_model: str | None
    custom_instructions: str | None
    display_name: str | None
    theme: Literal["system", "light", "dark"] | None
    locale: str | None
    effective: EffectiveAnswer
    policy: PolicyAnswer


@router.get("", response_model=SettingsAnswer)
async def read(who: SignedIn, services: ServicesDep) -> Response:
    """Read the caller's settings, and what they come to under the operator's policy."""
    return await _shown(who, await services.preferences.get_profile(who.user_id), services)


@router.patch("", response_model=SettingsAnswer, responses=described(412))
async def change(
    body: SettingsRequest,
    who: SignedIn,
    services: ServicesDep,
    if_match: Annotated[
        str | None,
        Header(pattern=r'^(\*|"?[0-9]{1,9}"?)$', description="The `ETag` of the settings as read."),
    ] = None,
) -> Response:
    """Change any of the caller's settings; null clears one.

    With `version` (or `If-Match`) the change is refused with 412 when the settings were
    changed since that version was read.
    """
    wishes = body.model_dump(exclude_unset=True, exclude={"version"})
    await services.offered_models.check(who, wishes)
    expected = _expected(body.version, if_match)
    profile = await services.preferences.change_profile(
        who.user_id, wishes, expected_version=expected
    )
    return await _shown(who, profile, services)


def _expected(version: int | None, if_match: str | None) -> int | None:
    if if_match is None or if_match == "*":  # RFC 9110 section 13.1.1: any version
        return version
    read = int(if_match.strip('"'))
    if version not in {None, read}:
        raise Invalid.of("version", "is another one than If-Match names")
    return read


async def _shown(who: Principal, profile: Profile, services: Services) -> Response:
    policy = services.offered_models.policy_for(who)
    effective = (await services.offered_models.choose(who, profile, {})).settings
    answer = SettingsAnswer(
        **asdict(profile),
        effective=EffectiveAnswer(**asdict(effective)),
        policy=PolicyAnswer(
            models=list(policy.models), locked=sorted(policy.locked), **policy.ranges()
        ),
    )
    headers = {"etag": f'"{profile.version}"'}
    return Response(answer.model_dump_json(), media_type="application/json", headers=headers)
