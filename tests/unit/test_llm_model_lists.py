"""A provider's list of models: kept, and good while a newer one cannot be had."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chatkeep.errors import ModelUnavailable
from chatkeep.llm.model import ModelInfo
from chatkeep.llm.model_lists import ModelList
from tests.patience import PATIENCE_S
from tests.serving import until

if TYPE_CHECKING:
    from collections.abc import Sequence


class Provider:
    """Lists what the test says, when the test lets it; counts how often it is asked."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked = 0
        self.has = ["a"]
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()

    def clock(self) -> float:
        """Tell the time."""
        return self.now

    async def list_models(self) -> Sequence[ModelInfo]:
        """List them."""
        self.asked += 1
        await self.gate.wait()
        if self.away:
            raise ModelUnavailable
        return [ModelInfo(id=one, name=one) for one in self.has]


async def ids(listing: ModelList) -> list[str]:
    """Return the ids of the list."""
    return [one.id for one in await listing.listed()]


async def until_asked_again(provider: Provider, listing: ModelList, times: int) -> None:
    """Let what was begun in the background come to its end."""
    await until(lambda: provider.asked == times and listing._asking is None)


async def test_list_is_asked_for_once_and_kept() -> None:
    """A hundred at once are one question, and so are the next minutes."""
    provider = Provider()
    listing = ModelList(provider.list_models, clock=provider.clock)
    assert await asyncio.gather(*(ids(listing) for _ in range(100))) == [["a"]] * 100
    provider.now += 299
    assert await ids(listing) == ["a"]
    assert provider.asked == 1
    await listing.aclose()


async def test_who_has_an_older_list_does_not_wait_for_the_newer() -> None:
    """It comes when it comes."""
    provider = Provider()
    listing = ModelList(provider.list_models, clock=provider.clock)
    assert await ids(listing) == ["a"]
    provider.now += 300
    provider.has = ["b"]
    provider.gate.clear()
    assert await ids(listing) == ["a"]
    provider.gate.set()
    await until_asked_again(provider, listing, 2)
    assert await ids(listing) == ["b"]
    assert (listing.find("a"), listing.find("b")) == (None, ModelInfo(id="b", name="b"))
    await listing.aclose()


async def test_list_of_before_is_good_while_the_provider_is_away() -> None:
    """And it is not asked at every turn."""
    provider = Provider()
    listing = ModelList(provider.list_models, clock=provider.clock)
    assert await ids(listing) == ["a"]
    provider.now += 300
    provider.away = True
    for _ in range(3):
        assert await ids(listing) == ["a"]
        await until_asked_again(provider, listing, 2)
    assert provider.asked == 2
    provider.now += 15
    provider.away, provider.has = False, ["b"]
    assert await ids(listing) == ["a"]
    await until_asked_again(provider, listing, 3)
    assert await ids(listing) == ["b"]
    await listing.aclose()


async def test_provider_that_was_never_there_has_an_empty_list() -> None:
    """Which is no error of who asks."""
    provider = Provider()
    provider.away = True
    listing = ModelList(provider.list_models, clock=provider.clock)
    assert await ids(listing) == []
    assert await ids(listing) == []
    assert provider.asked == 1
    await listing.aclose()


async def test_nobody_waits_again_for_a_provider_that_was_away() -> None:
    """Each question to it may take seconds; when it is back, the next one knows."""
    provider = Provider()
    provider.away = True
    listing = ModelList(provider.list_models, clock=provider.clock)
    assert await ids(listing) == []
    provider.now += 15
    provider.away = False
    provider.gate.clear()
    async with asyncio.timeout(PATIENCE_S):
        assert await ids(listing) == []
    provider.gate.set()
    await until_asked_again(provider, listing, 2)
    assert await ids(listing) == ["a"]
    await listing.aclose()


async def test_closing_ends_a_question_that_is_open() -> None:
    """So that nothing outlives the server."""
    provider = Provider()
    listing = ModelList(provider.list_models, clock=provider.clock)
    assert await ids(listing) == ["a"]
    provider.now += 300
    provider.gate.clear()
    await listing.listed()
    await listing.aclose()
    assert listing._asking is None
