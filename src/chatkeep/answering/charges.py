"""Through here every answer is charged before it is begun, and set right when it has ended.

Without a charge there is no answer. What a provider does not count is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from chatkeep.answering.prompts import result_text
from chatkeep.batches import in_turns
from chatkeep.budgets import ledger
from chatkeep.budgets.amounts import (
    ASSUMED_OUTPUT_TOKENS,
    BYTES_IN_A_TOKEN,
    FREE,
    NO_LIMIT,
    Limits,
    forms_size,
    tokens_in,
    tokens_of,
)
from chatkeep.budgets.ledger import Asking, Charged, Sums
from chatkeep.budgets.refusals import refusal
from chatkeep.db import WORKER, ConstraintViolated, as_user
from chatkeep.events import NO_USAGE, Usage
from chatkeep.ids import new_id
from chatkeep.offered_models import ANONYMOUS_ROLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from chatkeep.answering.live import LiveAnswer
    from chatkeep.answering.parts import Part
    from chatkeep.answering.turns import Turn
    from chatkeep.budgets.amounts import Price
    from chatkeep.db import Database, Query
    from chatkeep.errors import BudgetExhausted
    from chatkeep.llm.model import Prompt
    from chatkeep.policies import Choices
    from chatkeep.principal import Principal

#: Whose account everybody uses who is not signed in; no issuer has an empty subject.
ANONYMOUS: Final = "anonymous:"


@dataclass(slots=True, kw_only=True)
class Charge:
    """What one answer is charged, and how far its counting is.

    *asked*: the model was given something. *before* is what the steps used that have ended,
    the rest is of the one being made: what its prompt is taken for, and where the answer
    stood when it began. *price* is the dearest, where several may answer.
    """

    user_id: str
    charged: Charged
    price: Price
    max_tokens: int | None
    asked: bool = False
    prompt_tokens: int = 0
    before: Usage = NO_USAGE
    counted: Usage = NO_USAGE
    said: int = 0
    results: int = 0

    @property
    def is_limited(self) -> bool:
        """Whether any budget of the person applies."""
        c = self.charged
        tokens = (c.tokens_per_run, c.tokens_per_day, c.tokens_per_month)
        costs = (c.cost_per_run, c.cost_per_day, c.cost_per_month)
        return any(one != NO_LIMIT for one in (*tokens, *costs))

    def allowed_output(self) -> int | None:
        """Return how long the answer may be; None: as long as it likes."""
        c = self.charged
        left = [c.tokens_per_run - c.prompt_tokens]
        if self.price.output:
            cost = c.cost_per_run - self.price.prompt * c.prompt_tokens
            left.append(cost / self.price.output)
        allowed = min(left)
        wish = self.max_tokens
        if not allowed.is_finite():
            return wish
        return max(1, int(allowed) if wish is None else min(wish, int(allowed)))


class Budgets:
    """What everybody may use, and has used. Share one per process."""

    def __init__(
        self,
        db: Database,
        limits: Limits | None = None,
        *,
        total: Decimal | None = None,
        price_of: Callable[[str], Price] = lambda _: FREE,
    ) -> None:
        """Charge through *db*.

        *limits* are everybody's, *total* is what the whole server may spend in a day, and
        *price_of* knows what a model costs.
        """
        self._db = db
        self._limits = limits or Limits()
        self._total = total
        self._price_of = price_of
        #: Who hears of a refusal, if anybody does.
        self.told: Callable[[str, BudgetExhausted], Awaitable[None]] | None = None

    async def refuse(self, user_id: str, error: BudgetExhausted) -> None:
        """Tell whoever wants to hear of it that *user_id* was refused."""
        if self.told is not None:
            await self.told(user_id, error)

    def charging(self, who: Principal, turn: Turn, choices: Choices) -> list[Query[Any]]:
        """Return the statements that charge *who* for *turn*, in the transaction that begins it.

        They come after what makes its run. Whoever sends them hands the first one's row to
        `admitted`, and a violated constraint to `refusal`.
        """
        size = len((choices.system_prompt or "").encode("utf-8", "replace"))
        size += sum(len(str(part).encode("utf-8", "replace")) for part in turn.has)
        size += forms_size(choices.tools, choices.settings)
        asking = Asking(
            id=turn.run_id,
            model=turn.model,
            size=size,
            max_tokens=choices.settings.max_tokens,
            kept=True,
        )
        return self._charging(who.user_id, who.all_roles, asking, self._limits)

    def admitted(
        self, who: Principal, charged: Charged, choices: Choices, begun: Sequence[Part]
    ) -> Charge:
        """Return what *who* was charged for an answer that had *begun* like this."""
        price = self._price_of(choices.settings.model)
        charge = _begun(who.user_id, charged, price, choices.settings.max_tokens)
        charge.said, charge.results = _said(begun), _results(begun)
        return charge

    async def charge_unkept(self, who: Principal | None, prompt: Prompt) -> Charge:
        """Charge *who* for an answer to *prompt* that is not kept; None: whoever it is.

        Those who are not signed in share one account, to which the limits of the role "anon"
        apply and those of everybody do not.

        Raises:
            BudgetExhausted: too little is left.
        """
        settings = prompt.settings
        asking = Asking(
            id=new_id(),
            model=settings.model,
            size=tokens_of(prompt) * BYTES_IN_A_TOKEN,
            max_tokens=settings.max_tokens,
        )
        user_id = ANONYMOUS if who is None else who.user_id
        roles = frozenset({ANONYMOUS_ROLE}) if who is None else who.all_roles
        limits = Limits() if who is None else self._limits
        try:
            charged, *_ = await self._db.fetch_all(
                as_user(user_id), *self._charging(user_id, roles, asking, limits)
            )
        except ConstraintViolated as violated:
            raise await self._refused(user_id, violated) from violated
        price = self._price_of(settings.model)
        return _begun(user_id, charged[0], price, settings.max_tokens)

    async def charge_step(self, charge: Charge, live: LiveAnswer) -> None:
        """Charge one more question to the model, with what tools have answered.

        Raises:
            BudgetExhausted: too little is left, so the answer ends here.
        """
        said, results = _spoken(live), _results(live.parts)
        if live.usage == charge.counted and said == charge.said:
            return  # an answer goes on whose tools were waited for: no model was asked yet
        used = _usage(charge, live, self._price(charge, live))
        is_counted = live.usage != charge.counted
        last = live.usage.prompt_tokens - charge.counted.prompt_tokens
        before = last + live.usage.completion_tokens - charge.counted.completion_tokens
        prompt = before if is_counted else charge.prompt_tokens + tokens_in(said - charge.said)
        prompt += tokens_in(results - charge.results)
        if charge.is_limited or self._total is not None:
            await self._raise(charge, used, prompt)
        charge.before, charge.counted, charge.prompt_tokens = used, live.usage, prompt
        charge.said, charge.results = said, results

    def settling(self, charge: Charge, live: LiveAnswer, state: str) -> list[Query[Any]]:
        """Return the statements that set *charge* right, *live* having ended in *state*."""
        sums = _sums(charge, live, state, self._price(charge, live))
        settle, move = ledger.settling(charge.user_id, charge.charged.id, live.model, sums)
        return [settle] if self._total is None else [settle, move]

    async def settle(self, charge: Charge, live: LiveAnswer, state: str) -> None:
        """Set *charge* right, for an answer that is not kept."""
        queries = self.settling(charge, live, state)
        await self._db.fetch_all(as_user(charge.user_id), *queries)

    async def sweep(self) -> int:
        """Set right what the answers of dead servers were charged; return how many.

        They are charged what was sent and what was kept of what was said: nobody knows
        what else their provider has counted, and nobody chose that they died.
        """
        dead = await self._db.fetch_all(WORKER, ledger.finding_dead())
        for one in dead[0]:
            output = min(one.output_tokens, tokens_in(one.said))
            cost = one.prompt_cost + (one.cost - one.prompt_cost) * output / one.output_tokens
            sums = Sums(
                prompt_tokens=one.prompt_tokens,
                output_tokens=output,
                prompt_cost=one.prompt_cost,
                cost=cost,
            )
            queries = ledger.settling(one.user_id, one.id, one.model, sums, only_open=True)
            await self._db.fetch_all(WORKER, *queries)
        return len(dead[0])

    async def forget_old(self) -> None:
        """Erase charges that were settled days ago, and totals of days long past."""
        await in_turns(
            lambda at_most: self._db.execute(
                WORKER,
                "with few as materialized (select user_id, id from chat.charges"
                "  where settled_at < now() - interval '3 days'"
                "  order by settled_at limit %s for update skip locked)"
                " delete from chat.charges c using few"
                " where (c.user_id, c.id) = (few.user_id, few.id)",
                [at_most],
            )
        )
        await self._db.execute(
            WORKER,
            "delete from chat.budget_totals where day < (now() at time zone 'utc')::date - 400",
            [],
        )

    def _charging(
        self, user_id: str, roles: frozenset[str], asking: Asking, limits: Limits
    ) -> list[Query[Any]]:
        charge = ledger.charging(
            user_id,
            roles,
            asking,
            limits=limits,
            price=self._price_of(asking.model),
            counts_total=self._total is not None,
        )
        if self._total is None:
            return [charge]
        return [charge, ledger.charging_total(user_id, asking.id, self._total)]

    def _price(self, charge: Charge, live: LiveAnswer) -> Price:
        """Return the price of whoever answers."""
        one = live.answering
        return charge.price if one is None else self._price_of(f"{one.model}@{one.upstream}")

    async def _raise(self, charge: Charge, used: Usage, prompt: int) -> None:
        price, charged = charge.price, charge.charged
        output = charge.max_tokens or ASSUMED_OUTPUT_TOKENS
        left = charged.tokens_per_run - used.prompt_tokens - used.completion_tokens - prompt
        output = max(1, int(min(Decimal(output), left)))
        sums = Sums(
            prompt_tokens=used.prompt_tokens + prompt,
            output_tokens=used.completion_tokens + output,
            prompt_cost=price.of(used.prompt_tokens + prompt, 0),
            cost=(used.cost or Decimal(0)) + price.of(prompt, output),
        )
        queries = ledger.charging_more(charge.user_id, charged, sums, total=self._total)
        try:
            await self._db.fetch_all(as_user(charge.user_id), *queries)
        except ConstraintViolated as violated:
            raise await self._refused(charge.user_id, violated) from violated

    async def _refused(self, user_id: str, violated: ConstraintViolated) -> Exception:
        error = await refusal(self._db, violated)
        if error is None:
            return violated
        await self.refuse(user_id, error)
        return error


def _begun(user_id: str, charged: Charged, price: Price, max_tokens: int | None) -> Charge:
    return Charge(
        user_id=user_id,
        charged=charged,
        price=price,
        max_tokens=max_tokens,
        prompt_tokens=charged.prompt_tokens,
    )


def _sums(charge: Charge, live: LiveAnswer, state: str, price: Price) -> Sums:
    """What an ended answer used. One that failed before a word of it costs nothing."""
    is_silent = live.usage == charge.counted and _spoken(live) == charge.said
    failed = not charge.asked or (state == "failed" and is_silent)
    used = charge.before if failed else _usage(charge, live, price)
    return Sums(
        prompt_tokens=used.prompt_tokens,
        output_tokens=used.completion_tokens,
        prompt_cost=price.of(used.prompt_tokens, 0),
        cost=used.cost or Decimal(0),
    )


def _usage(charge: Charge, live: LiveAnswer, price: Price) -> Usage:
    """What the answer used so far, at *price* in the step being made: counted, else estimated."""
    before, counted = charge.before, charge.counted
    if live.usage == counted:
        prompt = charge.prompt_tokens
        said = tokens_in(_spoken(live) - charge.said)
        cost = price.of(prompt, said)
    else:
        prompt = live.usage.prompt_tokens - counted.prompt_tokens
        said = live.usage.completion_tokens - counted.completion_tokens
        told = _told(live.usage, counted)
        cost = price.of(prompt, said) if told is None else told
    return Usage(
        prompt_tokens=before.prompt_tokens + prompt,
        completion_tokens=before.completion_tokens + said,
        cost=(before.cost or Decimal(0)) + cost,
    )


def _told(now: Usage, before: Usage) -> Decimal | None:
    """What the provider says that the tokens between *before* and *now* cost."""
    if now.cost is None or now.cost == before.cost:
        return None
    return now.cost - (before.cost or Decimal(0))


def _spoken(live: LiveAnswer) -> int:
    """How many bytes the model has written, shown or not."""
    return _said(live.parts) + live.withheld


def _said(parts: Sequence[Part]) -> int:
    """How many bytes the model has written."""
    texts = [part.text if part.call is None else part.call.arguments for part in parts]
    return sum(len(text.encode("utf-8", "replace")) for text in texts)


def _results(parts: Sequence[Part]) -> int:
    """How many bytes tools have answered."""
    texts = [result_text(part.result) for part in parts if part.result is not None]
    return sum(len(text.encode("utf-8", "replace")) for text in texts)
