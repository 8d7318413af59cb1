"""Providers that say what a test wants, and a browser that goes to them and back.

The stand-ins are real HTTP servers with the endpoints of an OpenID provider, of GitHub and of
Apple. The browser keeps cookies by their rules as far as these flows need them: none comes
along with a form that another site sends.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import time
from base64 import urlsafe_b64encode
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web

from tests import forge
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp

    from tests.serving import Node

CLIENT_ID = "chat-web"
CLIENT_SECRET = "a secret of the test client: 0123456789"
APP = "http://127.0.0.1:9/after"


# --- the browser --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where a browser has come to, with what the address says."""

    url: str
    status: int = 200
    body: str = ""

    @property
    def query(self) -> dict[str, str]:
        """The members of the query."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))

    @property
    def fragment(self) -> dict[str, str]:
        """The members of the fragment, which no server has seen."""
        return dict(parse_qsl(urlsplit(self.url).fragment, keep_blank_values=True))


class Browser:
    """A person's browser: it follows redirects up to the application, and sends forms."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        """Begin with no cookies."""
        self.cookies: dict[str, str] = {}
        self.visited: list[str] = []
        self._http = http

    async def go(
        self, url: str, *, stop_at: str = APP, headers: Mapping[str, str] | None = None
    ) -> Page:
        """Go to *url* and on, until an address begins with *stop_at* or a page has come."""
        method, form, more = "GET", None, dict(headers or {})
        for _ in range(20):
            if url.startswith(stop_at):
                return Page(url=url)
            self.visited.append(url)
            sent = {} if form is not None else {"cookie": self._cookie_header()}
            async with self._http.request(
                method, url, data=form, headers={**sent, **more}, allow_redirects=False
            ) as answer:
                body = await answer.text()
                self._keep(answer.headers.getall("set-cookie", []))
                location = answer.headers.get("location")
            method, form, more = "GET", None, {}
            if location is not None:
                url = str(answer.url.join(type(answer.url)(location, encoded=True)))
            elif answer.status == 200 and '<form method="post"' in body:
                method, (url, form) = "POST", _form_of(body)
            else:
                return Page(url=url, status=answer.status, body=body)
        raise AssertionError("too many redirects")

    def _cookie_header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.cookies.items())

    def _keep(self, lines: list[str]) -> None:
        for line in lines:
            pair, *attributes = line.split(";")
            name, _, value = pair.partition("=")
            gone = any(one.strip().lower() == "max-age=0" for one in attributes) or not value
            if gone:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value


def _form_of(page: str) -> tuple[str, dict[str, str]]:
    action = re.search(r'action="([^"]+)"', page)
    assert action is not None
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return html.unescape(action[1]), {name: html.unescape(value) for name, value in fields}


def authorize_url(node: Node, provider: str = "acme", **asked: str) -> str:
    """Return where supabase-js sends a browser to sign in."""
    return f"{node.url}/auth/v1/authorize?" + urlencode(
        {"provider": provider, "redirect_to": APP, **asked}
    )


def pkce(verifier: str = "v" * 56) -> dict[str, str]:
    """Return what supabase-js adds in the PKCE flow."""
    return {"code_challenge": challenge_of(verifier), "code_challenge_method": "s256"}


def challenge_of(verifier: str) -> str:
    """Return the S256 challenge of *verifier*."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


# --- the stand-ins ------------------------------------------------------------------------------


@dataclass(slots=True)
class StandIn:
    """A provider that signs people in at once, and is honest until a test says otherwise.

    *person* are the claims of who signs in; *changes* are made to the ID token (`...` takes a
    claim out), *head* to its header; *back* to what the browser is sent back with; *reply* takes
    the place of the token endpoint's answer. *forms* are what the token endpoint was sent.
    """

    url: str = ""
    person: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "ES256"
    back: dict[str, Any] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    reply: dict[str, Any] | None = None
    answers_with_a_form: bool = False
    form_post_user: str | None = None
    addresses: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the discovery document."""
        said = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/keys",
            "id_token_signing_alg_values_supported": ["ES256", "RS256", "EdDSA"],
            "authorization_endpoint": f"{self.url}/login/oauth/authorize",
            "token_endpoint": f"{self.url}/login/oauth/access_token",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            **self.said,
        }
        return {name: value for name, value in said.items() if value is not ...}

    def id_token(self, nonce: str | None = None, **changes: Any) -> str:  # noqa: ANN401 -- claims
        """Return an ID token about who signs in."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 600,
            **({} if nonce is None else {"nonce": nonce}),
            **self.person,
            **self.changes,
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not ...}
        head = forge.header(self.algorithm, **self.head)
        return forge.forge(head, kept, algorithm=self.algorithm)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        if request.path == "/login/oauth/authorize":
            return self._authorize(dict(request.query))
        if request.path == "/login/oauth/access_token":
            return await self._give(request)
        names = ("ES256", "RS256", "EdDSA")
        documents: dict[str, object] = {
            "/.well-known/openid-configuration": self.document(),
            "/keys": json.loads(forge.document(*(forge.jwk(one) for one in names))),
            "/userinfo": self.person,
            "/api/v3/user": self.person,
            "/api/v3/user/emails": self.addresses,
        }
        found = documents.get(request.path)
        return web.Response(status=404) if found is None else web.json_response(found)

    def _authorize(self, asked: dict[str, str]) -> web.Response:
        self.asked.append(asked)
        code = f"code-{len(self.asked)}"
        self._codes[code] = asked
        back = {"code": code, "state": asked["state"], **self.back}
        back = {name: value for name, value in back.items() if value is not ...}
        if asked.get("response_mode") != "form_post" and not self.answers_with_a_form:
            location = f"{asked['redirect_uri']}?{urlencode(back)}"
            return web.Response(status=302, headers={"location": location})
        if self.form_post_user is not None:
            back["user"] = self.form_post_user
        hidden = "".join(
            f'<input type="hidden" name="{name}" value="{html.escape(value)}">'
            for name, value in back.items()
        )
        action = html.escape(asked["redirect_uri"])
        page = f'<form method="post" action="{action}">{hidden}</form>'
        page += "<script>document.forms[0].submit()</script>"
        return web.Response(text=page, content_type="text/html")

    async def _give(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append(form)
        self.headers.append(dict(request.headers))
        asked = self._codes.pop(form.get("code", ""), None)
        fits = (
            asked is not None
            and challenge_of(form.get("code_verifier", "")) == asked["code_challenge"]
            and form.get("redirect_uri") == asked["redirect_uri"]
        )
        if self.reply is not None:
            return web.json_response(self.reply)
        if not fits or asked is None:
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response(
            {
                "access_token": "their-access-token",
                "refresh_token": "their-refresh-token",
                "token_type": "Bearer",
                "id_token": self.id_token(asked.get("nonce")),
            }
        )


def at_hash(token: str, name: str = "sha256") -> str:
    """Return the `at_hash` of an access token."""
    digest = hashlib.new(name, token.encode()).digest()
    return urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def person(sub: str, **claims: Any) -> dict[str, Any]:  # noqa: ANN401 -- claims
    """Return the claims of somebody with a verified address, unless *claims* say otherwise."""
    said = {
        "sub": sub,
        "email": f"{sub}@example.com",
        "email_verified": True,
        "name": sub.capitalize(),
        **claims,
    }
    return {name: value for name, value in said.items() if value is not ...}


@asynccontextmanager
async def stand_in() -> AsyncIterator[StandIn]:
    """Run a provider on a free port."""
    provider = StandIn()
    async with serving(web.route("*", "/{path:.*}", provider.answer)) as provider.url:
        yield provider


def payload_of(token: str) -> dict[str, Any]:
    """Return what an access token says, unverified."""
    found: dict[str, Any] = json.loads(forge.unsegment(token.split(".")[1]))
    return found
