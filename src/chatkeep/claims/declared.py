"""The declaration: which claims each version of a session token has, and how one is filled.

This is the only place that knows the shapes. A version says what it adds to the one before
and what it takes away; adding a name that is there already replaces that claim. Nothing
here reads a token or asks anybody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

import msgspec

from chatkeep.claims.harmless import is_harmless_name
from chatkeep.errors import SetupError

#: Looks many people up at once: their claims by name, by user id. Who is not there is gone.
Source = Callable[[Sequence[str]], Awaitable[Mapping[str, Mapping[str, object]]]]
Function = Callable[[Mapping[str, object]], object]

#: What the claims that every application has hold. Nobody chooses another type for them.
WELL_KNOWN: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "userId": str,
        "companyId": str | None,
        "role": str,
        "email": str | None,
        "environment": str,
        "permissions": list[str],
        "metadata": dict[str, object],
    }
)
#: What the token itself says (RFC 7519 and ours); no claim can be called that.
RESERVED: Final = frozenset(
    {
        *("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "sid", "cnf", "scope"),
        *("ref", "idp", "aal", "next_aal", "amr", "auth_time", "email_verified"),
        *("version", "oldestReader"),
    }
)
HIGHEST_VERSION: Final = 9999
_LONGEST_NAME: Final = 64


class Otherwise(Enum):
    """What to do when the database does not know."""

    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Default:
    """The same value for everybody."""

    value: object


@dataclass(frozen=True, slots=True)
class Computed:
    """A function of the claims so far: those of the version before, and what was added."""

    function: Function


@dataclass(frozen=True, slots=True)
class FromDatabase:
    """What *source* (None: the accounts of this server) says, else *otherwise*."""

    source: Source | None
    otherwise: object


Fill = Default | Computed | FromDatabase


def default(value: object) -> Fill:
    """Fill a missing claim with *value*."""
    return Default(value)


def computed(function: Function) -> Fill:
    """Fill a missing claim with what *function* makes of the claims so far; no I/O in it."""
    return Computed(function)


def from_database(source: Source | None = None, *, otherwise: object = Otherwise.REFUSE) -> Fill:
    """Fill a missing claim with what *source* says of the person.

    *source* takes many user ids and returns, for those it knows, the claims by name. Left
    out, it is what operators wrote into the account (`app_metadata`). When it does not
    know: *otherwise*, and without that the token is refused.
    """
    return FromDatabase(source, otherwise)


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim: its name, the type of its values, and how a missing one is filled.

    *takes* is anything that JSON can hold (`str`, `int`, `list[str]`, `Literal["a", "b"]`,
    a TypedDict, ...). Left out it is that of the well-known claim of this name, else `str`.
    """

    name: str
    takes: Any = None
    fill: Fill | None = field(default=None, kw_only=True)

    @property
    def type(self) -> Any:  # noqa: ANN401 -- a type expression, not only a class
        """What its values must be."""
        return WELL_KNOWN.get(self.name, str) if self.takes is None else self.takes

    @property
    def fills_alone(self) -> bool:
        """Whether it can be filled knowing nothing but whose token it is."""
        return isinstance(self.fill, Default | FromDatabase)


@dataclass(frozen=True, slots=True)
class ClaimVersion:
    """What changed with this version; the first one adds everything it has.

    *oldest_reader* is worked out. Set it to a later version to keep releases out that
    could read the token and should not.
    """

    number: int
    added: tuple[Claim, ...] = ()
    removed: tuple[str, ...] = ()
    oldest_reader: int | None = None


class ClaimVersions:
    """Every version that may still be met, oldest first, numbered without gaps.

    Raises:
        SetupError: with one sentence for each thing that cannot work.
    """

    def __init__(self, versions: Sequence[ClaimVersion]) -> None:
        """Check *versions* and work out the shapes."""
        self._versions = tuple(versions)
        if problems := _numbering_problems(self._versions):
            raise SetupError(*problems)
        self._shapes: dict[int, Mapping[str, Claim]] = {}
        shape: Mapping[str, Claim] = {}
        for version in self._versions:
            problems += _version_problems(version, shape, is_first=not self._shapes)
            kept = {name: claim for name, claim in shape.items() if name not in version.removed}
            shape = MappingProxyType({**kept, **{one.name: one for one in version.added}})
            self._shapes[version.number] = shape
        if problems or (problems := self._reader_problems()):
            raise SetupError(*problems)

    def __iter__(self) -> Iterator[ClaimVersion]:
        """Go through the versions, oldest first."""
        return iter(self._versions)

    @property
    def first(self) -> int:
        """The oldest version that is still taken."""
        return self._versions[0].number

    @property
    def newest(self) -> int:
        """The version that every token is upgraded to."""
        return self._versions[-1].number

    def shape(self, number: int) -> Mapping[str, Claim]:
        """Return the claims of a token of version *number*, by name."""
        return self._shapes[number]

    def oldest_reader(self, number: int) -> int:
        """Return the oldest version whose readers understand a token of version *number*."""
        declared = self._versions[number - self.first].oldest_reader
        return self._oldest_able(number) if declared is None else declared

    def between(self, older: int, newer: int) -> tuple[ClaimVersion, ...]:
        """Return the versions after *older*, up to and with *newer*: the steps to it."""
        return tuple(one for one in self._versions if older < one.number <= newer)

    def gaps(self, said: Mapping[str, object]) -> tuple[Claim, ...]:
        """Return what readers of the newest version miss in a token of a newer one."""
        return tuple(claim for claim in self.shape(self.newest).values() if claim.name not in said)

    def sources(self) -> set[Source | None]:
        """Return everybody who is asked for a missing claim."""
        fills = [claim.fill for version in self._versions for claim in version.added]
        return {fill.source for fill in fills if isinstance(fill, FromDatabase)}

    def _oldest_able(self, number: int) -> int:
        token, oldest = self._shapes[number], number
        while oldest > self.first and _reads(self._shapes[oldest - 1], token):
            oldest -= 1
        return oldest

    def _reader_problems(self) -> list[str]:
        return [
            f"Claims version {one.number}: oldest_reader must be from"
            f" {self._oldest_able(one.number)} (older releases lack a claim) to {one.number}."
            for one in self._versions
            if one.oldest_reader is not None
            and not self._oldest_able(one.number) <= one.oldest_reader <= one.number
        ]


def _reads(reader: Mapping[str, Claim], token: Mapping[str, Claim]) -> bool:
    """Whether who knows the claims *reader* finds them in *token*, or can do without."""
    return all(
        token.get(name) is claim or (name not in token and claim.fills_alone)
        for name, claim in reader.items()
    )


def _numbering_problems(versions: tuple[ClaimVersion, ...]) -> list[str]:
    if not versions:
        return ["Claims: declare at least one version."]
    if not all(isinstance(one, ClaimVersion) for one in versions):
        return ["Claims: every version is a ClaimVersion."]
    numbers = [one.number for one in versions]
    if not all(type(one) is int and 1 <= one <= HIGHEST_VERSION for one in numbers):
        return [f"Claims: versions are numbered from 1 to {HIGHEST_VERSION}."]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return ["Claims: versions are numbered in order and without gaps."]
    return []


def _version_problems(
    version: ClaimVersion, before: Mapping[str, Claim], *, is_first: bool
) -> list[str]:
    names = [one.name for one in version.added]
    found = [problem for claim in version.added for problem in _claim_problems(claim)]
    found += [f"the claim {name} is added twice." for name in names if names.count(name) > 1]
    found += [
        f"{name} is removed, but not there." for name in version.removed if name not in before
    ]
    found += [f"{name} is removed and added." for name in version.removed if name in names]
    if not is_first:
        found += [
            f"the claim {one.name} needs a fill: older tokens do not have it."
            for one in version.added
            if one.fill is None
        ]
    if is_first and "userId" not in names:
        found.append("the claim userId must be there.")
    if not is_first and "userId" in {*names, *version.removed}:
        found.append("the claim userId stays what it is.")
    return [f"Claims version {version.number}: {problem}" for problem in dict.fromkeys(found)]


def _claim_problems(claim: Claim) -> list[str]:
    name = claim.name
    if not (name.isascii() and name.isidentifier() and len(name) <= _LONGEST_NAME):
        return [f"{name!r} cannot be the name of a claim."]
    if name in RESERVED:
        return [f"{name} is said by the token itself."]
    if not is_harmless_name(name):
        return [f"{name} sounds like a secret or personal data, which no token may hold."]
    if claim.takes is not None and WELL_KNOWN.get(name, claim.takes) != claim.takes:
        return [f"the claim {name} has a type of its own: leave the type out."]
    return _type_problems(claim)


def _type_problems(claim: Claim) -> list[str]:
    try:
        msgspec.json.Decoder(claim.type)
    except TypeError as error:
        return [f"the claim {claim.name} has a type that JSON cannot hold: {error}"]
    if isinstance(claim.fill, Default):
        fallback = claim.fill.value
    elif isinstance(claim.fill, FromDatabase) and claim.fill.otherwise is not Otherwise.REFUSE:
        fallback = claim.fill.otherwise
    else:
        return []
    try:
        msgspec.convert(fallback, claim.type)
    except msgspec.ValidationError as error:
        return [f"the fallback of the claim {claim.name} does not fit its type: {error}."]
    return []
