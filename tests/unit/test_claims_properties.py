"""Whatever the history of a declaration: tokens stay readable, and what is read is complete.

A history is a declaration of several versions. A release knows its beginning: release 2
knows versions 1 and 2. Any release may issue any version it knows, and any other reads it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from chatkeep.claims import (
    Claim,
    ClaimVersion,
    ClaimVersions,
    Lookups,
    Upgrades,
    computed,
    default,
    from_database,
)
from chatkeep.errors import TokenInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chatkeep.claims.declared import Fill

_NAMES = ("role", "companyId", "permissions", "metadata", "plan", "seats", "isStaff", "level")
_TEXT = st.text(max_size=3)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | _TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_TEXT, inner, max_size=2),
    max_leaves=3,
)
#: What the claims that have a type of their own hold, by name; and other types, by index.
_WELL_KNOWN: dict[str, st.SearchStrategy[Any]] = {
    "role": _TEXT,
    "companyId": st.none() | _TEXT,
    "permissions": st.lists(_TEXT, max_size=2),
    "metadata": st.dictionaries(_TEXT, _JSON, max_size=2),
}
_FREE: tuple[tuple[Any, st.SearchStrategy[Any]], ...] = (
    (str, _TEXT),
    (int, st.integers(-5, 5)),
    (bool, st.booleans()),
    (list[str], st.lists(_TEXT, max_size=2)),
    (str | None, st.none() | _TEXT),
    (dict[str, int], st.dictionaries(_TEXT, st.integers(-5, 5), max_size=2)),
    (Literal["a", "b"], st.sampled_from("ab")),
)


@dataclass(frozen=True, slots=True)
class History:
    """A declaration, and what the database says of the one person there is."""

    versions: ClaimVersions
    row: Mapping[str, object]
    lookups: list[Lookups] = field(default_factory=list)

    def release(self, number: int) -> Upgrades:
        """Return what reads and issues in release *number*."""
        known = [one for one in self.versions if one.number <= number]
        versions = ClaimVersions(known)
        if not self.lookups:
            self.lookups.append(Lookups(self.source))
        return Upgrades(
            versions,
            lookups=dict.fromkeys(versions.sources(), self.lookups[0]),
            counts=SimpleNamespace(note_upgraded=lambda *_, **__: None),  # type: ignore[arg-type]  # it counts nothing
        )

    async def source(self, user_ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        """Say what is known of the one person."""
        return dict.fromkeys(user_ids, self.row)

    async def token(self, version: int, issuer: int) -> dict[str, object]:
        """Return a token of *version*, issued by release *issuer*."""
        claims = await self.release(issuer).made(version, {"userId": "ana"})
        oldest = ClaimVersions([one for one in self.versions if one.number <= issuer])
        said = {**claims, "version": version, "oldestReader": oldest.oldest_reader(version)}
        return {"iat": 1, **dict(msgspec.json.decode(msgspec.json.encode(said)))}


_FREE_TYPES = st.sampled_from(_FREE)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw a declaration of up to four versions that add, replace and remove claims."""
    row: dict[str, object] = {}
    shape: dict[str, Claim] = {"userId": Claim("userId")}
    versions = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        names = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=3))
        before = frozenset(shape)
        added = tuple(draw(claims(name, before, row)) for name in names)
        gone = sorted(before - {"userId", *names})
        removed = tuple(draw(st.lists(st.sampled_from(gone), unique=True)) if gone else ())
        if number == 1:
            added, removed = (shape["userId"], *added), ()
        versions.append(ClaimVersion(number, added=added, removed=removed))
        shape = {name: one for name, one in shape.items() if name not in removed}
        shape |= {one.name: one for one in added}
    return History(ClaimVersions(versions), row)


@st.composite
def claims(draw: st.DrawFn, name: str, before: frozenset[str], row: dict[str, object]) -> Claim:
    """Draw a claim and how it is filled; a function insists on the version before.

    Only a claim whose type never changes may come from the database without a fallback.
    """
    takes, values = (None, _WELL_KNOWN[name]) if name in _WELL_KNOWN else draw(_FREE_TYPES)
    value = draw(values)

    def function(said: Mapping[str, object]) -> object:
        assert before <= said.keys()
        return value

    fills: list[Fill] = [default(value), computed(function)]
    if name in _WELL_KNOWN:
        fills += [from_database(otherwise=value)]
        if value is not None:
            row[name] = value
            fills += [from_database()]
    return Claim(name, takes, fill=draw(st.sampled_from(fills)))


def require_complete(found: Mapping[str, object], versions: ClaimVersions, number: int) -> None:
    """Assert that *found* is exactly the shape of version *number*, each claim of its type."""
    shape = versions.shape(number)
    assert found.keys() == shape.keys()
    for name, claim in shape.items():
        assert msgspec.convert(found[name], claim.type) == found[name]


@settings(max_examples=50)
@given(histories())
def test_every_token_is_read_by_every_release_it_allows(history: History) -> None:
    """And by no other; what is read is complete, typed and of the reader's newest shape."""

    async def story() -> None:
        newest = history.versions.newest
        for issuer in range(1, newest + 1):
            for version in range(1, issuer + 1):
                token = await history.token(version, issuer)
                for reader in range(1, newest + 1):
                    await read(token, reader)

    async def read(token: dict[str, Any], reader: int) -> None:
        release = history.release(reader)
        if token["version"] <= reader or token["oldestReader"] <= reader:
            require_complete(await release.upgraded(token), history.versions, reader)
        else:
            assert await is_refused(release, token)

    asyncio.run(story())


async def is_refused(release: Upgrades, token: Mapping[str, object]) -> bool:
    """Whether *release* refuses *token*, as it refuses every other bad one."""
    try:
        await release.upgraded(token)
    except TokenInvalid:
        return True
    return False


@settings(max_examples=50)
@given(histories(), st.data())
def test_other_claims_than_declared_are_an_invalid_token(
    history: History, data: st.DataObject
) -> None:
    """Left out, added or of other types: 401 or a complete result, never anything else."""
    newest = history.versions.newest
    version = data.draw(st.integers(1, newest))
    reader = data.draw(st.integers(1, newest))
    changes = data.draw(st.dictionaries(st.sampled_from((*_NAMES, "userId", "other")), _JSON))
    dropped = data.draw(st.lists(st.sampled_from((*_NAMES, "userId"))))

    async def story() -> None:
        token = await history.token(version, newest) | changes
        token = {name: value for name, value in token.items() if name not in dropped}
        release = history.release(reader)
        if not await is_refused(release, token):
            require_complete(await release.upgraded(token), history.versions, reader)
            if version <= reader:
                assert token.keys() - {"iat", "version", "oldestReader"} == set(
                    history.versions.shape(version)
                )

    asyncio.run(story())


_NUMBERS = st.one_of(
    _JSON, st.integers(), st.floats(), st.integers(-3, 12), st.just(2**63), st.just("1")
)


@settings(max_examples=50)
@given(histories(), _NUMBERS, _NUMBERS)
def test_forged_version_numbers_are_an_invalid_token(
    history: History, version: object, oldest_reader: object
) -> None:
    """No number makes a token of one shape pass for another, or raises anything else."""
    newest = history.versions.newest

    async def story() -> None:
        token = await history.token(newest, newest)
        token |= {"version": version, "oldestReader": oldest_reader}
        release = history.release(newest)
        if await is_refused(release, token):
            return
        assert type(version) is int
        assert type(oldest_reader) is int
        assert 1 <= oldest_reader <= version
        assert newest >= min(version, oldest_reader)
        require_complete(await release.upgraded(token), history.versions, newest)

    asyncio.run(story())


@settings(max_examples=50)
@given(histories(), st.dictionaries(st.sampled_from(_NAMES), _JSON))
def test_claims_of_the_person_are_not_overwritten(
    history: History, written: dict[str, object]
) -> None:
    """What somebody writes about themselves, wherever a token carries it, grants nothing."""

    async def story() -> None:
        newest = history.versions.newest
        token = await history.token(newest, newest)
        honest = await history.release(newest).upgraded(token)
        forged = {**token, "user_metadata": written, "app_metadata": written}
        assert await is_refused(history.release(newest), forged)
        if "metadata" in history.versions.shape(newest):
            inside = await history.release(newest).upgraded({**token, "metadata": written})
            assert {**inside, "metadata": None} == {**honest, "metadata": None}

    asyncio.run(story())


def _side_by_side() -> History:
    """Version 1 without a company; version 2 with one."""
    first = ClaimVersion(1, added=(Claim("userId"), Claim("role", fill=default("user"))))
    second = ClaimVersion(2, added=(Claim("companyId", fill=from_database()),))
    return History(ClaimVersions((first, second)), {"companyId": "acme"})


async def test_two_releases_run_side_by_side() -> None:
    """Rolled out, switched over and rolled back: every token works on every node."""
    history = _side_by_side()
    old, new = history.release(1), history.release(2)
    before = await history.token(1, issuer=1)
    during = await history.token(1, issuer=2)  # the new release still issues the old version
    after = await history.token(2, issuer=2)
    for token in (before, during, after):
        assert await old.upgraded(token) == {"userId": "ana", "role": "user"}
        assert await new.upgraded(token) == {
            "userId": "ana",
            "role": "user",
            "companyId": "acme",
        }


async def test_old_release_refuses_what_it_would_misunderstand() -> None:
    """A replaced claim: the old node answers 401, the new one reads both."""
    history = _side_by_side()
    claim = Claim("role", fill=computed(lambda said: f"{said['role']}!"))
    replaced = ClaimVersions(
        (next(iter(history.versions)), ClaimVersion(2, added=(claim,))),
    )
    history = replace(history, versions=replaced)
    token = await history.token(2, issuer=2)
    assert await is_refused(history.release(1), token)
    assert (await history.release(2).upgraded(token))["role"] == "user!"
    older = await history.token(1, issuer=1)
    assert (await history.release(2).upgraded(older))["role"] == "user!"


async def test_newer_release_that_promises_too_much_is_not_believed() -> None:
    """It says that we understand its token, but what we cannot fill alone is not there."""
    shouted = Claim("shout", fill=computed(lambda said: f"{said['role']}!"))
    first = ClaimVersion(1, added=(Claim("userId"), Claim("role", fill=default("user")), shouted))
    release = History(ClaimVersions((first,)), {}).release(1)
    newer = {"userId": "ana", "role": "user", "version": 2, "oldestReader": 1, "news": [1]}
    assert await is_refused(release, newer)
    whole = {**newer, "shout": "user!"}
    assert await release.upgraded(whole) == {"userId": "ana", "role": "user", "shout": "user!"}
    assert await is_refused(release, {n: v for n, v in whole.items() if n != "userId"})
