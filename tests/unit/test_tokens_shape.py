"""Forged and malformed tokens: the shape of the text, the header, the JSON inside."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from joserfc.jwk import ECKey

from chatkeep.errors import TokenInvalid
from chatkeep.tokens import MAX_TOKEN_LENGTH, KeySet, issue, read_key_set, verify
from tests import forge
from tests.forge import ALGORITHMS, NOW, RULES, claims, header, jwk, key_set, segment

if TYPE_CHECKING:
    from collections.abc import Callable


def refuse(token: str, *, keys: KeySet | None = None) -> None:
    """Expect *token* to be refused, and with no word about why."""
    with pytest.raises(TokenInvalid) as refused:
        verify(token, keys=keys or key_set("HS256"), rules=RULES, now=NOW)
    assert type(refused.value) is TokenInvalid
    assert refused.value.detail == TokenInvalid.default_detail


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_honest_token_of_every_algorithm_is_accepted(algorithm: str) -> None:
    """The control of all that follows: what the forger makes honestly verifies."""
    token = forge.forge(algorithm=algorithm)
    assert verify(token, keys=key_set(algorithm), rules=RULES, now=NOW) == claims()


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA", segment(b"\x00" * 32)])
def test_unsigned_token_is_refused(name: str, signature: str) -> None:
    """The algorithm "none" is not one, however it is spelled and whatever follows it."""
    unsigned = forge.forge({"alg": name, "typ": "JWT"}).rpartition(".")[0]
    refuse(f"{unsigned}.{signature}")


@pytest.mark.parametrize(
    "algorithm",
    [
        ...,
        None,
        ["HS256"],
        {"HS256": 1},
        256,
        True,
        "hs256",
        "HS256 ",
        " HS256",
        "HS256\x00",
        "HS1",
    ],
)
def test_algorithm_that_is_not_exactly_a_name_is_refused(algorithm: object) -> None:
    """An algorithm is one of the known texts, letter by letter."""
    refuse(forge.forge(header("HS256", alg=algorithm)))


@pytest.mark.parametrize("kid", [None, 1, ["key-HS256"], {}, True, "", "k" * 513])
def test_key_id_that_is_not_a_plain_text_is_refused(kid: object) -> None:
    """A key id is a text of reasonable length or is not there at all."""
    refuse(forge.forge(header("HS256", kid=kid)))


@pytest.mark.parametrize(
    "crit", [["exp"], ["unknown"], [], "exp", None, ["alg"], ["exp", "exp"], ["b64"], 1, {}]
)
def test_critical_extension_is_refused(crit: object) -> None:
    """We understand no extension, so `crit` of any form refuses the token."""
    refuse(forge.forge(header("HS256", crit=crit)))
    refuse(forge.forge(header("HS256", crit=crit, exp=NOW, b64=True)))


@pytest.mark.parametrize("crit", [..., ["b64"]])
@pytest.mark.parametrize("b64", [False, True, None, 0])
def test_unencoded_payload_is_refused(b64: object, crit: object) -> None:
    """A payload is always base64url, whatever the header would like."""
    refuse(forge.forge(header("HS256", b64=b64, crit=crit)))


@pytest.mark.parametrize(
    "text",
    [
        b'{"alg":"none","alg":"HS256"}',
        b'{"alg":"HS256","alg":"HS256"}',
        b'{"alg":"HS256","\\u0061lg":"HS256"}',
        b'{"alg":"HS256","kid":"a","kid":"b"}',
        b'{"alg":"HS256","x":{"y":1,"y":1}}',
    ],
)
def test_repeated_header_member_is_refused(text: bytes) -> None:
    """A header in which readers could see different things is refused."""
    refuse(forge.forge(text))


@pytest.mark.parametrize("name", ["sub", "exp", "aud", "iss", "role", "extra"])
@pytest.mark.parametrize("spelling", ["{name}", "\\u{first:04x}{rest}"])
def test_repeated_claim_is_refused(name: str, spelling: str) -> None:
    """Claims in which readers could see different people are refused."""
    said = claims(extra=1)
    again = spelling.format(name=name, first=ord(name[0]), rest=name[1:])
    text = f'{{"{again}":{json.dumps(said[name])},{forge.text_of(said).decode()[1:]}'
    refuse(forge.forge(payload=text.encode()))


def test_repeated_member_is_refused_at_any_depth() -> None:
    """Repetition inside a claim is repetition."""
    text = forge.text_of(claims()).decode()
    refuse(forge.forge(payload=text.replace('"provider":', '"provider":"x","provider":').encode()))


@pytest.mark.parametrize("part", [b"[]", b'["a"]', b'"text"', b"1", b"null", b"true", b"", b" "])
def test_header_and_claims_must_be_objects(part: bytes) -> None:
    """JSON of another kind is no header and no claims."""
    refuse(forge.forge(head=part))
    refuse(forge.forge(payload=part))


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-le"),
        lambda text: text.encode("utf-16-be"),
        lambda text: text.encode("utf-32"),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.replace("{", '{"x":"é",', 1).encode("latin-1"),
        lambda text: text.encode().replace(b"{", b'{"x":"\xc0\xaf",', 1),
        lambda text: text.encode().replace(b"{", b'{"x":"\xed\xa0\x80",', 1),
        lambda text: text.encode().replace(b"{", b'{"\xff":1,', 1),
        lambda text: text.encode().replace(b"{", b'{"x":"\\ud800",', 1),
        lambda text: text.encode().replace(b"{", b'{"x":"\\udc00\\ud800",', 1),
    ],
)
def test_anything_but_sound_utf_8_is_refused(encode: Callable[[str], bytes]) -> None:
    """Other encodings, byte order marks, overlong forms and lone surrogates are refused."""
    refuse(forge.forge(head=encode(json.dumps(header("HS256")))))
    refuse(forge.forge(payload=encode(json.dumps(claims()))))


@pytest.mark.parametrize(
    "value",
    [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"01", b"1.", b"'x'", b"9" * 5000, b"\x00"],
)
def test_what_is_not_json_is_refused(value: bytes) -> None:
    """Values that only some readers take are refused wherever they stand."""
    refuse(forge.forge(head=b'{"alg":"HS256","x":' + value + b"}"))
    refuse(forge.forge(payload=forge.text_of(claims())[:-1] + b',"x":' + value + b"}"))


@pytest.mark.parametrize("deep", [b"[" * 2500 + b"]" * 2500, b'[{"a":' * 600 + b"1" + b"}]" * 600])
def test_deep_nesting_is_refused(deep: bytes) -> None:
    """Nesting beyond what the stack bears is refused, not an accident."""
    refuse(forge.forge(head=b'{"alg":"HS256","x":' + deep + b"}"))
    refuse(forge.forge(payload=forge.text_of(claims())[:-1] + b',"x":' + deep + b"}"))


def test_many_header_members_are_refused_by_length() -> None:
    """A header of ten thousand members never gets as far as being read."""
    refuse(forge.forge(header("HS256", **{f"x{number}": number for number in range(10_000)})))


def encrypted(**head: object) -> str:
    """Return a token of five segments, as an encrypted one has."""
    return ".".join([segment(forge.text_of(head)), *[segment(b"x" * 16)] * 4])


@pytest.mark.parametrize(
    "token",
    [
        encrypted(alg="PBES2-HS256+A128KW", enc="A128GCM", p2c=2**31 - 1, p2s="AAAA"),
        encrypted(alg="dir", enc="A256GCM", zip="DEF"),
        encrypted(alg="RSA-OAEP", enc="A256GCM", cty="JWT"),
    ],
)
def test_encrypted_token_is_refused_before_any_cryptography(token: str) -> None:
    """Five segments are refused for being five, at once."""
    began = time.thread_time()
    refuse(token)
    assert time.thread_time() - began < 0.05


def test_nested_token_is_refused() -> None:
    """A token inside a token is not claims."""
    refuse(forge.forge(header("HS256", cty="JWT"), forge.forge().encode()))


def test_json_serialization_and_polyglots_are_refused() -> None:
    """Only the compact form is a token here."""
    head, payload, signature = forge.forge().split(".")
    flat = {"protected": head, "payload": payload, "signature": signature}
    general = {"payload": payload, "signatures": [{"protected": head, "signature": signature}]}
    for form in (flat, general):
        refuse(json.dumps(form))
        refuse(f'{forge.forge()}{{"x":"{json.dumps(form)}"}}')
    refuse(f'{{"x":"{head}.{payload}.{signature}"}}')


@pytest.mark.parametrize("segments", [0, 1, 2, 4, 5, 1000])
def test_any_number_of_segments_but_three_is_refused(segments: int) -> None:
    """Parts are neither missing nor left over."""
    parts = forge.forge().split(".")
    refuse(".".join((parts * 334)[:segments]))


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_empty_segment_is_refused(empty: int) -> None:
    """Each of the three parts has something in it."""
    parts = forge.forge().split(".")
    parts[empty] = ""
    refuse(".".join(parts))


@pytest.mark.parametrize("place", [0, 1, -1, 40, 200])
@pytest.mark.parametrize(
    "character",
    [
        " ",
        "\n",
        "\r\n",
        "\t",
        "=",
        "==",
        "+",
        "/",
        "?",
        "%",
        "\uff0e",
        "\u2024",
        "\x00",
        "é",
        "\ud800",
    ],
)
def test_character_outside_the_alphabet_is_refused(character: str, place: int) -> None:
    """No padding, white space or look-alike stands anywhere in a token."""
    token = forge.forge()
    at = place % (len(token) + 1)
    refuse(token[:at] + character + token[at:])


@pytest.mark.parametrize("junk", ["    ", "====", "\n\n\n\n", "++//", "!!!!", "\x00\x00\x00\x00"])
def test_characters_that_a_lenient_decoder_skips_are_refused(junk: str) -> None:
    """What many decoders skip in silence would make other texts of one good signature."""
    token = forge.forge()
    refuse(token[:-10] + junk + token[-10:])


def test_standard_alphabet_is_refused() -> None:
    """The two letters that the alphabets differ in are no second spelling of a signature."""
    changed = 0
    for spaces in range(40):
        signed, _, signature = forge.forge(
            payload=forge.text_of(claims()) + b" " * spaces
        ).rpartition(".")
        other = signature.replace("-", "+").replace("_", "/")
        if other != signature:
            refuse(f"{signed}.{other}")
            changed += 1
    assert changed


@pytest.mark.parametrize("which", [0, 1, 2])
def test_padded_segment_is_refused(which: int) -> None:
    """What other libraries take as the same token is another text, and refused."""
    for spaces in range(3):
        parts = forge.forge(payload=forge.text_of(claims()) + b" " * spaces).split(".")
        parts[which] += "=" * (-len(parts[which]) % 4 or 1)
        refuse(".".join(parts))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_unused_bits_that_are_not_zero_are_refused(which: int) -> None:
    """Each byte string has one spelling: the last character carries no hidden bits."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    tried = 0
    for spaces in range(3):
        blank = b" " * spaces
        honest = forge.forge(
            forge.text_of(header("HS256")) + blank, forge.text_of(claims()) + blank
        )
        parts = honest.split(".")
        verify(honest, keys=key_set("HS256"), rules=RULES, now=NOW)
        last = alphabet.index(parts[which][-1])
        for hidden in range(1, {0: 1, 2: 16, 3: 4}[len(parts[which]) % 4]):
            twin = [*parts]
            twin[which] = twin[which][:-1] + alphabet[last | hidden]
            assert forge.unsegment(twin[which]) == forge.unsegment(parts[which])
            refuse(".".join(twin))
            tried += 1
    assert tried


@pytest.mark.parametrize("size", [MAX_TOKEN_LENGTH + 1, 65_536, 1_000_000, 8_000_000])
def test_long_token_is_refused_at_once(size: int) -> None:
    """Length is looked at before anything else, so a huge token costs nothing."""
    token = forge.forge(payload=claims(x="x" * size))
    for text in (token, token[:size], "A" * size, "." * size, "é" * size):
        began = time.thread_time()
        refuse(text)
        assert time.thread_time() - began < 0.05


def test_longest_token_is_accepted() -> None:
    """The cap is a cap: what just fits, fits."""
    lengths = set()
    for size in range(5300, 5700):
        token = forge.forge(payload=claims(x="x" * size))
        if len(token) <= MAX_TOKEN_LENGTH:
            lengths.add(len(token))
            verify(token, keys=key_set("HS256"), rules=RULES, now=NOW)
        else:
            refuse(token)
    assert MAX_TOKEN_LENGTH - max(lengths) <= 1


@pytest.mark.parametrize("size", [1, 512])
def test_key_id_of_any_length_up_to_the_cap_is_looked_for(size: int) -> None:
    """The shortest and the longest."""
    keys = read_key_set(forge.document(jwk("ES256", kid="k" * size)), algorithms=["ES256"]).keys
    token = forge.forge(header("ES256", kid="k" * size), algorithm="ES256")
    assert verify(token, keys=keys, rules=RULES, now=NOW) == claims()


@pytest.mark.parametrize("text", ["", ".", "..", "...", "\ud800", "\ud800.\ud800.\ud800", "\x00"])
def test_text_that_is_no_token_at_all_is_refused(text: str) -> None:
    """Nothing that is a str makes it raise anything else."""
    refuse(text)


def test_what_would_be_too_long_is_not_issued() -> None:
    """We do not sign a token that we would not take."""
    key = ECKey.generate_key("P-256", {"alg": "ES256", "kid": "ours"})
    with pytest.raises(ValueError, match="longer than"):
        issue(claims(x="x" * MAX_TOKEN_LENGTH), key)
