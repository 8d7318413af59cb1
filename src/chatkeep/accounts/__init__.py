"""People who sign in with our own issuer: their row, their identities, their address.

`users` are the people as they are shown, `credentials` what a password is checked against,
and `changes` the statements that make and change an account. Passwords arrive here hashed;
sessions are `chatkeep.sessions`. Everything runs as the role that may look people up and may
not read what they say.
"""

from chatkeep.accounts.addresses import mailbox_of, normal_address
from chatkeep.accounts.changes import (
    ADDRESS_TAKEN,
    BY_EMAIL,
    Change,
    address_must_be_free,
    change_user,
    confirmation,
    creation,
    holding,
    sign_in,
)
from chatkeep.accounts.credentials import Credential, find_credential, get_credential
from chatkeep.accounts.metadata import MAX_METADATA_BYTES, storable
from chatkeep.accounts.standing import Standing, find_standing
from chatkeep.accounts.users import (
    User,
    banned,
    by_email,
    by_id,
    by_session,
    counted,
    get_user,
    listed,
)

__all__ = [
    "ADDRESS_TAKEN",
    "BY_EMAIL",
    "MAX_METADATA_BYTES",
    "Change",
    "Credential",
    "Standing",
    "User",
    "address_must_be_free",
    "banned",
    "by_email",
    "by_id",
    "by_session",
    "change_user",
    "confirmation",
    "counted",
    "creation",
    "find_credential",
    "find_standing",
    "get_credential",
    "get_user",
    "holding",
    "listed",
    "mailbox_of",
    "normal_address",
    "sign_in",
    "storable",
]
