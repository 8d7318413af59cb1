"""Ask a provider from here, not through the browser: for tokens, and who they are about.

What it answers is bounded, never led elsewhere, and never shown or logged: it holds tokens.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from chatkeep.errors import BadOAuthCallback, IssuerUnavailable
from chatkeep.fetching import FetchFailed, fetch, send_form
from chatkeep.issuance import ProviderTokens
from chatkeep.tokens.compact import Repeated, refuse_repeated_members

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

_OK: Final = 200
_AWAY: Final = 500
_NOT_FOR_US: Final = frozenset({401, 403, 404})
_LONGEST_TOKEN: Final = 16_384
_WORD = re.compile(r"[a-z_]{1,40}")


class NotAnswered(Exception):
    """The provider does not say this to the bearer of this token, now or later."""


class TokenAnswer(msgspec.Struct):
    """What a token endpoint gives out (RFC 6749 section 5.1, OpenID Connect Core 3.1.3.3)."""

    access_token: str
    token_type: str
    id_token: str | None = None
    refresh_token: str | None = None

    def handed_on(self) -> ProviderTokens:
        """Return what the application may have of it."""
        return ProviderTokens(access=self.access_token, refresh=self.refresh_token)


class _Complaint(msgspec.Struct):
    error: str


async def exchange(
    name: str, url: str, form: Mapping[str, str], *, headers: Mapping[str, str], public_only: bool
) -> TokenAnswer:
    """Exchange a code at the token endpoint *url* of the provider *name*.

    Raises:
        BadOAuthCallback: it refuses, or its answer is none.
        IssuerUnavailable: it is away.
    """
    try:
        reply = await send_form(url, form, headers=headers, public_only=public_only)
    except (FetchFailed, ValueError) as error:
        _log.warning("the token endpoint of %s does not answer: %s", name, error)
        raise IssuerUnavailable from error
    if reply.status >= _AWAY:
        _log.warning("the token endpoint of %s answered %d", name, reply.status)
        raise IssuerUnavailable
    answer = _token_answer(reply.body) if reply.status == _OK else None
    if answer is None or answer.token_type.lower() != "bearer":
        _log.warning("%s gives no tokens (%d): %s", name, reply.status, _complaint(reply.body))
        raise BadOAuthCallback("The provider did not accept this sign-in: begin again")
    return answer


async def ask(
    name: str, url: str, access_token: str, *, public_only: bool, accept: str = "application/json"
) -> bytes:
    """Return what the API of the provider *name* says at *url* to the bearer of *access_token*.

    Raises:
        NotAnswered: the token is not good for that.
        IssuerUnavailable: nothing usable.
    """
    headers = {"Authorization": f"Bearer {access_token}", "Accept": accept}
    try:
        return (await fetch(url, public_only=public_only, headers=headers)).body
    except (FetchFailed, ValueError) as error:
        _log.warning("%s does not say who signed in: %s", name, error)
        if isinstance(error, FetchFailed) and error.status in _NOT_FOR_US:
            raise NotAnswered from error
        raise IssuerUnavailable from error


def read_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object in which no member stands twice.

    Raises:
        ValueError: it is none.
    """
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
        refuse_repeated_members(body, found)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Repeated) as error:
        raise ValueError("it is no JSON object") from error
    return found


def _token_answer(body: bytes) -> TokenAnswer | None:
    try:
        read_object(body)
        answer = msgspec.json.decode(body, type=TokenAnswer)
    except (ValueError, msgspec.ValidationError):
        return None
    given = (answer.access_token, answer.id_token, answer.refresh_token)
    if not answer.access_token or any(len(one) > _LONGEST_TOKEN for one in given if one):
        return None
    # They travel in headers and addresses.
    return answer if all(one.isascii() and one.isprintable() for one in given if one) else None


def _complaint(body: bytes) -> str:
    """Return the provider's error code, if that is a word that can be logged."""
    try:
        word = msgspec.json.decode(body, type=_Complaint).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "no reason"
    return word if _WORD.fullmatch(word) else "no reason"
