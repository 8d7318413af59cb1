"""Formulas in answers, in a real Chromium: drawn, read aloud, copied as TeX, and nothing else."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import aiohttp
import pytest
from playwright.async_api import expect

from chatkeep.events import Done, TextDelta
from tests.accessibility import NEEDS_AXE, faults_of
from tests.e2e.test_web_search_and_share import share_answer
from tests.e2e.visiting import MARKS, Visitor, answers, box, copied, stop_button
from tests.gotrue_people import OURS_ALONE
from tests.machine_time import quick
from tests.serving import start_node

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Locator, Page

    from chatkeep.events import ModelEvent
    from chatkeep.llm.model import ModelInfo, Prompt
    from tests.postgres_servers import MigratedDatabase

pytestmark = MARKS

ANSWER = r"""It costs $5 and $6, as `$x$` says.

The roots are $x_{1,2} = \frac{-p}{2}$ and \(y \ne 0\), so

\[
a^2
+ b^2
\]

| left | right |
| --- | --- |
| $n$ | 1 |

```latex
$$ z $$
```

$$\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}$$
"""
# What a formula was written with is what is copied of it.
COPIED = (
    "It costs $5 and $6, as $x$ says.\n\n"
    r"The roots are $x_{1,2} = \frac{-p}{2}$ and \(y \ne 0\), so"
    "\n\n"
    r"\[ a^2 + b^2 \]"
    "\nleft\tright\n$n$\t1\nlatex\n$$ z $$\n"
    r"$$\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}$$"
)
# Each would take for ever, or draw all over the page, or ask for something.
TRAPS = (
    r"$\def\a{\a\a}\a$",
    r"$" + r"\llap{" * 40 + "x" + "}" * 40 + "$",
    r"$\includegraphics{/api/usage}$",
    r"$\href{javascript:alert(1)}{x}$",
    r"$\style{position:fixed;inset:0}{x}$",
    r"$\frac{1}{$",
)


class Writing:
    """A model that says what the test wants, and waits where the test does."""

    name = "writing"

    def __init__(self) -> None:
        """Have nothing to say yet."""
        self.pieces: list[str] = []
        self.goes_on = asyncio.Event()

    async def stream(self, _prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Say all pieces, and wait before the last."""
        *first, last = self.pieces
        for piece in first:
            yield TextDelta(text=piece)
        await self.goes_on.wait()
        yield TextDelta(text=last)
        yield Done(finish_reason="stop")

    async def list_models(self) -> list[ModelInfo]:
        """Have no list."""
        return []


@pytest.fixture
def model() -> Writing:
    """The model of the server that the reader is at."""
    return Writing()


@pytest.fixture
async def reader(
    database: MigratedDatabase, browser: Browser, model: Writing
) -> AsyncIterator[Visitor]:
    """Somebody at a server with that model."""
    async with aiohttp.ClientSession() as session:
        node = await start_node(database.url, session, "", **OURS_ALONE)
        node.stage.model = model  # type: ignore[assignment]  # a stage plays any model
        somebody = Visitor(browser, node.url)
        try:
            yield somebody
        finally:
            await node.stop()
    assert somebody.unexpected == []


def drawn(page: Page) -> Locator:
    """The formulas of the answers."""
    return answers(page).locator("math")


async def hear(page: Page, model: Writing, *pieces: str) -> None:
    """Ask, and hear all *pieces*."""
    model.pieces = [*pieces]
    model.goes_on.set()
    await box(page).fill("What do you say?")
    await box(page).press("Enter")
    await expect(answers(page)).to_have_count(1)
    await expect(stop_button(page)).to_be_hidden()


@NEEDS_AXE
async def test_formulas_are_drawn_and_copied_as_they_were_written(
    reader: Visitor, model: Writing
) -> None:
    """Those of every kind, and neither prices nor code; what draws them comes with the first."""
    async with reader.open() as page:
        loaded: list[str] = []
        page.on("request", lambda one: loaded.append(one.url))
        await reader.sign_up(page)
        assert [one for one in loaded if "typeset" in one or "formula" in one] == []
        await hear(page, model, ANSWER)
        await expect(drawn(page)).to_have_count(5)
        await expect(drawn(page).nth(2)).to_have_text(re.compile(r"a2\s*\+\s*b2"))
        assert await drawn(page).nth(3).evaluate("(one) => one.closest('td') !== null")
        first = answers(page).locator(".prose p").first
        await expect(first).to_have_text("It costs $5 and $6, as $x$ says.")
        await expect(answers(page).locator("pre")).to_have_text("$$ z $$")
        assert await faults_of(page) == []
        # Nobody hears it twice.
        tree = await answers(page).aria_snapshot()
        assert r"\frac" not in tree
        prose = answers(page).locator(".prose")
        await prose.evaluate("(one) => getSelection().selectAllChildren(one)")
        await page.keyboard.press("Control+c")
        await copied(page, COPIED)
        await (
            drawn(page)
            .nth(1)
            .evaluate(
                "(one) => getSelection().setBaseAndExtent(one.firstChild, 0, one.closest('p'), 5)"
            )
        )
        await page.keyboard.press("Control+c")
        await copied(page, r"\(y \ne 0\), so")


async def test_half_a_formula_is_text_until_it_is_whole(reader: Visitor, model: Writing) -> None:
    """While an answer is being written, it stands there as it came."""
    async with reader.open() as page:
        await reader.sign_up(page)
        model.pieces = ["So $x$ and \\(", "\\frac{1", "}{2", "}\\) is it."]
        await box(page).fill("What do you say?")
        await box(page).press("Enter")
        await expect(answers(page)).to_contain_text("\\frac{1}{2")
        await expect(drawn(page)).to_have_count(1)
        model.goes_on.set()
        await expect(drawn(page)).to_have_count(2)
        await expect(answers(page).locator("mfrac")).to_have_count(1)
        await expect(stop_button(page)).to_be_hidden()


async def test_formula_that_is_a_trap_stays_text(reader: Visitor, model: Writing) -> None:
    """The page goes on at once, asks for nothing, and draws what comes after it."""
    async with reader.open() as page:
        asked: list[str] = []
        await reader.sign_up(page)
        page.on("request", lambda one: asked.append(one.url))
        await hear(page, model, "\n\n".join((*TRAPS, "and $x$")))
        with quick(1.0):
            assert await page.evaluate("1 + 1") == 2
        await expect(drawn(page)).to_have_count(1)
        for trap in TRAPS:
            await expect(answers(page)).to_contain_text(trap)
        await expect(answers(page).locator(".prose :is(img, a, [style*=fixed])")).to_have_count(0)
        assert [one for one in asked if "/api/usage" in one] == []


async def test_wide_and_tall_formulas_stay_in_their_place(reader: Visitor, model: Writing) -> None:
    """On a phone they are scrolled, and none is drawn over what stands beside it."""
    wide = " + ".join(rf"\frac{{a_{{{number}}}}}{{b}}" for number in range(40))
    async with reader.open(width=360) as page:
        await reader.sign_up(page)
        await hear(page, model, rf"Wide: \[ {wide} \] and $\raisebox{{200em}}{{x}}$ it is.")
        await expect(drawn(page)).to_have_count(2)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for one in await drawn(page).all():
            await expect(one).to_have_css("overflow-y", "hidden")
            place = await one.bounding_box()
            assert place is not None
            assert place["x"] + place["width"] <= 360


async def test_shared_chat_shows_formulas(visitor: Visitor, tmp_path: Path) -> None:
    """Who reads it there sees them drawn, under the narrower policy of that page."""
    async with visitor.open() as page:
        await visitor.sign_up(page)
        link = await share_answer(page, tmp_path, ANSWER)
        async with visitor.open() as stranger:
            await stranger.goto(link)
            await expect(stranger.locator("math")).to_have_count(5)
