"""Signatures of webhooks, as Standard Webhooks 1.0 has them: its libraries check them."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from chatkeep.config.webhooks import SECRET_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

_SECRET_BYTES: Final = 32


def new_secret() -> str:
    """Return a new secret, as the settings take it."""
    return SECRET_PREFIX + b64encode(os.urandom(_SECRET_BYTES)).decode()


def signature(keys: Iterable[bytes], *, identity: str, at: int, body: bytes) -> str:
    """Return the header `webhook-signature`: one signature for each of *keys*.

    *at* is in seconds since 1970, and is signed too, so that nobody can send it again later.
    """
    signed = b".".join((identity.encode(), str(at).encode(), body))
    made = (b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys)
    return " ".join(f"v1,{one}" for one in made)
