"""There is one way from what somebody wishes to how they are answered."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import chatkeep
from chatkeep.llm.model import ModelInfo
from chatkeep.offered_models import OfferedModels
from chatkeep.policies import Policy
from chatkeep.principal import Principal
from chatkeep.testing import FakeModel

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(chatkeep.__file__).parent


def importers(module: str, *names: str) -> Iterator[str]:
    """Name the files of the package that import any of *names* from *module*."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = [one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
        imported = {name.name for one in found if one.module == module for name in one.names}
        if imported & set(names):
            yield path.relative_to(PACKAGE).as_posix()


def test_nobody_chooses_past_the_lists_of_roles() -> None:
    """A new surface that merges wishes by itself would know nothing of anybody's role."""
    assert list(importers("chatkeep.policies", "choose", "check_wishes")) == ["offered_models.py"]


def somebody(*roles: str) -> Principal:
    """Return somebody with *roles*, who claims more of them than they have."""
    return Principal(
        user_id="ana",
        issuer="embedded",
        subject="ana",
        roles=frozenset(roles),
        claims={"user_metadata": {"roles": ["staff"]}, "roles": ["staff"]},
    )


async def test_roles_open_and_close_models() -> None:
    """Only those of the principal; the default is one that its person may ask."""
    policy = Policy(
        default_model="a",
        models=("a", "b"),
        for_roles=(("pro", ("c", "b")), ("slow", ("a",)), ("staff", ("*",))),
    )
    models = [ModelInfo(id=one, name=one) for one in "abcd"]
    offered = OfferedModels(FakeModel(models=models), policy)
    for roles, names, default in (
        ((), "ab", "a"),
        (("pro",), "cb", "c"),
        (("slow",), "a", "a"),
        (("pro", "slow"), "cba", "a"),
        (("staff",), "abcd", "a"),
        (("PRO", "pro "), "ab", "a"),
    ):
        who = somebody(*roles)
        assert "".join(one.id for one in await offered.listed(who)) == names
        assert offered.policy_for(who).default_model == default
        known = [one for one in "abcde" if await offered.knows(who, one)]
        assert sorted(known) == sorted(names)
    await offered.aclose()
