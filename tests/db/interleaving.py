"""Several people at once through one door, with every ill fate a statement can have.

Each answer carries the question's number and the caller as the database saw them, so that an
answer that reaches the wrong person fails the test.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, LiteralString

from chatkeep.db import Caller, Database, Query, as_user
from chatkeep.errors import ChatkeepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and as whom it was asked."""

    nonce: int
    who: str
    owners: list[str]


ASK: LiteralString = (
    "select %s::int as nonce, chat.caller_id() as who,"
    " array(select distinct user_id from chat.conversations) as owners"
)
ASK_AGAIN: LiteralString = "select %s::int as nonce, user_id as who, array[user_id] as owners"
ASK_AGAIN += " from chat.conversations limit 1"


async def interleave(db: Database, people: Sequence[str], *, rounds: int) -> Counter[str]:
    """Let three of each person ask at once, *rounds* times in all; return how it ended."""
    asking = Interleaved(db, seed=20)
    left = iter(range(rounds))
    await asyncio.gather(*(asking.keep_asking(person, left) for person in [*people] * 3))
    return asking.outcomes


class Interleaved:
    """Two people's statements, of every kind and every ill fate, on one connection."""

    def __init__(self, db: Database, seed: int) -> None:
        self.db = db
        self.random = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.nonce = 0

    async def ask(self, person: str) -> None:
        """Ask once, by one of the ways through the door, and look at whose answer came."""
        self.nonce += 1
        nonce, caller = self.nonce, as_user(person)
        match self.random.choices(("one", "two", "steps", "fault", "slow"), (640, 200, 100, 57, 3))[
            0
        ]:
            case "one":
                answers = await self.db.fetch(caller, ASK, [nonce], row=Answer)
            case "two":
                first, second = await self.db.fetch_all(
                    caller, Query(ASK, [nonce], Answer), Query(ASK_AGAIN, [nonce], Answer)
                )
                answers = first + second
            case "steps":
                async with self.db.acting_as(caller) as connection:
                    cursor = await connection.execute(ASK, [nonce])
                    answers = [Answer(*row) for row in await cursor.fetchall()]
            case "fault":
                await self.fault(caller, nonce)
                return
            case _:
                await self.db.fetch(caller, "select 1 as nonce from pg_sleep(9)", [], row=Answer)
                return
        for answer in answers:
            assert answer == Answer(nonce, person, [person])
        self.outcomes["answered"] += 1

    async def fault(self, caller: Caller, nonce: int) -> None:
        """Ask something that fails before, between or after good statements."""
        good = Query(ASK, [nonce], Answer)
        bad = self.random.choice(
            (
                Query("select 1 / %s::int as nonce", [0], Answer),
                Query("select from chatkeep.users where id::text = %s", ["x"], Answer),
                Query("select %s::text as nonce", ["\0"], Answer),
            )
        )
        await self.db.fetch_all(caller, *self.random.sample((good, bad, good), 3))

    async def keep_asking(self, person: str, rounds: Iterator[int]) -> None:
        """Ask for *person* as long as there are *rounds* left."""
        for _ in rounds:
            await self.one_round(person)

    async def one_round(self, person: str) -> None:
        """Ask once; now and then somebody hangs up in the middle."""
        task = asyncio.ensure_future(self.ask(person))
        hang_up = None
        if self.random.random() < 0.02:
            delay = self.random.random() * 0.001
            hang_up = asyncio.get_running_loop().call_later(delay, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            self.outcomes["cancelled"] += 1
        except ChatkeepError as error:
            self.outcomes[type(error).__name__] += 1
        finally:
            if hang_up is not None:
                hang_up.cancel()
