"""What models cost: as the operator says, else as the provider's list says, else nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from chatkeep.budgets.amounts import FREE, Price

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatkeep.config import Settings
    from chatkeep.offered_models import OfferedModels

_A_MILLION: Final = Decimal(1_000_000)


def prices_of(settings: Settings, offered: OfferedModels) -> Callable[[str], Price]:
    """Return what says the price of a model, at once and without asking anybody.

    A name that stands for several models, and has no price of its own, costs what the dearest
    of them does. `model@upstream` is the model as that upstream has it.
    """
    said = {
        model: Price(prompt=prompt / _A_MILLION, output=output / _A_MILLION)
        for model, prompt, output in settings.model_prices
    }

    def price_of(model: str) -> Price:
        if model in said:
            return said[model]
        candidates = [price_of_one(one) for one in offered.candidates(model)]
        if len(candidates) == 1:
            return candidates[0]
        return Price(
            prompt=max((one.prompt for one in candidates), default=Decimal(0)),
            output=max((one.output for one in candidates), default=Decimal(0)),
        )

    def price_of_one(model: str) -> Price:
        known = said.get(model) or said.get(offered.bare(model))
        if known is not None:
            return known
        listed = offered.find(model)
        if listed is None or (listed.prompt_price is None and listed.output_price is None):
            return FREE
        return Price(
            prompt=listed.prompt_price or Decimal(0), output=listed.output_price or Decimal(0)
        )

    return price_of
