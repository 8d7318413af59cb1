"""The breaker of one provider, by a clock that the test turns."""

from __future__ import annotations

import pytest

from chatkeep.errors import (
    ChatkeepError,
    ModelBroken,
    ModelMisconfigured,
    ModelRateLimited,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from chatkeep.llm.breaker import Breaker, Trial

DOWN = [ModelUnavailable(), ModelTimeout(), ModelBroken()]
THERE = [ModelRateLimited(), ModelRefused(), ModelMisconfigured()]


class Clock:
    """A clock that stands still until it is turned."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """Three failures open it for ten seconds."""
    return Breaker("groq", failures=3, pause_s=10, clock=clock)


def admitted(breaker: Breaker) -> Trial:
    """Let one request through."""
    trial = breaker.admit()
    assert trial is not None
    return trial


def fail(breaker: Breaker, times: int = 1) -> None:
    """Let requests through that fail."""
    for _ in range(times):
        admitted(breaker).failed(ModelUnavailable())


@pytest.mark.parametrize("error", DOWN, ids=lambda one: one.code)
def test_it_opens_after_so_many_failures_in_a_row(breaker: Breaker, error: ChatkeepError) -> None:
    """Not one earlier, and then nobody is let through until the pause is over."""
    for _ in range(3):
        assert breaker.state == "up"
        admitted(breaker).failed(error)
    assert (breaker.state, breaker.wait_s(), breaker.admit()) == ("down", 10, None)


@pytest.mark.parametrize("error", THERE, ids=lambda one: one.code)
def test_a_provider_that_says_no_is_there(breaker: Breaker, error: ChatkeepError) -> None:
    """A limit, a refusal and a wrong key are no outage, and end a row of failures."""
    fail(breaker, 2)
    admitted(breaker).failed(error)
    fail(breaker, 2)
    assert breaker.state == "up"


def test_a_first_byte_ends_a_row_of_failures(breaker: Breaker) -> None:
    """Only those in a row count."""
    fail(breaker, 2)
    admitted(breaker).worked()
    fail(breaker, 2)
    assert breaker.state == "up"


def test_after_the_pause_one_request_tries_and_the_others_wait(
    breaker: Breaker, clock: Clock
) -> None:
    """When it works, everybody is let through again."""
    fail(breaker, 3)
    clock.now += 9.5
    assert (breaker.admit(), breaker.wait_s()) == (None, 1)
    clock.now += 0.5
    assert (breaker.state, breaker.wait_s()) == ("trying", None)
    trial = admitted(breaker)
    assert (breaker.state, breaker.wait_s(), breaker.admit()) == ("trying", 1, None)
    trial.worked()
    assert (breaker.state, breaker.wait_s()) == ("up", None)
    fail(breaker, 2)
    assert breaker.state == "up"


def test_a_try_that_fails_opens_it_again(breaker: Breaker, clock: Clock) -> None:
    """For as long as before."""
    fail(breaker, 3)
    clock.now += 10
    fail(breaker)
    assert (breaker.state, breaker.wait_s()) == ("down", 10)


def test_a_try_that_nobody_waited_for_lets_the_next_one_try(breaker: Breaker, clock: Clock) -> None:
    """Otherwise one who left would leave it shut for ever."""
    fail(breaker, 3)
    clock.now += 10
    admitted(breaker).called_off()
    admitted(breaker).worked()
    assert breaker.state == "up"


def test_what_became_of_a_request_is_told_once(breaker: Breaker) -> None:
    """A stream that began and broke off later has begun."""
    for _ in range(5):
        trial = admitted(breaker)
        trial.worked()
        trial.failed(ModelBroken())
        trial.called_off()
    assert breaker.state == "up"


def test_requests_of_before_do_not_prolong_the_pause(breaker: Breaker, clock: Clock) -> None:
    """They were sent before anybody knew."""
    late = [admitted(breaker) for _ in range(5)]
    fail(breaker, 3)
    clock.now += 5
    for one in late:
        one.failed(ModelTimeout())
    assert breaker.wait_s() == 5
