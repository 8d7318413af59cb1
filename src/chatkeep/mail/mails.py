"""What a person is written about. How it looks is the business of the templates."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

#: The first seven ask for something, and carry a link, a code, or both; the others tell.
Kind = Literal[
    "confirmation",
    "magic_link",
    "recovery",
    "invitation",
    "email_change_current",
    "email_change_new",
    "reauthentication",
    "password_changed",
    "email_changed",
    "factor_added",
    "factor_removed",
    "identity_linked",
    "access_dropped",
    "test",
]

#: Quoted local parts (RFC 5321 section 4.1.2) are not taken: nobody has one but attackers.
_ONE_ADDRESS: Final = re.compile(r'[^\s@,;:<>()\[\]\\"]+@[^\s@,;:<>()\[\]\\"]+')


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """One mail to one person. *link* and *code* let whoever has them act as that person.

    *user_id* is our id of that person, for the audit log. The rest is named in the text where
    the kind has a place for it: the address that an account is about to have or had before,
    the provider of an identity, the name of a factor.

    Raises:
        ValueError: *to* is not one bare address: a line break in it would become a header of
            its own, and a comma a second recipient.
    """

    kind: Kind
    to: str
    link: str | None = field(default=None, repr=False)
    code: str | None = field(default=None, repr=False)
    locale: str = "en"
    user_id: str | None = None
    new_email: str | None = None
    old_email: str | None = None
    provider: str | None = None
    factor: str | None = None

    def __post_init__(self) -> None:
        if not _ONE_ADDRESS.fullmatch(self.to) or not self.to.isprintable():
            raise ValueError(
                "not one address: with one @, and nothing that ends it or begins another"
            )

    @property
    def asks(self) -> bool:
        """Whether it lets its reader do something, and so is worth nothing once that expired."""
        return self.link is not None or self.code is not None
