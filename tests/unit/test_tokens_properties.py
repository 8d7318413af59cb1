"""What holds for every text: the fuzz in short, and the rules that must have no exception."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chatkeep.errors import TokenInvalid
from chatkeep.tokens import verify
from chatkeep.tokens.compact import Repeated, decode_base64url, refuse_repeated_members
from tests import forge, fuzz_tokens
from tests.forge import NOW, RULES, claims, key_set, segment

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.filterwarnings("ignore")  # the others warn about names that we use on purpose
def test_nothing_is_taken_that_another_verifier_refuses() -> None:
    """Ten thousand bent tokens: never laxer than PyJWT or joserfc, never another error."""
    tally = fuzz_tokens.run(10_000, seed=1)
    assert tally.complaints == []
    assert tally.taken["ours"] > 1000
    assert tally.taken["ours"] < tally.taken["PyJWT"]


@settings(max_examples=200)
@given(st.text() | st.text(st.characters(categories=["Cs", "Cc", "Lu"])))
@example("\ud800")
def test_any_text_is_refused_in_one_way(text: str) -> None:
    """No text at all makes the verifier raise anything but its own error."""
    with pytest.raises(TokenInvalid):
        verify(text, keys=key_set("HS256"), rules=RULES, now=NOW)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=80), min_size=3, max_size=3))
def test_any_three_segments_are_refused_in_one_way(parts: list[bytes]) -> None:
    """Neither do three well-coded segments of any bytes."""
    with pytest.raises(TokenInvalid):
        verify(".".join(map(segment, parts)), keys=key_set("HS256"), rules=RULES, now=NOW)


@settings(max_examples=300)
@given(st.text(_LETTERS, min_size=1, max_size=12) | st.text(max_size=12))
def test_bytes_have_one_spelling(text: str) -> None:
    """Whatever decodes at all is exactly what encoding would have written."""
    try:
        decoded = decode_base64url(text)
    except ValueError:
        return
    assert segment(decoded) == text


@given(st.binary(min_size=1, max_size=40))
def test_the_one_spelling_is_read(data: bytes) -> None:
    """Nothing that is well spelled is refused."""
    assert decode_base64url(segment(data)) == data


_NAMES = st.sampled_from(["a", "b", "é", "a b", "", '"', "\\", "sub", "\u2028", "😀"])
_SCALARS = st.sampled_from(
    [
        *("1", "-0", "1.0", "1e3", "1E-7", "0.1", "18446744073709551616", "true", "null"),
        *('"a"', '"\\u0061"', '"é"', '"\\/"', '":"', '"\\ud83d\\ude00"', '""'),
        '"{\\"a\\":1,\\"a\\":1}"',
    ]
)
_BLANKS = st.sampled_from(["", "", "", " ", "\n", "\t "])


@st.composite
def _spelled(draw: st.DrawFn, name: str) -> str:
    """Return *name* as JSON, plainly or with an escape where none is needed."""
    if name and ord(name[0]) < 0x10000 and draw(st.booleans()):
        return f'"\\u{ord(name[0]):04x}{json.dumps(name[1:], ensure_ascii=False)[1:]}'
    return json.dumps(name, ensure_ascii=draw(st.booleans()))


@st.composite
def _objects(draw: st.DrawFn, depth: int = 2) -> tuple[str, bool]:
    """Return an object's text, and whether it or one within repeats a member."""
    names = draw(st.lists(_NAMES, max_size=4))
    repeats = len(set(names)) < len(names)
    members = []
    for name in names:
        value, inner = draw(_values(depth))
        blanks = [draw(_BLANKS) for _ in range(4)]
        members.append(
            f"{blanks[0]}{draw(_spelled(name))}{blanks[1]}:{blanks[2]}{value}{blanks[3]}"
        )
        repeats |= inner
    return "{" + ",".join(members) + "}", repeats


@st.composite
def _values(draw: st.DrawFn, depth: int) -> tuple[str, bool]:
    if depth == 0 or draw(st.booleans()):
        return draw(_SCALARS), False
    if draw(st.booleans()):
        return draw(_objects(depth - 1))
    inner = draw(st.lists(_values(depth - 1), max_size=3))
    return "[" + ",".join(text for text, _ in inner) + "]", any(found for _, found in inner)


@settings(max_examples=500)
@given(_objects())
def test_repetition_is_found_however_it_is_written(written: tuple[str, bool]) -> None:
    """A repeated member is refused, and nothing else is, in any spelling and at any depth."""
    text, repeats = written[0].encode(), written[1]
    decoded = msgspec.json.decode(text, type=dict[str, object])
    try:
        refuse_repeated_members(text, decoded)
        found = False
    except Repeated:
        found = True
    assert found is repeats


_CLAIMS = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=8)),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=100)
@given(st.dictionaries(st.text(min_size=1, max_size=6), _CLAIMS, max_size=4), st.booleans())
def test_honest_claims_of_any_kind_are_taken_as_they_are(
    more: dict[str, object], ascii_only: bool
) -> None:
    """Whatever an issuer says beside the known claims comes through unchanged."""
    said = {**{f"x-{name}": value for name, value in more.items()}, **claims()}
    text = json.dumps(said, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    token = forge.forge(payload=text)
    if b"\\ud" in text or b"\xed" in text:
        return  # a lone surrogate, perhaps: refused elsewhere
    assert verify(token, keys=key_set("HS256"), rules=RULES, now=NOW) == said
