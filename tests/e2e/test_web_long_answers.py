"""An answer of a hundred thousand characters, in a real Chromium: all of it is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.conftest import folder_for_a_server
from tests.e2e.visiting import MARKS, Server, Visitor, answers, box, stop_button
from tests.free_ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

    from tests.e2e.conftest import Settle

#: A slow machine draws for minutes, and the page is asked anything between two pieces only.
WHILE_IT_DRAWS_MS = 120_000

pytestmark = [*MARKS, pytest.mark.timeout(600)]

RESPONDER = '''
from chatkeep.events import Done, TextDelta

PART = """## Part {}

Some **words** with `code`, and [a link][home], which go on for a while so that they fill lines.

```python
def part(x):
    return x * 2
```

- item one
- item two

"""


async def respond(asked):
    yield TextDelta(text="[home]: https://example.com/at-home\\n\\n")
    for number in range(550):
        text = PART.format(number)
        for at in range(0, len(text), 50):
            yield TextDelta(text=text[at : at + 50])
    yield Done(finish_reason="stop")
'''


@pytest.fixture
async def talker(settle: Settle) -> AsyncIterator[Server]:
    """A server whose answers are long."""
    with folder_for_a_server() as folder:
        settle(folder / "data")
        (folder / "long_answers.py").write_text(RESPONDER)
        running = Server(folder, free_port(), {"RESPONDER": "long_answers:respond"})
        try:
            await running.start()
            yield running
        finally:
            await running.end()


async def test_link_is_defined_once_for_all_of_a_long_answer(
    browser: Browser, talker: Server
) -> None:
    """It is parsed in pieces, each of which knows it; the keyboard pages through the answer."""
    visitor = Visitor(browser, talker.url)
    async with visitor.open() as page:
        await visitor.sign_up(page)
        await box(page).fill("Tell me much")
        await box(page).press("Enter")
        await expect(
            answers(page).get_by_role("heading", name="Part 3", exact=True)
        ).to_be_attached(timeout=WHILE_IT_DRAWS_MS)
        await expect(stop_button(page)).to_be_hidden(timeout=WHILE_IT_DRAWS_MS)
        await expect(answers(page).get_by_role("heading", name="Part 549")).to_be_attached()
        links = answers(page).get_by_role("link", name="a link")
        await expect(links).to_have_count(550)
        await expect(links.last).to_have_attribute("href", "https://example.com/at-home")
        length = await page.evaluate("document.querySelector('.prose').innerText.length")
        assert length > 75_000
        jump = page.get_by_role("button", name="Jump to latest")
        await expect(jump).to_have_count(0)
        await box(page).press("PageUp")
        await expect(jump).to_be_visible()
        await expect(answers(page).get_by_role("heading", name="Part 549")).not_to_be_in_viewport()
        await box(page).press("PageDown")
        await expect(jump).to_have_count(0)
    assert visitor.unexpected == []
