"""What doctor finds out by asking others: the model's provider, Supabase, our own address."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from joserfc.jwk import ECKey

from chatkeep.config import Settings
from chatkeep.setup_checks.doctor import examine_address
from chatkeep.setup_checks.issuers import examine_issuers
from chatkeep.setup_checks.models import examine_models, examine_running
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "sk-a-good-key"
PUBLIC_KEY = {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "a", "alg": "ES256"}
NOWHERE = "http://127.0.0.1:1"


async def answer(request: web.Request) -> web.StreamResponse:
    """Be a provider, a Supabase project and a Chatkeep, as the path wants it."""
    if request.path in {"/v1/models", "/v1/key"}:
        right = request.headers.get("authorization") == f"Bearer {KEY}"
        return web.json_response({}, status=200 if right else 401)
    if request.path == "/project/auth/v1/.well-known/jwks.json":
        return web.json_response({"keys": [PUBLIC_KEY]})
    if request.path == "/readyz":
        # In two pieces, the second of which comes when the first has been read.
        said = web.StreamResponse()
        await said.prepare(request)
        await said.write(b'{"status": "ok", "upstreams": ')
        await asyncio.sleep(0.05)
        await said.write(b'{"openai": "up", "groq": "down"}}')
        return said
    if request.path == "/large/readyz":
        return web.json_response({"upstreams": {"openai": "up"}, "more": "x" * (1 << 16)})
    return web.Response(status=200 if request.path == "/healthz" else 404)


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """The address of all three."""
    async with serving(web.get("/{path:.*}", answer)) as found:
        yield found


@pytest.mark.parametrize("vendor", ["OPENAI", "OPENROUTER"])
async def test_provider_is_asked_whether_it_takes_the_key(base: str, vendor: str) -> None:
    """A key that is refused, and a provider that is away, are two things with two cures."""
    for key, url, problem in (
        (KEY, base, ""),
        ("sk-a-bad-key", base, f"check {vendor}_API_KEY"),
        (KEY, NOWHERE, "does not answer"),
        (KEY, f"{base}/v1", f"check {vendor}_BASE_URL"),
    ):
        environ = {f"{vendor}_API_KEY": key, f"{vendor}_BASE_URL": f"{url}/v1"}
        (finding,) = await examine_models(Settings.from_env(environ))
        assert finding.is_good == (not problem)
        assert problem in "".join(finding.problems)
        assert key not in repr(finding)


async def test_each_of_several_providers_is_asked(base: str) -> None:
    """By its name; one that needs no key is asked without one."""
    environ = {
        "UPSTREAMS": "openai,good,bad,none,away,astray",
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": f"{base}/v1",
        "UPSTREAM_GOOD_URL": f"{base}/elsewhere",
        "UPSTREAM_GOOD_MODELS": "x",  # so it need not list them
        "UPSTREAM_BAD_URL": f"{base}/v1",
        "UPSTREAM_BAD_API_KEY": "sk-a-bad-key",
        "UPSTREAM_NONE_URL": f"{base}/v1",
        "UPSTREAM_AWAY_URL": f"{NOWHERE}/v1",
        "UPSTREAM_ASTRAY_URL": base,
        "MODEL_ROUTES": "fast=gpt-4o-mini|x@good",
    }
    findings = await examine_models(Settings.from_env(environ))
    assert [(one.name, one.note or one.problems[0]) for one in findings] == [
        ("Model", "gpt-4o-mini; names: fast"),
        ("Model openai", "127.0.0.1 takes the key"),
        ("Model good", "127.0.0.1 answers"),
        ("Model bad", "127.0.0.1 refuses the key: check UPSTREAM_BAD_API_KEY."),
        ("Model none", "127.0.0.1 wants a key: set UPSTREAM_NONE_API_KEY."),
        ("Model away", "127.0.0.1 does not answer: check the network."),
        (
            "Model astray",
            "127.0.0.1 has nothing at /models: check UPSTREAM_ASTRAY_URL, up to its /v1.",
        ),
    ]
    assert KEY not in repr(findings)


async def test_running_server_says_which_provider_it_finds_down(base: str) -> None:
    """Nobody there, and somebody else there, say nothing."""
    found = await examine_running(Settings.from_env({"PUBLIC_URL": base}))
    assert found is not None
    assert (found.is_good, found.note) == (False, "openai up, groq down")
    assert found.problems[0].startswith("The server finds groq down")
    for url in (NOWHERE, f"{base}/elsewhere", f"{base}/large"):
        assert await examine_running(Settings.from_env({"PUBLIC_URL": url})) is None


async def test_project_of_supabase_is_asked_for_its_keys(base: str) -> None:
    """An address that leads to no keys is named."""
    for url, good in ((f"{base}/project", True), (f"{base}/typo", False), (NOWHERE, False)):
        settings = Settings.from_env({"SUPABASE_PROJECT_URL": url})
        (finding,) = [one async for one in examine_issuers(settings)]
        assert finding.is_good == good, finding
    both = {"SUPABASE_PROJECT_URL": NOWHERE, "SUPABASE_JWT_SECRET": "0123456789abcdef" * 2}
    (finding,) = [one async for one in examine_issuers(Settings.from_env(both))]
    assert finding.is_good
    assert finding.note.startswith("the shared secret (HS256), no keys at ")


async def test_public_address_is_followed(base: str) -> None:
    """One that leads elsewhere is wrong; one where nobody is now may be right."""
    for url, good in ((base, True), (f"{base}/elsewhere", False), (NOWHERE, True)):
        finding = await examine_address(Settings.from_env({"PUBLIC_URL": url}))
        assert finding.is_good == good, finding
