"""A declaration of claims that cannot work is refused at once, and says why."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chatkeep.claims import (
    STANDARD,
    Claim,
    ClaimVersion,
    ClaimVersions,
    computed,
    declared_versions,
    default,
    from_database,
    load_versions,
)
from chatkeep.config import Settings
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).parents[2] / "docs/how-to/change-the-claims.md"
PERSON = Claim("userId")


def first(*added: Claim) -> ClaimVersion:
    """Return a first version with *added* beside the person."""
    return ClaimVersion(1, added=(PERSON, *added))


def problems(*versions: Any) -> str:  # noqa: ANN401 -- wrong ones, too
    """Return what is wrong with *versions*."""
    with pytest.raises(SetupError) as refused:
        ClaimVersions(versions)
    return "\n".join(refused.value.problems)


PLAN = Claim("plan", fill=default("free"))

WRONG: dict[str, Sequence[Any]] = {
    "at least one version": (),
    "every version is a ClaimVersion": ("1",),
    "numbered from 1 to 9999": (ClaimVersion(0, added=(PERSON,)),),
    "in order and without gaps": (first(), ClaimVersion(3, added=(PLAN,))),
    "the claim userId must be there": (ClaimVersion(1, added=(Claim("email"),)),),
    "the claim userId stays what it is": (first(), ClaimVersion(2, removed=("userId",))),
    "plan needs a fill": (first(), ClaimVersion(2, added=(Claim("plan"),))),
    "plan is added twice": (first(PLAN, PLAN),),
    "plan is removed, but not there": (first(), ClaimVersion(2, removed=("plan",))),
    "plan is removed and added": (
        first(PLAN),
        ClaimVersion(2, added=(PLAN,), removed=("plan",)),
    ),
    "'a b' cannot be the name": (first(Claim("a b")),),
    "exp is said by the token itself": (first(Claim("exp", int)),),
    "apiKey sounds like a secret": (first(Claim("apiKey")),),
    "role has a type of its own": (first(Claim("role", int)),),
    "plan has a type that JSON cannot hold": (first(Claim("plan", list[int] | tuple[int])),),
    "fallback of the claim plan does not fit": (first(Claim("plan", int, fill=default("x"))),),
    "fallback of the claim level does not fit": (
        first(Claim("level", int, fill=from_database(otherwise="x"))),
    ),
    "oldest_reader must be from 1": (first(), ClaimVersion(2, oldest_reader=3)),
    "oldest_reader must be from 2": (
        first(Claim("plan")),
        ClaimVersion(2, removed=("plan",), oldest_reader=1),
    ),
}


@pytest.mark.parametrize("problem", WRONG)
def test_what_cannot_work_is_named(problem: str) -> None:
    """One clear sentence for each thing that is wrong."""
    assert problem in problems(*WRONG[problem])


def test_all_problems_are_named_at_once() -> None:
    """One start shows everything."""
    found = problems(first(Claim("password"), Claim("exp")), ClaimVersion(2, removed=("plan",)))
    assert len(found.splitlines()) == 3


def test_each_version_has_its_shape() -> None:
    """What was added stays until it is taken away."""
    versions = ClaimVersions(
        (first(PLAN), ClaimVersion(2, added=(Claim("seats", int, fill=default(1)),)))
    )
    versions = ClaimVersions((*versions, ClaimVersion(3, removed=("plan",))))
    assert [set(versions.shape(one)) for one in (1, 2, 3)] == [
        {"userId", "plan"},
        {"userId", "plan", "seats"},
        {"userId", "seats"},
    ]
    assert (versions.first, versions.newest) == (1, 3)


def test_added_claims_do_not_keep_older_readers_out() -> None:
    """A release that knows less takes the token and ignores the rest."""
    versions = ClaimVersions((first(), ClaimVersion(2, added=(PLAN,))))
    assert versions.oldest_reader(2) == 1


@pytest.mark.parametrize(
    ("gone", "oldest"),
    [
        (Claim("plan"), 2),
        (Claim("plan", fill=computed(lambda _: "free")), 2),
        (Claim("plan", fill=default("free")), 1),
        (Claim("plan", fill=from_database()), 1),
    ],
)
def test_older_readers_need_what_they_cannot_fill(gone: Claim, oldest: int) -> None:
    """A claim that was taken away keeps out who knows neither a default nor whom to ask."""
    versions = ClaimVersions((first(gone), ClaimVersion(2, removed=("plan",))))
    assert versions.oldest_reader(2) == oldest


def test_replaced_claims_keep_older_readers_out() -> None:
    """The same name with another meaning must not be read as the old one."""
    versions = ClaimVersions(
        (first(PLAN), ClaimVersion(2, added=(Claim("plan", fill=default("x")),)))
    )
    assert versions.oldest_reader(2) == 2


def test_older_readers_can_be_kept_out_on_purpose() -> None:
    """The declaration may ask for more than it needs."""
    versions = ClaimVersions((first(), ClaimVersion(2, added=(PLAN,), oldest_reader=2)))
    assert versions.oldest_reader(2) == 2


def test_the_standard_claims_are_those_promised() -> None:
    """An application that declares nothing has these."""
    assert declared_versions(Settings.from_env({})) is STANDARD
    assert set(STANDARD.shape(STANDARD.newest)) == {
        *("userId", "companyId", "role", "email", "environment", "permissions", "metadata")
    }


def test_declaration_is_found_by_its_import_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The example of the how-to page, in a module of the present folder."""
    (code,) = re.findall(r"```python\n# shop/claims.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "shop_of_the_page.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    settings = Settings.from_env({"CLAIMS": "shop_of_the_page:versions"})
    found = declared_versions(settings)
    assert (found.first, found.newest, found.oldest_reader(2)) == (1, 2, 1)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere.at_all:versions", "cannot be imported (ModuleNotFoundError)"),
        ("chatkeep.claims:nothing", "cannot be imported (AttributeError)"),
        ("chatkeep.claims:Claim", "is no ClaimVersions"),
    ],
)
def test_import_path_that_leads_nowhere_is_named(path: str, problem: str) -> None:
    """The start is refused with the path and what is wrong."""
    with pytest.raises(SetupError, match=re.escape(f"CLAIMS: {path} {problem}")):
        load_versions(path)


def test_problems_of_an_imported_declaration_are_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What the declaration itself complains of is what the operator reads."""
    code = "from chatkeep.claims import ClaimVersions\nversions = ClaimVersions(())\n"
    (tmp_path / "empty_declaration.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SetupError, match="at least one version"):
        load_versions("empty_declaration:versions")


@pytest.mark.parametrize("text", ["module", "a.b", ":x", "a:b:c", "a-b:c", "../a:b"])
def test_what_is_no_import_path_is_refused(text: str) -> None:
    """The setting says how it must look."""
    with pytest.raises(SetupError, match="CLAIMS must be an import path"):
        Settings.from_env({"CLAIMS": text})
