"""What the text of a setting may be: each function reads one kind of value.

They raise `Refused`, whose text completes a sentence that begins with the setting's name
and never quotes the value, which may be a secret.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

Environment = Literal["development", "production"]

#: How addresses name the machine that they are read on.
THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_TRUE = frozenset({"1", "on", "true", "yes"})
_FALSE = frozenset({"0", "off", "false", "no"})
_MINIMUM_SECRET_BYTES = 32
_MINIMUM_DISTINCT_CHARACTERS = 8
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_MAIL_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_DOMAIN = re.compile(r"([A-Za-z0-9-]+\.)+[A-Za-z]{2,}/?")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d*)?")
_PARAMETERS_OF_REDIS = frozenset(
    {
        *("ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_certfile"),
        *("ssl_check_hostname", "ssl_keyfile", "ssl_password"),
    }
)
_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_SQL_FUNCTION = re.compile(r"pg:[a-z_][a-z0-9_]{0,62}\.[a-z_][a-z0-9_]{0,62}")


class Secret(str):
    """A string whose `repr` never shows it. Use it where the value is really needed."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Hide the value."""
        return "Secret('***')"


class Refused(ValueError):
    """A value that a parser cannot take; the text says what would be right."""


def flag(text: str) -> bool:
    """Read on or off, and the usual words for them."""
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise Refused("must be on or off")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return what reads a whole number from *low* to *high*."""

    def parse(text: str) -> int:
        if not text.strip().isascii() or not text.strip().isdigit():
            raise Refused(f"must be a whole number from {low} to {high}")
        if not low <= int(text) <= high:
            raise Refused(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def number(low: float, high: float) -> Callable[[str], float]:
    """Return what reads a number from *low* to *high*."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise Refused(f"must be a number from {low:g} to {high:g}")
        return value

    return parse


def environment(text: str) -> Environment:
    """Read which environment this is."""
    match text:
        case "development" | "production":
            return text
        case _:
            raise Refused("must be development or production")


def plain_text(text: str) -> str:
    """Read a text without control characters."""
    if any(ord(character) < ord(" ") and character not in "\n\t" for character in text):
        raise Refused("must not contain control characters")
    return text


def choice(*offered: str) -> Callable[[str], str]:
    """Return what reads one of the words *offered*."""

    def parse(text: str) -> str:
        if text not in offered:
            raise Refused(f"must be {' or '.join(offered)}")
        return text

    return parse


def words(text: str) -> tuple[str, ...]:
    """Read a list with commas between its members."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def names(text: str) -> tuple[str, ...]:
    """Read a list of different names that people's ids may begin with."""
    found = words(text)
    if len(set(found)) != len(found) or not all(_NAME.fullmatch(word) for word in found):
        raise Refused("must list different names of lower-case letters, digits and dashes")
    return found


def path(text: str) -> tuple[str, ...]:
    """Read a path of names with spaces between; dots and slashes belong to a name."""
    return tuple(plain_text(text).split())


def folder(text: str) -> Path:
    """Read the path of a folder."""
    return Path(plain_text(text))


def networks(text: str) -> tuple[str, ...]:
    """Read a list of addresses or networks."""
    for word in words(text):
        try:
            ip_network(word, strict=False)
        except ValueError:
            raise Refused("must list addresses or networks like 10.0.0.0/8") from None
    return words(text)


def secret(text: str) -> Secret:
    """Read a secret that somebody else made."""
    if text != text.strip():
        raise Refused("must not begin or end with white space")
    return Secret(text)


def long_secret(text: str) -> Secret:
    """Read a secret that signatures stand on."""
    if len(secret(text).encode()) < _MINIMUM_SECRET_BYTES:
        raise Refused(f"must have at least {_MINIMUM_SECRET_BYTES} bytes")
    if len(set(text)) < _MINIMUM_DISTINCT_CHARACTERS:
        raise Refused("repeats a few characters: anybody can guess it")
    return Secret(text)


def web_address(text: str) -> str:
    """Read the address of a web server; slashes at its end say nothing."""
    return exact_web_address(text).rstrip("/")


def web_address_or_domain(text: str) -> str:
    """Read the address of a web server; a bare domain such as abc.supabase.co means https."""
    is_domain = _DOMAIN.fullmatch(text) is not None
    return web_address(f"https://{text}" if is_domain else text)


def exact_web_address(text: str) -> str:
    """Read an address that is also a name, so that every character counts."""
    parts = urlsplit(plain_text(text))
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise Refused("must be an address like https://example.com")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Refused("must not contain a user name, password, query or fragment")
    return text


def origins(text: str) -> tuple[str, ...]:
    """Read a list of origins as browsers write them."""
    for word in words(text):
        if web_address(word) != word or urlsplit(word).path:
            raise Refused("must list origins like https://app.example.com, with commas between")
    return words(text)


def database_url(text: str) -> Secret:
    """Read the address of a PostgreSQL database, which holds a password."""
    parts = urlsplit(text)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise Refused("must be an address like postgresql://user:password@host:5432/name")
    # What libpq would say of it quotes a piece of the password as the name of a host.
    login, _, hosts = parts.netloc.rpartition("@")
    if "@" in login or not all(_HOST_AND_PORT.fullmatch(one) for one in hosts.split(",")):
        raise Refused("must have signs such as @ : / ? # of its password as %40 %3A %2F %3F %23")
    return Secret(text)


def redis_url(text: str) -> Secret:
    """Read the address of a Redis or Valkey server, which may hold a password."""
    try:
        parts = urlsplit(text)
        there = parts.path if parts.scheme == "unix" else parts.hostname and parts.port != 0
    except ValueError:
        there = None
    if not there or parts.scheme not in {"redis", "rediss", "unix"}:
        raise Refused("must be an address like rediss://:password@host:6379/0")
    said = dict(parse_qsl(parts.query))
    if not said.keys() <= _PARAMETERS_OF_REDIS:
        raise Refused(f"must have no parameters but {', '.join(sorted(_PARAMETERS_OF_REDIS))}")
    if said.get("ssl_cert_reqs", "required") not in {"none", "optional", "required"}:
        raise Refused("must have none, optional or required as its ssl_cert_reqs")
    return Secret(text)


def import_path(text: str) -> str:
    """Read where something of an application's own is to be found."""
    if not _IMPORT_PATH.fullmatch(text):
        raise Refused("must be an import path like package.module:name")
    return text


def hook(text: str) -> str:
    """Read where a function of an operator's own is: an import path, or `pg:schema.function`."""
    wanted = _SQL_FUNCTION if text.startswith("pg:") else _IMPORT_PATH
    if not wanted.fullmatch(text):
        raise Refused("must be like package.module:function or pg:schema.function")
    return text


def smtp_url(text: str) -> Secret:
    """Read the address of a mail server, which may hold a name and a password."""
    parts = urlsplit(secret(text))
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname or parts.port == 0:
        raise Refused("must be an address like smtp://user:password@mail.example.com:587")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise Refused("must end with the host and port")
    if (parts.username is None) != (parts.password is None):
        raise Refused("must have a user name and a password, or neither")
    return Secret(text)


def mail_address(text: str) -> str:
    """Read the bare address that mail comes from."""
    if not _MAIL_ADDRESS.fullmatch(text):
        raise Refused("must be an address like no-reply@example.com")
    return text


def header_text(text: str) -> str:
    """Read a text for a header of a mail, where a line break would begin another one."""
    if not text.isprintable() or not text.strip():
        raise Refused("must be one line of printable text")
    return text.strip()
