"""Taking people in: in one transaction each few hundred, and never twice.

Whoever is here already, by id, stays as they are. Nobody gets another's account because of
an address: an address that is taken is skipped, and said.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from chatkeep import accounts, audit
from chatkeep.accounts import storable
from chatkeep.db import AUTH, ConstraintViolated, Query
from chatkeep.errors import EmailAddressInvalid, Invalid
from chatkeep.passwords import read_hash
from chatkeep.user_imports.arrivals import Skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.user_imports.arrivals import Arrival

_AT_ONCE: Final = 200
_NOT_STORABLE: Final = "has a character that cannot be stored"
_ADDRESS_TAKEN: Final = "another account has the address"
Result = Literal["imported", "already_here", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one person; *note* is why, or what they lack now."""

    original_id: str
    result: Result
    id: UUID | None = None
    note: str | None = None


@dataclass(slots=True)
class Report:
    """What became of everybody."""

    outcomes: list[Outcome] = field(default_factory=list)

    def count(self, result: Result) -> int:
        """Return how many had this result."""
        return sum(one.result == result for one in self.outcomes)

    def notes(self) -> Counter[str]:
        """Return how often each note was made."""
        return Counter(one.note for one in self.outcomes if one.note)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """Somebody who can be taken in, as they will be kept."""

    arrival: Arrival
    email: str
    password_hash: str | None
    user_metadata: dict[str, Any]
    app_metadata: dict[str, Any]
    identities: tuple[tuple[str, str, dict[str, Any]], ...]

    @property
    def note(self) -> str | None:
        """What they lack, or what is different."""
        if self.arrival.password_hash and self.password_hash is None:
            return "has a password in an unknown format: they must set another one"
        return "got another id" if self.arrival.is_mapped else None


@dataclass(frozen=True, slots=True)
class _Here:
    id: UUID
    email: str | None


@dataclass(frozen=True, slots=True)
class _Touched:
    id: UUID


class Import:
    """One run. *dry*: look at everybody and write nothing.

    *confirmed*: count every address as its owner's, also those that the export does not.
    """

    def __init__(
        self, issuer: EmbeddedIssuer, source: str, *, dry: bool = False, confirmed: bool = False
    ) -> None:
        """Begin with nobody."""
        self._confirmed = confirmed
        self._issuer = issuer
        self._source = source
        self._dry = dry
        self._addresses: dict[str, UUID] = {}

    async def run(
        self,
        found: Iterable[tuple[str, Arrival | Skipped]],
        progress: Callable[[Sequence[Outcome]], None] = lambda _: None,
    ) -> Report:
        """Take everybody in who can be; *progress* is told what became of each few hundred.

        Raises:
            Unavailable: the database is away. What was taken in until then stays, and the
                next run goes on from there.
        """
        report, rest = Report(), iter(found)
        while batch := list(islice(rest, _AT_ONCE)):
            outcomes = await self._batch(batch)
            report.outcomes += outcomes
            progress(outcomes)
        return report

    async def _batch(self, batch: Sequence[tuple[str, Arrival | Skipped]]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        ready: list[_Ready] = []
        for original, one in batch:
            checked = one if isinstance(one, Skipped) else _ready(self._as_wanted(one))
            if isinstance(checked, Skipped):
                outcomes.append(_skipped(original, str(checked)))
            else:
                ready.append(checked)
        fresh = await self._only_new(ready, outcomes)
        if not self._dry:
            await self._write(fresh, outcomes)
        else:
            outcomes += [_imported(one) for one in fresh]
        return outcomes

    def _as_wanted(self, one: Arrival) -> Arrival:
        if self._confirmed and one.email_confirmed_at is None:
            return replace(one, email_confirmed_at=one.created_at or datetime.now(UTC))
        return one

    async def _only_new(self, ready: list[_Ready], outcomes: list[Outcome]) -> list[_Ready]:
        """Keep those who are not here; say of the others why not."""
        here = await self._issuer.db.fetch(
            AUTH,
            "select id, email from chatkeep.users where id = any(%s) or email = any(%s)",
            ([one.arrival.id for one in ready], [one.email for one in ready]),
            row=_Here,
        )
        ids = {one.id for one in here}
        taken = self._addresses | {one.email: one.id for one in here if one.email}
        fresh = []
        for one in ready:
            if one.arrival.id in ids:
                outcomes.append(_already(one))
            elif one.email in taken:
                outcomes.append(_skipped(one.arrival.original_id, _ADDRESS_TAKEN))
            else:
                fresh.append(one)
                ids.add(one.arrival.id)
                taken[one.email] = self._addresses[one.email] = one.arrival.id
        return fresh

    async def _write(self, fresh: list[_Ready], outcomes: list[Outcome]) -> None:
        if not fresh:
            return
        try:
            await self._issuer.db.fetch_all(
                AUTH, *(query for one in fresh for query in self._statements(one))
            )
        except (ConstraintViolated, Invalid):
            outcomes += [await self._write_one(one) for one in fresh]
        else:
            outcomes += [_imported(one) for one in fresh]

    async def _write_one(self, one: _Ready) -> Outcome:
        try:
            await self._issuer.db.fetch_all(AUTH, *self._statements(one))
        except ConstraintViolated as error:
            why = _ADDRESS_TAKEN
            if error.name != accounts.ADDRESS_TAKEN:
                why = "an identity of theirs, or their id, is another account's"
            return _skipped(one.arrival.original_id, why)
        except Invalid:
            return _skipped(one.arrival.original_id, _NOT_STORABLE)
        return _imported(one)

    def _statements(self, one: _Ready) -> Iterator[Query[Any]]:
        arrival = one.arrival
        yield Query(
            "insert into chatkeep.users (id, email, password_hash, email_confirmed_at,"
            " user_metadata, app_metadata, created_at, last_sign_in_at, banned_until)"
            " values (%s, %s, %s, %s, %s::jsonb, %s::jsonb, coalesce(%s, now()), %s, %s)"
            " returning id",
            (
                *(arrival.id, one.email, one.password_hash, arrival.email_confirmed_at),
                *(_json(one.user_metadata), _json(one.app_metadata)),
                *(arrival.created_at, arrival.last_sign_in_at, arrival.banned_until),
            ),
            _Touched,
        )
        if arrival.password_hash or not arrival.identities:
            confirmed = arrival.email_confirmed_at is not None
            data = {"sub": str(arrival.id), "email": one.email, "email_verified": confirmed}
            yield _identity(arrival, "email", str(arrival.id), data)
        for provider, provider_id, data in one.identities:
            yield _identity(arrival, provider, provider_id, data)
        yield audit.entry(
            "user.imported",
            user_id=self._issuer.user_id_of(arrival.id),
            actor="operator",
            issuer=self._issuer.issuer.name,
            details={"source": self._source},
        )


def _ready(arrival: Arrival) -> _Ready | Skipped:
    stored = arrival.password_hash
    try:
        return _Ready(
            arrival=arrival,
            email=accounts.normal_address(arrival.email),
            password_hash=stored if stored and read_hash(stored) else None,
            user_metadata=storable(arrival.user_metadata),
            app_metadata=storable(_app_metadata(arrival)),
            identities=tuple(
                (one.provider, one.provider_id, storable(one.data)) for one in arrival.identities
            ),
        )
    except EmailAddressInvalid:
        return Skipped("has an address that cannot be one")
    except Invalid as error:
        return Skipped(error.detail)
    except UnicodeEncodeError:  # half of a surrogate pair
        return Skipped(_NOT_STORABLE)


def _app_metadata(arrival: Arrival) -> dict[str, Any]:
    providers = [one.provider for one in arrival.identities]
    if arrival.password_hash or not providers:
        providers.insert(0, "email")
    known = {"provider": providers[0], "providers": list(dict.fromkeys(providers))}
    mapped = {"original_id": arrival.original_id} if arrival.is_mapped else {}
    return {**known, **arrival.app_metadata, **mapped}


def _identity(
    arrival: Arrival, provider: str, provider_id: str, data: Mapping[str, Any]
) -> Query[_Touched]:
    return Query(
        "insert into chatkeep.identities (user_id, id, provider, provider_id, identity_data,"
        " last_sign_in_at) values (%s, gen_random_uuid(), %s, %s, %s::jsonb, %s) returning id",
        (arrival.id, provider, provider_id, _json(data), arrival.last_sign_in_at),
        _Touched,
    )


def _imported(one: _Ready) -> Outcome:
    return Outcome(
        original_id=one.arrival.original_id, id=one.arrival.id, result="imported", note=one.note
    )


def _already(one: _Ready) -> Outcome:
    return Outcome(original_id=one.arrival.original_id, id=one.arrival.id, result="already_here")


def _skipped(original: str, why: str) -> Outcome:
    return Outcome(original_id=original, result="skipped", note=why)


def _json(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value).decode()
