"""What doctor finds out by asking others: the model's provider, Supabase, our own address."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from joserfc.jwk import ECKey

from chatkeep.config import Settings
from chatkeep.doctor import examine_address, examine_model
from chatkeep.issuer_checks import examine_issuers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "sk-a-good-key"
PUBLIC_KEY = {**ECKey.generate_key("P-256").as_dict(private=False), "kid": "a", "alg": "ES256"}
NOWHERE = "http://127.0.0.1:1"


async def answer(request: web.Request) -> web.Response:
    """Be a provider, a Supabase project and a Chatkeep, as the path wants it."""
    if request.path in {"/v1/models", "/v1/key"}:
        right = request.headers.get("authorization") == f"Bearer {KEY}"
        return web.json_response({}, status=200 if right else 401)
    if request.path == "/project/auth/v1/.well-known/jwks.json":
        return web.json_response({"keys": [PUBLIC_KEY]})
    return web.Response(status=200 if request.path == "/healthz" else 404)


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Serve `answer` and lend its address."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """The address of all three."""
    async with serving() as found:
        yield found


@pytest.mark.parametrize("vendor", ["OPENAI", "OPENROUTER"])
async def test_provider_is_asked_whether_it_takes_the_key(base: str, vendor: str) -> None:
    """A key that is refused, and a provider that is away, are two things with two cures."""
    for key, url, problem in (
        (KEY, base, ""),
        ("sk-a-bad-key", base, f"check {vendor}_API_KEY"),
        (KEY, NOWHERE, "does not answer"),
    ):
        environ = {f"{vendor}_API_KEY": key, f"{vendor}_BASE_URL": f"{url}/v1"}
        finding = await examine_model(Settings.from_env(environ))
        assert finding.is_good == (not problem)
        assert problem in "".join(finding.problems)
        assert key not in repr(finding)


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
