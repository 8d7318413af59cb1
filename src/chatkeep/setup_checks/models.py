"""Whether the providers of models are there, take our keys, and what a running server sees.

Everything is looked at and no model made to work. No finding shows a key.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from chatkeep.config.upstreams import PRESETS, upstreams_of
from chatkeep.llm.choice import default_model_id
from chatkeep.setup_checks.findings import Finding
from chatkeep.setup_checks.reaching import body_at, status_at

if TYPE_CHECKING:
    from chatkeep.config import Settings
    from chatkeep.config.upstreams import Upstream

_REFUSED: Final = frozenset({401, 403})


class _Ready(msgspec.Struct):
    upstreams: dict[str, str] = {}


async def examine_models(settings: Settings) -> list[Finding]:
    """Ask every provider whether it is there and takes our key."""
    upstreams = upstreams_of(settings)
    default = default_model_id(settings)
    if not upstreams:
        instead = settings.responder and f"none is asked: {settings.responder} answers"
        return [Finding(name="Model", note=instead or f"{default}, built in: no key is set")]
    found = await asyncio.gather(*(_examine(one) for one in upstreams))
    if not settings.upstream_names:
        note = f"{default}; {found[0].note}"
        return [Finding(name="Model", note=note, problems=found[0].problems)]
    names = ", ".join(name for name, _ in settings.model_routes)
    note = f"{default}; names: {names}" if names else default
    return [Finding(name="Model", note=note), *found]


async def examine_running(settings: Settings) -> Finding | None:
    """Ask the server at our address, if one runs there, which providers it finds down."""
    body = await body_at(f"{settings.base_url}/readyz")
    try:
        states = msgspec.json.decode(body or b"{}", type=_Ready).upstreams
    except (ValueError, RecursionError):
        return None  # somebody else's server: said by who follows the address
    if not states:
        return None
    problems = tuple(
        f"The server finds {name} {state}: it asks nobody there for now. Its log says why."
        for name, state in states.items()
        if state != "up"
    )
    shown = ", ".join(f"{name} {state}" for name, state in states.items())
    return Finding(name="Upstreams", note=shown, problems=problems)


async def _examine(one: Upstream) -> Finding:
    preset = one.name in PRESETS
    name = f"{one.name.upper()}_API_KEY" if preset else f"{one.prefix}_API_KEY"
    address = f"{one.name.upper()}_BASE_URL" if preset else f"{one.prefix}_URL"
    # OpenRouter lists its models to anybody, whatever their key.
    url = f"{one.url}/{'key' if one.kind == 'openrouter' else 'models'}"
    headers = {"authorization": f"Bearer {one.api_key}"} if one.api_key else {}
    status = await status_at(url, headers)
    host = urlsplit(url).hostname
    if status is None:
        problem = f"{host} does not answer: check the network."
    elif status in _REFUSED and one.api_key:
        problem = f"{host} refuses the key: check {name}."
    elif status in _REFUSED:
        problem = f"{host} wants a key: set {name}."
    elif status == HTTPStatus.NOT_FOUND and not one.models:
        problem = f"{host} has nothing at {urlsplit(url).path}: check {address}, up to its /v1."
    else:
        takes = "takes the key" if one.api_key else "answers"
        return Finding(name=f"Model {one.name}", note=f"{host} {takes}")
    return Finding(name=f"Model {one.name}", problems=(problem,))
