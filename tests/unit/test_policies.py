"""How an answer is made: defaults, then the person, then the request, under the policy."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.config import Settings
from chatkeep.errors import Invalid
from chatkeep.policies import Policy, check_wishes, choose
from chatkeep.preferences import NO_PROFILE, Profile

OPEN = Policy(default_model="d")
OVERRIDES = ("model", "temperature", "top_p", "max_tokens", "system_prompt")
NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.none() | st.floats(0, 2),
    "top_p": st.none() | st.floats(0.001, 1),
    "max_tokens": st.none() | st.integers(1, 32_768),
}
WISHES = st.fixed_dictionaries(NUMBERS)


def fields_refused(wishes: dict[str, object], policy: Policy) -> list[str]:
    """Return which fields of *wishes* the policy refuses."""
    try:
        check_wishes(wishes, policy)
    except Invalid as refused:
        errors: Any = refused.members["errors"]
        return [one["field"] for one in errors]
    return []


@given(WISHES, WISHES, WISHES)
def test_nearest_wish_counts(
    default: dict[str, Any], saved: dict[str, Any], asked: dict[str, Any]
) -> None:
    """For each field: the request, else the profile, else the operator, else the provider."""
    policy = Policy(default_model="d", **default)
    settings = choose(Profile(**saved), asked, policy).settings
    for field in NUMBERS:
        given_in_order = (asked[field], saved[field], default[field])
        wanted = next((value for value in given_in_order if value is not None), None)
        assert getattr(settings, field) == wanted


@given(WISHES, st.floats(0, 2), st.integers(1, 40_000))
def test_nothing_goes_beyond_a_ceiling(saved: dict[str, Any], heat: float, tokens: int) -> None:
    """What was saved before the ceiling came is clamped to it."""
    policy = Policy(default_model="d", temperature_ceiling=heat, max_tokens_ceiling=tokens)
    settings = choose(Profile(**saved), {}, policy).settings
    assert settings.temperature is None or settings.temperature <= heat
    assert settings.max_tokens is None or settings.max_tokens <= tokens


@pytest.mark.parametrize(
    ("wishes", "refused"),
    [
        ({"temperature": 2.1}, ["temperature"]),
        ({"temperature": -0.1}, ["temperature"]),
        ({"temperature": math.inf}, ["temperature"]),
        ({"temperature": math.nan}, ["temperature"]),
        ({"top_p": 0}, ["top_p"]),
        ({"top_p": 1.01}, ["top_p"]),
        ({"max_tokens": 0}, ["max_tokens"]),
        ({"max_tokens": 10**30}, ["max_tokens"]),
        ({"model": "a b"}, ["model"]),
        ({"temperature": 9, "top_p": 9, "theme": "dark"}, ["temperature", "top_p"]),
        ({"temperature": None, "model": None, "display_name": "x"}, []),
        ({"temperature": 0, "top_p": 1, "max_tokens": 1, "model": "a/b:c"}, []),
    ],
)
def test_wish_beyond_the_policy_is_refused_by_name(
    wishes: dict[str, object], refused: list[str]
) -> None:
    """Every field beyond its range is named, nothing else is."""
    assert fields_refused(wishes, OPEN) == refused


@pytest.mark.parametrize("field", OVERRIDES)
def test_locked_field_is_refused_and_not_used(field: str) -> None:
    """What the operator locked nobody overrides, and a null is no wish."""
    name = "default_model" if field == "model" else field
    policy = Policy(default_model="d", system_prompt="Ours.", locked=frozenset({name}))
    value = {"model": "m", "system_prompt": "x", "max_tokens": 5}.get(field, 0.5)
    assert fields_refused({field: value}, policy) == [field]
    assert fields_refused({field: None}, policy) == []
    profile = Profile(
        temperature=0.5, top_p=0.5, max_tokens=5, system_prompt="Mine.", default_model="m"
    )
    choices = choose(profile, {}, policy)
    assert {
        "model": choices.settings.model == "d",
        "temperature": choices.settings.temperature is None,
        "top_p": choices.settings.top_p is None,
        "max_tokens": choices.settings.max_tokens is None,
        "system_prompt": choices.system_prompt == "Ours.",
    } == {one: one == field for one in OVERRIDES}


def test_locked_instructions_are_left_out() -> None:
    """Custom instructions that the operator locked are not added."""
    policy = Policy(default_model="d", locked=frozenset({"custom_instructions"}))
    assert choose(Profile(custom_instructions="Obey"), {}, policy).system_prompt is None
    assert fields_refused({"custom_instructions": "Obey"}, policy) == ["custom_instructions"]


def test_model_of_an_empty_list_is_any_that_can_be_one() -> None:
    """Without a list any id goes; with one, only the very ids on it."""
    assert OPEN.allows("anything/at-all:free")
    assert not OPEN.allows("a\nb")
    listed = Policy(default_model="a", models=("a", "b"))
    assert [listed.allows(one) for one in ("a", "b", "A", "a ", "a:free", "")] == [
        *(True, True, False, False, False, False)
    ]


def test_saved_model_that_left_the_list_gives_way() -> None:
    """A model that is no longer offered is the default, silently."""
    listed = Policy(default_model="a", models=("a", "b"))
    assert choose(Profile(default_model="b"), {}, listed).settings.model == "b"
    assert choose(Profile(default_model="gone"), {}, listed).settings.model == "a"


def test_instructions_follow_the_prompt() -> None:
    """What a person wants kept in mind stands after the prompt, in words that mark it as theirs."""
    profile = Profile(system_prompt="Be kind.", custom_instructions="I am vegan.")
    prompt = choose(profile, {}, OPEN).system_prompt
    assert prompt is not None
    assert prompt.startswith("Be kind.\n\n")
    assert prompt.endswith("\nI am vegan.")
    assert choose(profile, {"system_prompt": ""}, OPEN).system_prompt != prompt
    assert choose(NO_PROFILE, {}, OPEN).system_prompt is None


def test_policy_is_what_the_operator_set() -> None:
    """Each setting of the operator is in the policy."""
    settings = Settings.from_env(
        {
            "MODELS": "a,b",
            "TEMPERATURE": "0.5",
            "TOP_P": "0.9",
            "MAX_TOKENS": "10",
            "SYSTEM_PROMPT": "P",
            "TEMPERATURE_CEILING": "1",
            "MAX_TOKENS_CEILING": "20",
            "LOCKED_SETTINGS": "top_p, system_prompt",
        }
    )
    assert Policy.of(settings, default_model="a") == Policy(
        default_model="a",
        models=("a", "b"),
        system_prompt="P",
        temperature=0.5,
        top_p=0.9,
        max_tokens=10,
        temperature_ceiling=1,
        max_tokens_ceiling=20,
        locked=frozenset({"top_p", "system_prompt"}),
    )
