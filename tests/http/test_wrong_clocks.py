"""A node whose own clock is an hour off goes by the database's, in what people are told."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Self

import pytest

from tests.http.test_budgets import ask, used
from tests.http.test_personal_keys import KEYS, make, with_key, works

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.http.conftest import StartNode
    from tests.postgres_servers import MigratedDatabase
    from tests.serving import Node, Person

    Shift = Callable[[timedelta], None]

HOUR = timedelta(hours=1)


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> Shift:
    """Put the clock of the node forward, wherever it asks for the date."""

    def shifted(by: timedelta) -> None:
        class Wrong(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return super().now(tz) + by

        for name, module in list(sys.modules.items()):
            if name.startswith("chatkeep.") and vars(module).get("datetime") is datetime:
                monkeypatch.setattr(module, "datetime", Wrong)

    return shifted


@pytest.mark.parametrize("wrong", [HOUR, -HOUR], ids=["ahead", "behind"])
async def test_key_lasts_as_long_as_was_said(
    node: Node, ana: Person, database: MigratedDatabase, shift: Shift, wrong: timedelta
) -> None:
    """Not an hour less or more; and the list agrees with what is let in."""
    lasting, over = [await make(ana.client, "models:read") for _ in range(2)]
    ends = "update chatkeep.personal_keys set expires_at = now() + %s where id = %s returning id"
    database.operate(ends, HOUR / 2, lasting["id"])
    database.operate(ends, -HOUR / 2, over["id"])
    shift(wrong)
    for _ in range(2):  # looked up, and remembered
        assert await works(with_key(node, lasting))
        assert not await works(with_key(node, over))
    listed = {one["id"]: one for one in (await ana.client.get(KEYS)).json["keys"]}
    assert listed[lasting["id"]]["ended_at"] is None
    assert listed[over["id"]]["ended_at"] == listed[over["id"]]["expires_at"]


async def test_key_that_is_remembered_is_good_no_longer_for_that(
    node: Node, ana: Person, database: MigratedDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked up once a minute, and may end before that."""
    made = await make(ana.client, "models:read")
    ends = "update chatkeep.personal_keys set expires_at = now() + %s where id = %s"
    database.operate(ends, timedelta(seconds=30), made["id"])
    keys = node.services.personal_keys
    now = keys._clock()
    monkeypatch.setattr(keys, "_clock", lambda: now)
    assert await works(with_key(node, made))
    database.operate(ends, timedelta(seconds=-1), made["id"])
    now += 29
    assert await works(with_key(node, made))
    now += 2
    assert not await works(with_key(node, made))


def _next_midnight(database: MigratedDatabase) -> str:
    ((tomorrow,),) = database.operate("select (now() at time zone 'utc')::date + 1")
    return f"{tomorrow}T00:00:00Z"


@pytest.mark.parametrize("wrong", [24 * HOUR, -24 * HOUR], ids=["ahead", "behind"])
async def test_budget_begins_anew_when_the_database_counts_anew(
    start: StartNode, database: MigratedDatabase, shift: Shift, wrong: timedelta
) -> None:
    """As the refusal says it, and as what is left is listed."""
    node = await start(BUDGET_TOKENS_PER_DAY="100", MAX_TOKENS="500")
    who = node.person()
    shift(wrong)
    soonest = _next_midnight(database)
    refused = await ask(who.client)
    (listed,) = (await used(who.client))["budgets"]
    latest = _next_midnight(database)
    assert refused.status == 429
    for said in (refused.json["resets_at"], listed["resets_at"]):
        assert said in {soonest, latest}
    assert 0 < int(refused.headers["retry-after"]) <= 86_400


@pytest.mark.parametrize("wrong", [2 * HOUR, -2 * HOUR], ids=["ahead", "behind"])
async def test_sign_in_is_as_fresh_as_it_is(node: Node, shift: Shift, wrong: timedelta) -> None:
    """Who has just signed in may do what takes that, and whose sign-in is old may not."""
    now = int(time.time())
    fresh, old = [
        node.person(amr=[{"method": "password", "timestamp": now - ago_s}]).client
        for ago_s in (0, 5400)
    ]
    shift(wrong)
    await make(fresh, "models:read")
    refused = await old.post(KEYS, {"name": "Test", "scopes": ["chat"]})
    assert (refused.status, refused.json["code"]) == (401, "step_up_required")
