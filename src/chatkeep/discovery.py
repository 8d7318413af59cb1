"""What an OpenID provider says of itself: where its keys are, and what it signs with.

The document is fetched from the provider's own address and believed only where it speaks of
that provider (OpenID Connect Discovery 1.0 section 4): a document that names another
issuer, or keys on another host, would let one provider sign for another.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from chatkeep.fetching import FetchFailed, fetch
from chatkeep.jwks import MAX_STALE_S, KeyPlace
from chatkeep.tokens import ASYMMETRIC_ALGORITHMS
from chatkeep.tokens.compact import Repeated, refuse_repeated_members

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

_log = logging.getLogger(__name__)

#: From this age on the document is fetched again before keys are.
REDISCOVERY_AGE_S: Final = 3600.0

_NEVER = -math.inf


class _Document(msgspec.Struct):
    """The members that matter, with the types they must have."""

    issuer: str
    jwks_uri: str
    id_token_signing_alg_values_supported: list[str]
    token_endpoint: str | None = None
    revocation_endpoint: str | None = None
    authorization_endpoint: str | None = None
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: list[str] = msgspec.field(
        default_factory=lambda: ["client_secret_basic"]  # what leaving it out means (section 3)
    )
    authorization_response_iss_parameter_supported: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider as it describes itself, checked. *date* is what time it thinks it is.

    An endpoint that it has on another host is None: our secret must not go there.
    *secret_in_body*: it wants our secret among the form's fields and not in a header.
    *names_itself*: it says who it is when it sends a browser back (RFC 9207).
    """

    keys: KeyPlace
    token_url: str | None
    revocation_url: str | None
    date: datetime | None
    authorization_url: str | None = None
    userinfo_url: str | None = None
    secret_in_body: bool = False
    names_itself: bool = False


class Discovery:
    """What the provider named *issuer* says of itself, kept for an hour.

    *public_only* (production) takes https only. *jwks_url* is where its keys are if an
    operator said so; then what the provider says of that counts for nothing. *hosts* are
    its own too, beside that of its name.
    """

    def __init__(
        self,
        issuer: str,
        *,
        public_only: bool,
        jwks_url: str | None = None,
        hosts: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Remember whom to ask; nothing is fetched yet."""
        self.issuer = issuer
        self._public_only = public_only
        self._jwks_url = jwks_url
        self._hosts = {urlsplit(issuer).netloc.lower(), *(one.lower() for one in hosts)}
        self._clock = clock
        self._known: Provider | None = None
        self._asked_at = _NEVER

    async def keys(self) -> KeyPlace:
        """Return where the provider's keys are; raises as `provider` does."""
        return (await self.provider()).keys

    async def provider(self) -> Provider:
        """Return what the provider says of itself.

        Raises:
            FetchFailed: it cannot be asked.
            ValueError: what it says cannot be believed, or not be used.
        """
        age = self._clock() - self._asked_at
        if self._known is None or age >= REDISCOVERY_AGE_S:
            try:
                self._known = await self._ask()
            except (FetchFailed, ValueError) as error:
                if self._known is None or age >= MAX_STALE_S:
                    raise
                _log.warning("no discovery at %s: %s; going by the last", self.issuer, error)
                return self._known
            self._asked_at = self._clock()
        return self._known

    async def _ask(self) -> Provider:
        address = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        fetched = await fetch(address, public_only=self._public_only)
        said = _read(fetched.body)
        if said.issuer != self.issuer:
            raise ValueError("it names another issuer")
        algorithms = said.id_token_signing_alg_values_supported
        ours = tuple(one for one in ASYMMETRIC_ALGORITHMS if one in algorithms)
        if not ours:
            raise ValueError("it signs with nothing that is taken here")
        if self._jwks_url is None and not self._is_its_own(said.jwks_uri):
            raise ValueError("its jwks_uri is on another host, or not as safe as its own address")
        return Provider(
            keys=KeyPlace(url=self._jwks_url or said.jwks_uri, algorithms=ours),
            token_url=self._if_its_own(said.token_endpoint),
            revocation_url=self._if_its_own(said.revocation_endpoint),
            authorization_url=self._if_its_own(said.authorization_endpoint),
            userinfo_url=self._if_its_own(said.userinfo_endpoint),
            secret_in_body="client_secret_basic" not in said.token_endpoint_auth_methods_supported,
            names_itself=said.authorization_response_iss_parameter_supported,
            date=fetched.date,
        )

    def _if_its_own(self, url: str | None) -> str | None:
        return url if url is not None and self._is_its_own(url) else None

    def _is_its_own(self, url: str) -> bool:
        own, other = urlsplit(self.issuer), urlsplit(url)
        return (
            other.scheme == own.scheme
            and other.netloc.lower() in self._hosts
            and not other.fragment
        )


def _read(document: bytes) -> _Document:
    try:
        refuse_repeated_members(document, msgspec.json.decode(document, type=dict[str, object]))
        return msgspec.json.decode(document, type=_Document)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError, Repeated) as error:
        raise ValueError("it is no discovery document") from error
