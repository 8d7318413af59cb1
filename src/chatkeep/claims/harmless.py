"""What no session token may hold: secrets, and personal data beyond the declared claims.

A token is signed, not encrypted: whoever has the cookie reads it, and so does every log it
lands in. The rule goes by names (`password`, `cardNumber`, ...) at any depth, and by values
that look like a credential or a card. It cannot know every secret; it catches the accidents.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Final

from chatkeep.errors import ClaimsRefused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DEEPEST: Final = 8
_LARGEST_NUMBER: Final = 2**53  # what every reader of JSON keeps exactly

#: A name is refused when it has one of these in it, whatever stands around it.
_FRAGMENTS: Final = (
    *("password", "passwd", "passphrase", "passcode", "secret", "credential", "apikey"),
    *("privatekey", "accesskey", "signingkey", "creditcard", "cardnumber", "cardholder"),
    *("accountnumber", "sortcode", "routingnumber", "socialsecurity", "nationalid", "taxid"),
    *("passport", "driverlicen", "birthda", "dateofbirth", "firstname", "lastname", "fullname"),
    *("surname", "maidenname", "streetaddress", "postaladdress", "homeaddress", "ipaddress"),
    *("telephone", "phonenumber", "postcode", "zipcode", "ethnic", "religion", "diagnos"),
    *("biometric", "fingerprint", "salary"),
)
#: ... or when one of these is a word of it.
_WORDS: Final = frozenset(
    {
        *("pwd", "pass", "pin", "otp", "totp", "mfa", "token", "tokens", "jwt", "bearer", "cookie"),
        *("card", "cards", "cvv", "cvc", "iban", "bic", "ssn", "sin", "nin", "dob", "birth"),
        *("phone", "mobile", "address", "gender", "hash", "salt", "seed", "mnemonic"),
    }
)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

#: Values that look like a credential, wherever they stand.
_CREDENTIALS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"-----BEGIN ",  # PEM
        r"eyJ[\w-]{8,}\.[\w-]+\.",  # a token like this one
        r"(?i)^(bearer|basic|digest)\s+\S{8,}",
        r"://[^/\s:@]+:[^/\s@]+@",  # an address with a password in it
        r"^(\$2[abxy]?\$|\$argon2|\$scrypt\$|\$pbkdf2|\$[156]\$|\{SSHA)",  # hashes of passwords
        r"\b(sk|rk|pk)[-_](live|test|proj|or|ant)?[-_]?\w{16,}",
        r"\b(gh[oprsu]_|github_pat_|glpat-|xox[abeprs]-|npm_|hf_|sb_secret_|SG\.)[\w-]{10,}",
        r"\b(AKIA|ASIA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w-]{20,}",
        r"\b\d{3}-\d{2}-\d{4}\b",  # a social security number
    )
)
#: Forty or more letters and digits at a stretch are a key or a digest.
_LONG_RANDOM = re.compile(r"(?=[A-Za-z+/_=]*\d)(?=[\d+/_=]*[A-Za-z])[A-Za-z0-9+/_=]{40,}")
_CARD = re.compile(r"(?<![\w.-])(?:3[47]|4\d|5[1-5]|2[2-7]|6\d)\d{2}(?:[ -]?\d){11,12}(?![\w.-])")
_IDS: Final = frozenset({"userId", "companyId"})  # whoever gave them out may have drawn lots
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")


def is_harmless_name(name: str) -> bool:
    """Whether nothing in *name* speaks of a secret or of personal data."""
    plain = unicodedata.normalize("NFKC", name)
    squashed = re.sub(r"[\W_]", "", plain).casefold()
    if any(fragment in squashed for fragment in _FRAGMENTS) or squashed in _WORDS:
        return False
    return _WORDS.isdisjoint(word.casefold() for word in _WORD.findall(plain))


def require_harmless(claims: Mapping[str, object]) -> None:
    """Refuse *claims* that hold something by the rule above. Values are never quoted.

    Raises:
        ClaimsRefused: naming where it stands.
    """
    for path, name, value in _all_of(claims):
        harmless = name is None or is_harmless_name(name)
        problem = _problem_of(value, path) if harmless else "sounds like a secret or personal data"
        if problem is not None:
            raise ClaimsRefused(f"The claim {path} {problem}, and is not put into a token.")


def _all_of(
    value: object, path: str = "", name: str | None = None, depth: int = 0
) -> Iterator[tuple[str, str | None, object]]:
    """Each value in *value*, itself too: where it is, under what name, and what it is."""
    yield path, name, value
    if depth > _DEEPEST:
        raise ClaimsRefused(f"The claim {path} is nested too deeply.")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _all_of(inner, f"{path}.{key}" if path else str(key), str(key), depth + 1)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _all_of(inner, f"{path}[{index}]", None, depth + 1)


def _problem_of(value: object, path: str) -> str | None:
    if isinstance(value, str):
        return _problem_of_text(value, path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER:
        return "is a number beyond what JSON keeps"
    return "looks like the number of a card" if _is_card(str(value)) else None


def _problem_of_text(text: str, path: str) -> str | None:
    if any(pattern.search(text) for pattern in _CREDENTIALS):
        return "looks like a credential"
    if path in _IDS:
        return None
    if _LONG_RANDOM.search(text):
        return "looks like a credential"
    if _is_card(text):
        return "looks like the number of a card"
    if path != "email" and _EMAIL.search(text):
        return "looks like an e-mail address"
    return None


def _is_card(text: str) -> bool:
    """Whether a card's number is in *text*: a known beginning, the length, the check digit."""
    return any(_passes_luhn(re.sub(r"\D", "", one)) for one in _CARD.findall(text))


def _passes_luhn(digits: str) -> bool:
    doubled = [int(one) * (2 if place % 2 else 1) for place, one in enumerate(reversed(digits))]
    return sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0  # noqa: PLR2004 -- Luhn's
