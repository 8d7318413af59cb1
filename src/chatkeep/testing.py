"""Fakes for the tests of Chatkeep, and of apps that are built on it.

    model = FakeModel(["Hel", "lo"], [TextDelta(text="Hm."), ModelTimeout()])

answers the first prompt with "Hello" and breaks off the second answer. The fakes keep the
contracts of what they stand for, which the same tests check; they never reach a network.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from chatkeep.errors import ChatkeepError
from chatkeep.events import Done, ModelEvent, TextDelta
from chatkeep.llm.model import ModelInfo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from chatkeep.llm.model import Prompt

Step = ModelEvent | str | asyncio.Event | ChatkeepError
"""What a fake answer does next: say an event (text for short), wait, or fail."""


class FakeModel:
    """A `Model` that answers from scripts.

    Each prompt is answered by the next script, the last one for ever. A step that is an
    `asyncio.Event` is a gate: the answer goes on when the test sets it. A script that
    neither fails nor ends with `Done` is ended by one. With *answer*, that function makes
    the script out of the prompt instead.

    `prompts` keeps what was asked, `running` counts the answers under way, and `abandoned`
    those that were closed or cancelled before their end.
    """

    def __init__(
        self,
        *scripts: Sequence[Step],
        answer: Callable[[Prompt], Sequence[Step]] | None = None,
        models: Sequence[ModelInfo] = (ModelInfo(id="fake/model", name="Fake"),),
    ) -> None:
        """Learn the scripts; without any, every answer is "Hello."."""
        self._scripts = list(scripts) or [["Hello."]]
        self._answer = answer
        self._models = models
        self.prompts: list[Prompt] = []
        self.running = 0
        self.abandoned = 0
        self.closed = False

    @property
    def name(self) -> str:
        """A name nobody mistakes for a provider's."""
        return "fake"

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent, None]:
        """Play the script that is due; see `Model.stream`."""
        script = self._answer(prompt) if self._answer else self._next_script()
        self.prompts.append(prompt)
        self.running += 1
        over = False
        try:
            last: Step | None = None
            for last in script:
                over = isinstance(last, (ChatkeepError, Done))
                if isinstance(last, ChatkeepError):
                    raise last
                if isinstance(last, asyncio.Event):
                    await last.wait()
                else:
                    await asyncio.sleep(0)  # like a real answer, it can be cancelled anywhere
                    yield TextDelta(text=last) if isinstance(last, str) else last
            over = True
            if not isinstance(last, Done):
                yield Done(finish_reason="stop")
        finally:
            self.running -= 1
            self.abandoned += not over

    async def list_models(self) -> Sequence[ModelInfo]:
        """List the *models* it was made with."""
        return self._models

    async def aclose(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    def _next_script(self) -> Sequence[Step]:
        return self._scripts[min(len(self.prompts), len(self._scripts) - 1)]
