"""What of a request is refused is named as it was sent, and not as Pydantic calls its kinds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from chatkeep.web.refused_fields import refused_fields


class Image(BaseModel):
    """One kind of part."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["image"]
    url: Annotated[str, StringConstraints(pattern="^https:")]


class Text(BaseModel):
    """The other kind."""

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """What has parts, or is one text."""

    content: (
        Annotated[str, StringConstraints(min_length=1)]
        | list[Annotated[Image | Text, Field(discriminator="type")]]
    )
    role: str


class Body(BaseModel):
    """A request."""

    input: Annotated[str, StringConstraints(max_length=9)] | list[Message]
    metadata: dict[Annotated[str, Field(max_length=3)], str] = {}
    limit: int = 1


def told(body: dict[str, Any]) -> list[str]:
    """Return which fields of *body* are said not to fit."""
    try:
        Body.model_validate(body)
    except ValidationError as error:
        found = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
        return [one["field"] for one in refused_fields(found, body)]
    raise AssertionError("it fits")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"input": "long enough to be refused"}, ["input"]),
        (
            {"input": [{"role": "a", "content": [{"type": "image", "url": "http:"}]}]},
            ["input.0.content.0.url"],
        ),
        ({"input": [{"role": "a", "content": ""}]}, ["input.0.content"]),
        ({"input": [{"content": "a"}]}, ["input.0.role"]),
        ({"input": "a", "limit": "b", "metadata": {"long": "c"}}, ["metadata.long", "limit"]),
        ({"limit": 1}, ["input"]),
    ],
)
def test_a_field_is_named_as_it_was_sent(body: dict[str, Any], fields: list[str]) -> None:
    """Of several kinds that it might be, the one counts that it comes closest to."""
    assert list(dict.fromkeys(told(body))) == fields


def test_no_kind_has_a_name_that_is_told() -> None:
    """Nothing that fits no kind at all is told by the names of the kinds."""
    assert set(told({"input": 5})) == {"input"}
    assert set(told({"input": [{"role": "a", "content": 5}]})) == {"input.0.content"}


def test_members_outside_the_body_keep_their_names() -> None:
    """A query has no kinds to look through."""
    found = [{"loc": ("query", "limit"), "msg": "Value error, too much", "type": "value_error"}]
    assert refused_fields(found, None) == [{"field": "limit", "message": "too much"}]
    assert refused_fields([{**found[0], "loc": ("body",)}], b"") == [
        {"field": "body", "message": "too much"}
    ]


def test_a_name_that_nobody_knows_is_short_and_storable() -> None:
    """It is the caller's own text."""
    name = "\ud800" + "x" * 200
    found = [{"loc": ("body", name), "msg": "extra", "type": "extra_forbidden"}]
    (one,) = refused_fields(found, {name: 1})
    assert one["field"] == "?" + "x" * 99
