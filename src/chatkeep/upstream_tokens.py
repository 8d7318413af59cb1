"""Renewing and revoking what other issuers gave out, at the issuer itself and nowhere else.

A Supabase project is asked as its clients ask it; an OpenID provider at the token endpoint
(RFC 6749 section 6) and the revocation endpoint (RFC 7009) that it has on its own host, with
our client id and secret. Where to ask comes from the configuration alone, redirects are not
followed, and what is answered is bounded. No token is ever logged or stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from base64 import b64encode
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_plus

import msgspec

from chatkeep.errors import IssuerUnavailable, RefreshTokenRefused
from chatkeep.fetching import FetchFailed, send_form, send_json

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from typing import Any

    from chatkeep.discovery import Provider
    from chatkeep.fetching import Reply
    from chatkeep.issuers import Issuer

_log = logging.getLogger(__name__)

#: What a refresh gave is given again for so long: requests that were sent at the same time
#: with the same token would otherwise throw the person out at an issuer that rotates.
SHARED_S: Final = 10.0
SHORTEST_TOKEN: Final = 8
LONGEST_TOKEN: Final = 8192
_REMEMBERED_AT_MOST: Final = 5_000
_OK: Final = range(200, 300)
_REFUSALS: Final = frozenset({400, 403, 404, 422})
#: "There is no such session", and not "who are you?", which is about our own key.
_ENDED_ALREADY: Final = 403
#: What a 400 can say that is our fault and not the token's (RFC 6749 section 5.2).
_OUR_FAULT: Final = frozenset(
    {
        *("invalid_client", "invalid_request", "invalid_scope", "invalid_target"),
        *("unauthorized_client", "unsupported_grant_type", "bad_json", "validation_failed"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Successor:
    """What a refresh gave; nothing of it is verified yet."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


class _Granted(msgspec.Struct):
    access_token: str
    refresh_token: str | None = None


class _Complaint(msgspec.Struct):
    error: str = ""
    error_code: str = ""
    code: str | int = ""


class UpstreamTokens:
    """Asks other issuers for new tokens, and to end them. Share one per process.

    *public_only* (production): over https, on the public internet, and nowhere else.
    """

    def __init__(
        self,
        issuers: Iterable[Issuer],
        *,
        public_only: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember who can be asked; nobody is yet."""
        self._issuers = {one.name: one for one in issuers if _renews(one)}
        self._public_only = public_only
        self._clock = clock
        self._flights: OrderedDict[bytes, tuple[float, asyncio.Task[Successor]]] = OrderedDict()

    def only_one(self) -> Issuer | None:
        """Return the one issuer that renews tokens, None where there is none or a choice."""
        return next(iter(self._issuers.values())) if len(self._issuers) == 1 else None

    def named(self, name: str) -> Issuer | None:
        """Return the issuer of this name, ours for it or its own (`iss`), if it renews tokens."""
        by_iss = {one.rules.iss: one for one in self._issuers.values()}
        return self._issuers.get(name) or by_iss.get(name)

    async def refresh(
        self, issuer: Issuer, refresh_token: str, *, address: str | None = None
    ) -> Successor:
        """Exchange *refresh_token* at *issuer*; *address* is who asks us for it.

        Whoever shows the same token at the same time, or a few seconds later, is given the
        same: one exchange a node.

        Raises:
            RefreshTokenRefused: the issuer says that it is no good (any more).
            IssuerUnavailable: it cannot be asked, or does not take us for whom we are.
        """
        key = hashlib.sha256(f"{issuer.name}\0{refresh_token}".encode()).digest()
        flight = self._flight(key)
        if flight is None:
            flight = asyncio.create_task(self._refreshed(issuer, refresh_token, address))
            flight.add_done_callback(lambda done: self._landed(key, done))
            self._flights[key] = (float("inf"), flight)
        # Shielded: who hangs up must not take it from the others.
        return await asyncio.shield(flight)

    async def revoke(
        self, issuer: Issuer, *, access_token: str | None, refresh_token: str | None
    ) -> bool:
        """End at *issuer* what these tokens belong to; return whether there was anything to ask.

        Raises:
            IssuerUnavailable: it cannot be asked.
        """
        match issuer.preset:
            case "supabase" if issuer.endpoints.revoke_url:
                return await self._sign_out(issuer, access_token, refresh_token)
            case "better-auth" if issuer.endpoints.revoke_url and access_token:
                return await self._end_session(issuer, access_token)
            case "oidc" if issuer.endpoints.client_id:
                return await self._revoke(issuer, refresh_token or access_token)
        return False

    async def close(self) -> None:
        """Stop asking."""
        for _, flight in self._flights.values():
            flight.cancel()
        flights = [flight for _, flight in self._flights.values()]
        await asyncio.gather(*flights, return_exceptions=True)

    def _flight(self, key: bytes) -> asyncio.Task[Successor] | None:
        until, flight = self._flights.get(key, (0.0, None))
        if flight is None or self._clock() >= until:
            self._flights.pop(key, None)
            return None
        return flight

    def _landed(self, key: bytes, done: asyncio.Task[Successor]) -> None:
        """Keep what the issuer said, good or bad, for a while; forget that it was away."""
        if done.cancelled():
            self._flights.pop(key, None)
            return
        error = done.exception()
        if error is not None and not isinstance(error, RefreshTokenRefused):
            self._flights.pop(key, None)
            return
        self._flights[key] = (self._clock() + SHARED_S, done)
        self._flights.move_to_end(key)
        while len(self._flights) > _REMEMBERED_AT_MOST:
            self._flights.popitem(last=False)

    async def _refreshed(
        self, issuer: Issuer, refresh_token: str, address: str | None
    ) -> Successor:
        reply = await self._ask_to_refresh(issuer, refresh_token, address)
        if reply.status in _OK:
            return _successor(issuer, reply, refresh_token)
        # Without a code it was somebody in between, and no reason to sign anybody out.
        complaints = _complaints(reply)
        if reply.status in _REFUSALS and complaints and not complaints & _OUR_FAULT:
            raise RefreshTokenRefused
        _log.warning(
            "%s renews no token: it answered %d (%s)",
            *(issuer.name, reply.status, ", ".join(sorted(complaints)) or "no reason"),
        )
        raise IssuerUnavailable(_BROKEN)

    async def _ask_to_refresh(
        self, issuer: Issuer, refresh_token: str, address: str | None
    ) -> Reply:
        if issuer.preset == "supabase":
            url = issuer.endpoints.refresh_url
            headers = _supabase_headers(issuer, address)
            body = {"refresh_token": refresh_token}
            return await self._asked(issuer, url, send_json, body, headers)
        provider = await self._provider(issuer)
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self._as_client(issuer, provider, provider.token_url, form)

    async def _sign_out(
        self, issuer: Issuer, access_token: str | None, refresh_token: str | None
    ) -> bool:
        """Supabase ends a session for the bearer of its access token, and in no other way."""
        if access_token is None and refresh_token is not None:
            try:
                access_token = (await self.refresh(issuer, refresh_token)).access_token
            except RefreshTokenRefused:
                return True  # it has ended there
        if access_token is None:
            return False
        headers = {**_supabase_headers(issuer), "Authorization": f"Bearer {access_token}"}
        url = f"{issuer.endpoints.revoke_url}?scope=local"
        reply = await self._asked(issuer, url, send_json, {}, headers)
        return _ended(issuer, reply)

    async def _end_session(self, issuer: Issuer, access_token: str) -> bool:
        """Better Auth ends the session whose token it is shown; its JWTs name none."""
        if access_token.count(".") > 1:
            return False
        url = issuer.endpoints.revoke_url
        headers = {"Authorization": f"Bearer {access_token}", "Origin": _origin(str(url))}
        return _ended(issuer, await self._asked(issuer, url, send_json, {}, headers))

    async def _revoke(self, issuer: Issuer, token: str | None) -> bool:
        provider = await self._provider(issuer)
        if provider.revocation_url is None or token is None:
            return False
        reply = await self._as_client(issuer, provider, provider.revocation_url, {"token": token})
        if _complaints(reply) & {"unsupported_token_type"}:
            return False  # RFC 7009 section 2.2.1: it ends refresh tokens only
        return _ended(issuer, reply)

    async def _provider(self, issuer: Issuer) -> Provider:
        if issuer.endpoints.discovery is None:
            raise IssuerUnavailable(_BROKEN)
        try:
            return await issuer.endpoints.discovery.provider()
        except (FetchFailed, ValueError) as error:
            _log.warning("%s cannot be asked: %s", issuer.name, error)
            raise IssuerUnavailable(_AWAY) from error

    async def _as_client(
        self, issuer: Issuer, provider: Provider, url: str | None, form: Mapping[str, str]
    ) -> Reply:
        """Send *form* as the client that we are there (RFC 6749 section 2.3.1)."""
        known, secret = issuer.endpoints.client_id or "", issuer.endpoints.client_secret
        if secret is None:
            return await self._asked(issuer, url, send_form, {**form, "client_id": known}, {})
        if provider.secret_in_body:
            both = {"client_id": known, "client_secret": secret}
            return await self._asked(issuer, url, send_form, {**form, **both}, {})
        pair = f"{quote_plus(known)}:{quote_plus(secret)}".encode()
        headers = {"Authorization": f"Basic {b64encode(pair).decode()}"}
        return await self._asked(issuer, url, send_form, form, headers)

    async def _asked(
        self,
        issuer: Issuer,
        url: str | None,
        send: Callable[..., Coroutine[Any, Any, Reply]],
        body: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> Reply:
        if url is None:
            _log.warning("%s has no such endpoint on its own host", issuer.name)
            raise IssuerUnavailable(_BROKEN)
        try:
            return await send(url, body, public_only=self._public_only, headers=headers)
        except (FetchFailed, ValueError) as error:
            _log.warning("%s cannot be asked: %s", issuer.name, error)
            raise IssuerUnavailable(_AWAY) from error


_AWAY: Final = "Whoever issued the token cannot be reached right now."
_BROKEN: Final = "Whoever issued the token does not renew or end it right now."


def _renews(issuer: Issuer) -> bool:
    endpoints = issuer.endpoints
    openid = issuer.preset == "oidc" and endpoints.client_id and endpoints.discovery
    return bool(openid or (issuer.preset == "supabase" and endpoints.refresh_url))


def _supabase_headers(issuer: Issuer, address: str | None = None) -> dict[str, str]:
    """The project's key. With a secret one it counts its limits by who asks us, not by us."""
    endpoints = issuer.endpoints
    key = endpoints.client_secret or endpoints.client_id
    headers = {} if key is None else {"apikey": key}
    if endpoints.client_secret and address:
        headers["Sb-Forwarded-For"] = address
    return headers


def _successor(issuer: Issuer, reply: Reply, shown: str) -> Successor:
    try:
        granted = msgspec.json.decode(reply.body, type=_Granted)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _log.warning("%s answered a refresh with what is no token", issuer.name)
        raise IssuerUnavailable(_BROKEN) from error
    # An issuer that does not rotate gives none: the old one stays good (RFC 6749 section 6).
    successor = granted.refresh_token or shown
    if not is_refresh_token(successor):
        raise IssuerUnavailable(_BROKEN)
    return Successor(access_token=granted.access_token, refresh_token=successor)


def is_refresh_token(text: str) -> bool:
    """Whether *text* can be somebody's refresh token (RFC 6749 appendix A.17)."""
    fits = SHORTEST_TOKEN <= len(text) <= LONGEST_TOKEN
    return fits and text.isascii() and text.isprintable() and " " not in text


def _complaints(reply: Reply) -> set[str]:
    """The error codes of an answer; nothing else of it is worth a look."""
    try:
        said = msgspec.json.decode(reply.body, type=_Complaint)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return set()
    codes = {said.error, said.error_code, str(said.code)}
    return {one for one in codes if one.isascii() and one.replace("_", "").isalpha()}


def _ended(issuer: Issuer, reply: Reply) -> bool:
    """Whether it is over there. A token that is not taken any more has nothing left to end."""
    if reply.status in _OK or reply.status == _ENDED_ALREADY:
        return True
    _log.warning("%s ends no token: it answered %d", issuer.name, reply.status)
    raise IssuerUnavailable(_BROKEN)


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"
