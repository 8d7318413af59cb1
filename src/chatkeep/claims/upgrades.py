"""Tokens of every version in, claims of the newest out.

What a token lacks is filled as the declaration says, step by step: a function sees the
claims of the version before. The token itself is never changed. What is wrong with a token
is the token's fault (401); what goes wrong while we fill it is ours (503), because nobody
may be signed out by a bug or an outage of the server.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, assert_never

import msgspec

from chatkeep.claims.declared import (
    HIGHEST_VERSION,
    RESERVED,
    Claim,
    ClaimVersion,
    Computed,
    Default,
    FromDatabase,
    Otherwise,
)
from chatkeep.errors import ChatkeepError, ClaimsRefused, TokenInvalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chatkeep.claims.counts import ClaimCounts
    from chatkeep.claims.declared import ClaimVersions, Source
    from chatkeep.claims.lookups import Lookups

    Rows = Mapping[Source | None, Mapping[str, object] | None]

_log = logging.getLogger(__name__)


class Upgrades:
    """Reads and makes the claims of *versions*. *lookups* has one for each of its sources."""

    def __init__(
        self,
        versions: ClaimVersions,
        *,
        lookups: Mapping[Source | None, Lookups],
        counts: ClaimCounts,
    ) -> None:
        """Put the parts together."""
        self._versions = versions
        self._lookups = lookups
        self._counts = counts

    async def upgraded(self, token: Mapping[str, object]) -> dict[str, object]:
        """Return the claims of a verified *token*, complete and in the newest shape.

        Raises:
            TokenInvalid: it is of a version that is not understood here, or its claims are
                not those of its version, or the person is gone.
            Unavailable: a missing claim could not be filled.
        """
        version = self._understood_version(token)
        said = {name: value for name, value in token.items() if name not in RESERVED}
        claims = self._read(said, version)
        steps = self._steps(said, version)
        if not steps:
            return claims
        rows, read = await self._rows(_claims_of(steps), str(claims["userId"]))
        filled = completed(claims, steps, rows)
        self._counts.note_upgraded(
            version,
            claims=[one.name for one in _claims_of(steps)],
            read=read,
            issued_at=token.get("iat"),
        )
        return filled

    async def made(self, version: int, given: Mapping[str, object]) -> dict[str, object]:
        """Return the claims of a new token of *version*: what is *given*, the rest filled.

        Raises:
            ClaimsRefused: a claim is not given and cannot be filled, or does not fit.
            Unavailable: somebody who is asked for it is away.
        """
        shape = self._versions.shape(version)
        if unknown := set(given) - set(shape):
            raise ClaimsRefused(f"Version {version} has no claim {', '.join(sorted(unknown))}.")
        steps = [
            # What is given is meant for the claim as it is now, not for one it replaced.
            replace(step, added=tuple(c for c in step.added if _is_wanted(c, shape, given)))
            for step in self._versions.between(self._versions.first - 1, version)
        ]
        sources = {
            claim.fill.source
            for claim in _claims_of(steps)
            if isinstance(claim.fill, FromDatabase) and claim.name not in given
        }
        rows = {one: await self._lookups[one].now(str(given["userId"])) for one in sources}
        try:
            return completed({}, steps, rows, given)
        except TokenInvalid as error:
            problem = "What the token must say of this person is not known."
            raise ClaimsRefused(problem) from error

    def _understood_version(self, token: Mapping[str, object]) -> int:
        version, oldest_reader = token.get("version"), token.get("oldestReader")
        if type(version) is not int or type(oldest_reader) is not int:
            raise TokenInvalid
        if not 1 <= oldest_reader <= version <= HIGHEST_VERSION or version < self._versions.first:
            raise TokenInvalid
        if version > self._versions.newest and oldest_reader > self._versions.newest:
            raise TokenInvalid
        return version

    def _read(self, said: Mapping[str, object], version: int) -> dict[str, object]:
        """The claims of *said* that are known here, each of its type."""
        shape = self._versions.shape(min(version, self._versions.newest))
        # A newer version may have more and lack some; one that is known has exactly its own.
        if version <= self._versions.newest and said.keys() != shape.keys():
            raise TokenInvalid
        try:
            claims = {
                name: msgspec.convert(said[name], claim.type)
                for name, claim in shape.items()
                if name in said
            }
        except msgspec.ValidationError as error:
            raise TokenInvalid from error
        if not isinstance(claims.get("userId"), str):
            raise TokenInvalid
        return claims

    def _steps(self, said: Mapping[str, object], version: int) -> Sequence[ClaimVersion]:
        newest = self._versions.newest
        if version <= newest:
            return self._versions.between(version, newest)
        gaps = self._versions.gaps(said)
        if not all(claim.fills_alone for claim in gaps):
            raise TokenInvalid  # its release says that we understand it, and is wrong
        return (ClaimVersion(newest, added=gaps),) if gaps else ()

    async def _rows(self, claims: Iterable[Claim], user_id: str) -> tuple[Rows, list[str]]:
        """What the sources of *claims* say, and for which claims one had to be asked."""
        rows: dict[Source | None, Mapping[str, object] | None] = {}
        was_read: dict[Source | None, bool] = {}
        read = []
        for claim in claims:
            if isinstance(claim.fill, FromDatabase):
                source = claim.fill.source
                if source not in rows:
                    answer = await self._lookups[source].of(user_id)
                    rows[source], was_read[source] = answer.row, answer.was_read
                if was_read[source]:
                    read.append(claim.name)
        return rows, read


def completed(
    claims: Mapping[str, object],
    steps: Iterable[ClaimVersion],
    rows: Rows,
    given: Mapping[str, object] = MappingProxyType({}),
) -> dict[str, object]:
    """Return *claims* after *steps*; pure. What is *given* is not filled.

    Raises:
        TokenInvalid: the database does not know the person, and should.
        ClaimsRefused: a claim has no fill, or what is given does not fit its type.
        Unavailable: a fill did not work.
    """
    state = dict(claims)
    for step in steps:
        before = {name: value for name, value in state.items() if name not in step.removed}
        for claim in step.added:
            if claim.name in given:
                before[claim.name] = _given(claim, given[claim.name])
            else:
                before[claim.name] = _filled(claim, {**state, **before}, rows)
        state = before
    return state


def _claims_of(steps: Iterable[ClaimVersion]) -> list[Claim]:
    return [claim for step in steps for claim in step.added]


def _is_wanted(claim: Claim, shape: Mapping[str, Claim], given: Mapping[str, object]) -> bool:
    return claim.name not in given or shape[claim.name] is claim


def _given(claim: Claim, value: object) -> object:
    try:
        return msgspec.convert(value, claim.type)
    except msgspec.ValidationError as error:
        raise ClaimsRefused(f"The value of the claim {claim.name} does not fit.") from error


def _filled(claim: Claim, claims: Mapping[str, object], rows: Rows) -> object:
    try:
        return msgspec.convert(_fill_of(claim, claims, rows), claim.type)
    except ChatkeepError:
        raise
    except Exception as error:
        # A function of the application, or data that nobody checked when it was written.
        _log.exception("the claim %s cannot be filled", claim.name)
        raise Unavailable from error


def _fill_of(claim: Claim, claims: Mapping[str, object], rows: Rows) -> object:
    match claim.fill:
        case Default(value):
            return deepcopy(value)
        case Computed(function):
            return function(MappingProxyType(dict(claims)))
        case FromDatabase(source, otherwise):
            value = (rows[source] or {}).get(claim.name)
            if value is None and otherwise is Otherwise.REFUSE:
                raise TokenInvalid
            return deepcopy(otherwise) if value is None else value
        case None:
            raise ClaimsRefused(f"The claim {claim.name} is not given, and has no fill.")
        case _:
            assert_never(claim.fill)
