"""What an application puts in place of our own parts: refused at the start, where it is none."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from chatkeep.answering.responders import ModelResponder
from chatkeep.config import Settings
from chatkeep.errors import SetupError
from chatkeep.events import Done
from chatkeep.extensions import Extensions, responder_of, tools_of
from chatkeep.testing import FakeModel
from chatkeep.tools import Tools
from tests.unit.test_checks import asking

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkeep.answering.responders import Asked, Responder, Responding
    from chatkeep.events import ReplyEvent

SETTINGS = Settings.from_env({})


async def answering(_: Asked) -> AsyncGenerator[ReplyEvent, None]:
    """Say nothing."""
    yield Done(finish_reason="stop")


class Answering:
    """The same as an object."""

    def respond(self, asked: Asked) -> AsyncGenerator[ReplyEvent, None]:
        """Pass on what another one says."""
        return answering(asked)


class Waiting:
    """Something else."""

    async def respond(self, _: Asked) -> str:
        """Return what was to be yielded."""
        return "Hello."


@pytest.mark.parametrize("given", [answering, Answering()])
async def test_responder_is_handed_over_as_the_settings_name_one(
    given: Responder | Responding,
) -> None:
    """A function is as good as an object."""
    found = responder_of(Extensions(responder=given), SETTINGS)
    assert found is not None
    async with aclosing(found.respond(asking("?"))) as events:
        assert [event async for event in events] == [Done(finish_reason="stop")]


def test_responders_of_ours_are_taken() -> None:
    """Whose `respond` is no generator, and returns one."""
    ours = ModelResponder(FakeModel(), Tools())
    assert responder_of(Extensions(responder=ours), SETTINGS) is ours


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Answering, "Answering is a class"),
        (Waiting(), "Waiting is neither an async generator function nor"),
        (asking, "asking is neither"),
        ("shop.answers:respond", "str is neither"),
    ],
)
def test_what_does_not_answer_stops_the_start(given: Any, said: str) -> None:  # noqa: ANN401 -- anything
    """And not the first question."""
    with pytest.raises(SetupError, match=f"create_app: {said}"):
        responder_of(Extensions(responder=given), SETTINGS)


def test_what_are_no_tools_stops_the_start() -> None:
    """A list of functions, say."""
    given: Any = [answering]
    with pytest.raises(SetupError, match="create_app: list is no Tools"):
        tools_of(Extensions(tools=given), SETTINGS)
