"""What answers are charged: exact however many ask at once, and set right afterwards."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from chatkeep import audit, runs
from chatkeep.answering import checkpoints, turns
from chatkeep.answering.charges import ANONYMOUS, Budgets, Charge
from chatkeep.answering.checkpoints import Checkpoint
from chatkeep.answering.live import LiveAnswer
from chatkeep.budgets.administered import forget_limits, list_limits, set_limits
from chatkeep.budgets.amounts import Limits, Price
from chatkeep.budgets.overview import overview, totals
from chatkeep.db import Database, as_user
from chatkeep.errors import BudgetExhausted, Invalid
from chatkeep.events import NextStep, TextDelta, ToolCall, ToolResult, Usage
from chatkeep.llm.model import ModelSettings, Prompt, PromptMessage
from chatkeep.policies import Choices
from chatkeep.principal import Principal
from chatkeep.runs import Address, Ending
from tests.turns import a_turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from chatkeep.answering.turns import Turn
    from tests.postgres_servers import MigratedDatabase

ADMITTED = 37
#: A prompt of one short message is 12 tokens, and so much may be said: 100 in all.
PROMPT = Prompt(
    messages=[PromptMessage(role="user", text="x" * 24)],
    settings=ModelSettings(model="m", max_tokens=88),
)
A_CHARGE = 100
CENT = Price(prompt=Decimal("0.01"), output=Decimal("0.01"))


@dataclass(frozen=True, slots=True)
class Row:
    """What the ledger says of somebody."""

    tokens: int
    cost: Decimal
    open: int


def somebody(**changes: object) -> Principal:
    """Return a new person."""
    who = f"person-{uuid4()}"
    return Principal(user_id=who, issuer="embedded", subject=who, **changes)  # type: ignore[arg-type]  # named by the tests


def ledger(database: MigratedDatabase, who: Principal) -> Row:
    """Return what stands against *who*."""
    with psycopg.connect(database.admin_url) as connection:
        row = connection.execute(
            "select coalesce(max(day_tokens), 0), coalesce(max(day_cost), 0),"
            " (select count(*) from chat.charges where user_id = %(id)s and settled_at is null)"
            " from chat.budgets where user_id = %(id)s",
            {"id": who.user_id},
        ).fetchone()
    assert row is not None
    return Row(*row)


def answer(model: str = "m") -> LiveAnswer:
    """Return an answer of which nothing was said yet."""
    nowhere = Address(id="", conversation_id="", message_id="", user_message_id="")
    return LiveAnswer(user_id="", address=nowhere, model=model)


@pytest.fixture
async def other_node(database: MigratedDatabase) -> AsyncIterator[Database]:
    """A second pool, as another node has."""
    db = Database(database.url, pool_size=10, borrow_timeout_s=120)
    await db.open()
    yield db
    await db.close()


@pytest.fixture
async def this_node(database: MigratedDatabase) -> AsyncIterator[Database]:
    """A pool whose borrowers have patience."""
    db = Database(database.url, pool_size=10, borrow_timeout_s=120)
    await db.open()
    yield db
    await db.close()


async def admitted(one: Budgets, who: Principal) -> Charge | None:
    """Return the charge of one more request, None when it was refused."""
    try:
        charge = await one.charge_unkept(who, PROMPT)
    except BudgetExhausted as refused:
        assert refused.members["budget"] == "tokens-per-day"  # noqa: PT017 -- many are refused
        return None
    charge.asked = True
    return charge


async def test_of_1000_parallel_requests_on_two_nodes_exactly_as_many_are_admitted_as_fit(
    database: MigratedDatabase, this_node: Database, other_node: Database
) -> None:
    """Not one more, and the count is exact before and after they are set right."""
    who = somebody()
    limits = Limits(tokens_per_day=Decimal(ADMITTED * A_CHARGE + A_CHARGE // 2))
    nodes = [Budgets(this_node, limits), Budgets(other_node, limits)]
    tries = await asyncio.gather(*(admitted(nodes[number % 2], who) for number in range(1000)))
    charges = [charge for charge in tries if charge is not None]
    assert len(charges) == ADMITTED
    assert ledger(database, who) == Row(ADMITTED * A_CHARGE, Decimal(0), ADMITTED)

    live = answer()
    live.add(Usage(prompt_tokens=7, completion_tokens=3, cost=Decimal("0.001")))
    await asyncio.gather(*(nodes[1].settle(charge, live, "done") for charge in charges))
    assert ledger(database, who) == Row(ADMITTED * 10, Decimal("0.037"), 0)
    found = await overview(this_node, who, limits, days=30)
    (model,) = found.by_model
    assert (model.answers, model.prompt_tokens, model.cost) == (37, 259, Decimal("0.037"))
    assert found.budgets[0].left == limits.tokens_per_day - ADMITTED * 10


async def test_total_of_the_server_stops_everybody(
    database: MigratedDatabase, this_node: Database
) -> None:
    """Signed in or not: whoever would pass it is refused, and nothing of them is booked."""
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute("delete from chat.budget_totals")
    budgets = Budgets(this_node, total=Decimal("2.50"), price_of=lambda _: CENT)
    ana, bo = somebody(), somebody()
    first = await budgets.charge_unkept(ana, PROMPT)
    await budgets.charge_unkept(None, PROMPT)
    with pytest.raises(BudgetExhausted) as refused:
        await budgets.charge_unkept(bo, PROMPT)
    assert refused.value.members["budget"] == "cost-per-day-total"
    assert refused.value.retry_after_s
    assert ledger(database, bo) == Row(0, Decimal(0), 0)
    first.asked = True
    live = answer()
    live.add(Usage(prompt_tokens=1, completion_tokens=1))
    await budgets.settle(first, live, "done")
    await budgets.charge_unkept(bo, PROMPT)


async def test_refused_turn_leaves_no_question_and_no_run(
    database: MigratedDatabase, this_node: Database
) -> None:
    """The charge is refused in the transaction that keeps the question: nothing of it is kept."""
    who = somebody()
    budgets = Budgets(this_node, Limits(tokens_per_month=Decimal(10)))
    choices = Choices(settings=ModelSettings(model="m"), system_prompt=None)
    turn = turn_of(str(uuid4()))
    with pytest.raises(BudgetExhausted) as refused:
        await turns.start(this_node, who.user_id, turn, budgets.charging(who, turn, choices))
    assert refused.value.members["budget"] == "tokens-per-month"
    with psycopg.connect(database.admin_url) as connection:
        for table in ("conversations", "messages", "runs", "charges", "budgets"):
            row = connection.execute(
                f"select count(*) from chat.{table} where user_id = %s",  # noqa: S608 -- ours
                [who.user_id],
            ).fetchone()
            assert row == (0,), table


async def test_history_and_system_prompt_are_charged(this_node: Database) -> None:
    """What the model will read is what is reserved: the question, what was before, the rest."""
    who, conversation = somebody(), str(uuid4())
    budgets = Budgets(this_node)
    sizes = []
    for _ in range(2):
        turn = turn_of(conversation)
        choices = Choices(settings=ModelSettings(model="m"), system_prompt="s" * 300)
        started = await turns.start(
            this_node, who.user_id, turn, budgets.charging(who, turn, choices)
        )
        sizes.append(started.rows[0][0].prompt_tokens)
        address = turn.address
        said = Ending(state="done")
        await checkpoints.finish(
            this_node, who.user_id, address, said, content="a" * 600, parts=None, title=None
        )
    assert sizes == [204, 512]


async def test_turn_is_not_charged_without_what_it_reads(database: MigratedDatabase) -> None:
    """Not by mistake for what another turn has read before, on the same connection."""
    who = somebody()
    db = Database(database.url, pool_size=1)
    await db.open()
    try:
        budgets = Budgets(db)
        choices = Choices(settings=ModelSettings(model="m"), system_prompt=None)
        turn, later = turn_of(str(uuid4())), turn_of(str(uuid4()))
        await turns.start(db, who.user_id, turn, budgets.charging(who, turn, choices))
        await turns.start(db, who.user_id, later)
        with pytest.raises(Invalid):
            await db.fetch_all(as_user(who.user_id), *budgets.charging(who, later, choices))
    finally:
        await db.close()
    assert ledger(database, who).open == 1


async def test_answer_of_a_dead_server_costs_what_was_sent_and_said(
    database: MigratedDatabase, this_node: Database
) -> None:
    """Not what was reserved; once, and what its server books later is right in the end."""
    who = somebody()
    budgets = Budgets(this_node, price_of=lambda _: CENT)
    choices = Choices(settings=ModelSettings(model="m", max_tokens=5000), system_prompt=None)
    turn = turn_of(str(uuid4()))
    started = await turns.start(this_node, who.user_id, turn, budgets.charging(who, turn, choices))
    address = turn.address
    said = Checkpoint(user_id=who.user_id, run=address, content="x" * 30, parts=None)
    await checkpoints.keep(this_node, [said])
    assert ledger(database, who).tokens == 5104
    await budgets.sweep()
    assert ledger(database, who).tokens == 5104, "an answer that is being made is left alone"
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        connection.execute(
            "update chat.runs set lease_until = now() - interval '1 s' where user_id = %s",
            [who.user_id],
        )
    await runs.sweep(this_node)
    await asyncio.gather(budgets.sweep(), budgets.sweep())
    assert ledger(database, who) == Row(114, Decimal("1.14"), 0)
    charge = budgets.admitted(who, started.rows[0][0], choices, [])
    charge.asked = True
    live = answer()
    live.add(Usage(prompt_tokens=90, completion_tokens=50, cost=Decimal("0.5")))
    await checkpoints.finish(
        this_node,
        who.user_id,
        address,
        Ending(state="done"),
        content="whole",
        parts=None,
        title=None,
        also=budgets.settling(charge, live, "done"),
    )
    assert ledger(database, who) == Row(140, Decimal("0.5"), 0)
    found = await overview(this_node, who, Limits(), days=1)
    assert (found.this_month.answers, found.this_month.cost) == (1, Decimal("0.5"))


async def test_what_nobody_counted_is_estimated(
    database: MigratedDatabase, this_node: Database
) -> None:
    """A stopped answer costs what was sent and said, one that failed in silence nothing."""
    who = somebody()
    budgets = Budgets(this_node, price_of=lambda _: CENT)
    silent = await admitted(budgets, who)
    assert silent is not None
    await budgets.settle(silent, answer(), "failed")
    assert ledger(database, who) == Row(0, Decimal(0), 0)
    stopped = await admitted(budgets, who)
    assert stopped is not None
    live = answer()
    live.add(TextDelta(text="x" * 30))
    await budgets.settle(stopped, live, "stopped")
    assert ledger(database, who) == Row(22, Decimal("0.22"), 0)


async def test_each_question_to_the_model_is_charged_and_the_one_too_many_refused(
    database: MigratedDatabase, this_node: Database
) -> None:
    """A loop of tools ends between two steps; what it used until then is booked."""
    who = somebody()
    budgets = Budgets(this_node, Limits(tokens_per_run=Decimal(400)))
    charge = await admitted(budgets, who)
    assert charge is not None
    live, steps = answer(), 0

    async def work() -> None:
        nonlocal steps
        while True:
            live.add(ToolCall(call_id=f"c{steps}", name="t", arguments="{}"))
            live.add(Usage(prompt_tokens=50, completion_tokens=10))
            live.add(ToolResult(call_id=f"c{steps}", output="x" * 60))
            live.add(NextStep())
            await budgets.charge_step(charge, live)
            steps += 1

    with pytest.raises(BudgetExhausted) as refused:
        await work()
    assert (steps, refused.value.members["budget"]) == (5, "tokens-per-run")
    await budgets.settle(charge, live, "failed")
    assert ledger(database, who) == Row(360, Decimal(0), 0)


async def test_person_goes_before_role_and_role_before_everybody(this_node: Database) -> None:
    """The most generous role counts; "none" is no limit; what was set is forgotten again."""
    role, other = f"staff-{uuid4()}", f"other-{uuid4()}"
    who = somebody(roles=frozenset({role, other}))
    everybody = Limits(tokens_per_day=Decimal(50))
    budgets = Budgets(this_node, everybody)
    assert await admitted(budgets, who) is None
    await set_limits(this_node, "role", role, {"tokens_per_day": Decimal(150)})
    await set_limits(this_node, "role", other, {"tokens_per_day": Decimal(120)})
    assert await admitted(budgets, who) is not None
    assert await admitted(budgets, who) is None
    await set_limits(this_node, "user", who.user_id, {"tokens_per_day": Decimal("Infinity")})
    charge = await admitted(budgets, who)
    assert charge is not None
    assert not charge.is_limited
    assert (await overview(this_node, who, everybody, days=1)).budgets == []
    assert {one.name for one in await list_limits(this_node)} >= {role, other, who.user_id}
    assert await forget_limits(this_node, "user", who.user_id)
    assert not await forget_limits(this_node, "user", who.user_id)
    assert await admitted(budgets, who) is None


async def test_whoever_changes_limits_is_in_the_audit_log(this_node: Database) -> None:
    """What was set and what was taken back, of whom; nothing where nothing was changed."""
    role, who = f"staff-{uuid4()}", str(uuid4())
    await set_limits(this_node, "role", role, {"tokens_per_day": Decimal(150)})
    await set_limits(this_node, "user", who, {"cost_per_day": None, "cost_per_run": Decimal("0.5")})
    assert await forget_limits(this_node, "user", who)
    assert not await forget_limits(this_node, "user", who)
    entries = await audit.listed(this_node, action="budget.changed")
    newest_first = [(one.user_id, one.actor, one.details) for one in entries[:3]]
    assert newest_first == [
        (who, "operator", dict.fromkeys(asdict(Limits()))),
        (who, "operator", {"cost_per_day": None, "cost_per_run": "0.5"}),
        (None, "operator", {"role": role, "tokens_per_day": "150"}),
    ]


async def test_yesterday_is_forgotten_and_the_month_is_not(
    database: MigratedDatabase, this_node: Database
) -> None:
    """A new day begins at nothing; a new month too."""
    who = somebody()
    budgets = Budgets(this_node, Limits(tokens_per_day=Decimal(150)))
    old = await admitted(budgets, who)
    assert old is not None
    with psycopg.connect(database.admin_url, autocommit=True) as connection:
        for table in ("budgets", "charges"):
            connection.execute(
                f"update chat.{table} set day = day - 40 where user_id = %s",  # noqa: S608 -- ours
                [who.user_id],
            )
    assert await admitted(budgets, who) is not None
    await budgets.settle(old, answer(), "failed")
    assert ledger(database, who).tokens == A_CHARGE, "what is settled late is not of today"


async def test_anonymous_answers_share_an_account_without_everybodys_limits(
    this_node: Database,
) -> None:
    """The limits of people are not theirs; those of the role "anon" are."""
    budgets = Budgets(this_node, Limits(tokens_per_day=Decimal(1)))
    charge = await budgets.charge_unkept(None, PROMPT)
    assert charge.user_id == ANONYMOUS
    await set_limits(this_node, "role", "anon", {"tokens_per_day": Decimal(1)})
    with pytest.raises(BudgetExhausted):
        await budgets.charge_unkept(None, PROMPT)
    await forget_limits(this_node, "role", "anon")
    before = sum(one.answers for one in await totals(this_node, days=1))
    charge.asked = True
    await budgets.settle(charge, answer(), "stopped")
    assert sum(one.answers for one in await totals(this_node, days=1)) == before + 1


def turn_of(conversation: str) -> Turn:
    """Return a question of 300 bytes."""
    return a_turn(conversation_id=conversation, content="q" * 300)
