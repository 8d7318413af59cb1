"""Real servers that sign people in, which nobody here wrote: Better Auth, an OpenID provider.

They run as processes of their own on loopback, and are ended by their process ids. The
packages are those of `tests/clients`, which `make test` installs.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.free_ports import free_port
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp

    from tests.postgres_servers import Server

CLIENTS = Path(__file__).parent / "clients"
INSTALLED = CLIENTS / "node_modules" / "better-auth"
NOT_INSTALLED = "the npm packages of tests/clients are not installed: run `make test`"
SECRET = "a secret of the Better Auth of tests: 0123456789"
PASSWORD = "correct horse battery"
AUDIENCE = "https://chat.example/api"
CLIENT_ID = "chat-web"

_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody with an account at Better Auth, and what they got when they signed in."""

    id: str
    email: str
    session: str
    signed: str
    cookies: Mapping[str, str]

    @property
    def cookie(self) -> str:
        """The session cookie as a browser sends it."""
        ((name, value),) = [
            (name, value) for name, value in self.cookies.items() if name.endswith("session_token")
        ]
        return f"{name}={value}"


class BetterAuthServer:
    """A running Better Auth. *variant* says which of its servers is asked, see its script."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        """Remember where it is."""
        self.url = url
        self._http = http

    async def call(
        self,
        path: str,
        body: object = None,
        *,
        method: str = "POST",
        session: str | None = None,
        variant: str = "EdDSA",
    ) -> tuple[dict[str, Any], aiohttp.ClientResponse]:
        """Call its API as whose *session* token that is; return the answer, which must be good."""
        headers = {"origin": self.url, "x-variant": variant}
        if variant == "https":
            headers["origin"] = "https://auth.example"
        if session is not None:
            headers["authorization"] = f"Bearer {session}"
        async with self._http.request(
            method, f"{self.url}/api/auth{path}", json=body, headers=headers
        ) as answer:
            text = await answer.text()
            assert answer.status == 200, f"{path}: {answer.status} {text}"
            return json.loads(text), answer

    async def sign_up(self, email: str | None = None, *, variant: str = "EdDSA") -> Account:
        """Make an account and sign in."""
        email = email or f"person-{next(_numbers)}-{time.monotonic_ns()}@example.com"
        body = {"email": email, "password": PASSWORD, "name": "Ana Example"}
        return _account(*await self.call("/sign-up/email", body, variant=variant))

    async def sign_in(self, account: Account, *, variant: str = "EdDSA") -> Account:
        """Sign in once more."""
        body = {"email": account.email, "password": PASSWORD}
        return _account(*await self.call("/sign-in/email", body, variant=variant))

    async def jwt(self, account: Account, *, variant: str = "EdDSA") -> str:
        """Return a token of the JWT plugin."""
        body, _ = await self.call("/token", method="GET", session=account.session, variant=variant)
        token: str = body["token"]
        return token

    async def mailed_token(self, account: Account) -> str:
        """Return the token in a verification mail to *account*."""
        await self.call("/send-verification-email", {"email": account.email})
        async with self._http.get(f"{self.url}/mail", params={"address": account.email}) as answer:
            return await answer.text()


def _account(body: Mapping[str, Any], answer: aiohttp.ClientResponse) -> Account:
    pairs = [line.partition(";")[0] for line in answer.headers.getall("set-cookie")]
    return Account(
        id=body["user"]["id"],
        email=body["user"]["email"],
        session=body["token"],
        signed=answer.headers["set-auth-token"],
        cookies=dict(pair.split("=", 1) for pair in pairs),
    )


@asynccontextmanager
async def better_auth(
    server: Server, database: str, http: aiohttp.ClientSession, *flags: str
) -> AsyncIterator[BetterAuthServer]:
    """Run Better Auth on *database* of *server*, where it makes its tables."""
    port = free_port()
    environ = {
        "PGHOST": str(server.folder),
        "PGDATABASE": database,
        "PGUSER": "postgres",
        "BETTER_AUTH_SECRET": SECRET,
    }
    async with _running(environ, "better-auth-server.mjs", str(port), *flags):
        yield BetterAuthServer(f"http://127.0.0.1:{port}", http)


@asynccontextmanager
async def openid_provider(
    algorithm: str, *redirect_uris: str, logout_uri: str = "", logout_names: str = "person"
) -> AsyncIterator[str]:
    """Run an OpenID provider that signs with *algorithm*; lend its issuer name.

    Browsers may be sent back to *redirect_uris*. With *logout_uri* it tells that of log-outs:
    whose, or with *logout_names* "session" also of which session.
    """
    port = free_port()
    environ = {"LOGOUT_URI": logout_uri, "LOGOUT_NAMES": logout_names}
    async with _running(environ, "openid-provider.mjs", str(port), algorithm, *redirect_uris):
        yield f"http://127.0.0.1:{port}"


async def openid_sign_in(issuer: str, *people: str) -> list[dict[str, str]]:
    """Return what each of *people* gets at *issuer*, and last what the client itself gets."""
    process = await asyncio.create_subprocess_exec(
        *("node", str(CLIENTS / "openid-sign-in.mjs"), issuer, *people),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    return [json.loads(line) for line in output.splitlines()]


async def openid_sign_out(issuer: str, cookie: str, http: aiohttp.ClientSession) -> None:
    """End the session at *issuer* that *cookie* is of, as a browser does that is sent there.

    The provider has told whom it tells by the time this returns.
    """
    async with http.get(f"{issuer}/session/end", headers={"cookie": cookie}) as page:
        body = await page.text()
        assert page.status == 200, body
    (proof,) = re.findall(r'name="xsrf" value="([^"]+)"', body)
    async with http.post(
        f"{issuer}/session/end/confirm",
        data={"xsrf": proof, "logout": "yes"},
        headers={"cookie": cookie},
        allow_redirects=False,
    ) as answer:
        assert answer.status == 303, await answer.text()


@asynccontextmanager
async def _running(environ: Mapping[str, str], *command: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *("node", str(CLIENTS / command[0]), *command[1:]),
        env={**os.environ, **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            while b"ready\n" not in said:
                more = await process.stdout.read(1 << 16)
                assert more, f"{command[0]} ended before it was ready:\n{said.decode()}"
                said += more
        reading = asyncio.create_task(process.stdout.read())  # or it would block on a full pipe
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
    await reading
