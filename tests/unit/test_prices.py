"""What models cost, from the lists of those who offer them."""

from __future__ import annotations

from decimal import Decimal

from chatkeep.budgets.amounts import FREE, Price
from chatkeep.budgets.prices import prices_of
from chatkeep.config import Settings
from chatkeep.llm.model import ModelInfo
from chatkeep.offered_models import OfferedModels
from chatkeep.policies import Policy
from chatkeep.testing import FakeModel

CENT = Decimal("0.01")


async def test_price_is_the_operators_else_the_lists_else_nothing() -> None:
    """What a list says of one half only costs nothing in the other."""
    models = [
        ModelInfo(id="listed", name="Listed", prompt_price=CENT, output_price=2 * CENT),
        ModelInfo(id="half", name="Half", output_price=CENT),
        ModelInfo(id="said", name="Said", prompt_price=CENT),
        ModelInfo(id="silent", name="Silent"),
    ]
    offered = OfferedModels(FakeModel(models=models), Policy(default_model="listed"))
    await offered.listed(None)
    price_of = prices_of(Settings.from_env({"MODEL_PRICES": "said=1000000/2000000"}), offered)
    assert price_of("listed") == Price(prompt=CENT, output=2 * CENT)
    assert price_of("half") == Price(output=CENT)
    assert price_of("said") == Price(prompt=Decimal(1), output=Decimal(2))
    assert price_of("silent") == price_of("unknown") == FREE
