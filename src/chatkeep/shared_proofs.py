"""Which DPoP proofs were shown to any of several processes, in Redis (RFC 9449 section 11.1).

One round trip for each request that shows a proof. Keys are digests under the server's secret:
whoever can read the store learns nobody's key, and servers with other secrets can share it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from chatkeep.token_binding import PROOF_LIFE_S

if TYPE_CHECKING:
    from chatkeep.redis_link import RedisLink
    from chatkeep.token_binding import ShownKey

#: In a script, because a plain SET answers "was there" as the link answers "cannot be asked".
_SCRIPT: Final = "return redis.call('SET', KEYS[1], '', 'NX', 'PX', ARGV[1]) and 1 or 0"
#: For as long as a process remembers one, and as long again for clocks that differ.
_REMEMBERED_FOR_MS: Final = 4 * PROOF_LIFE_S * 1000


class SharedProofs:
    """What all processes were shown that share a Redis and the secret behind *key*."""

    def __init__(self, link: RedisLink, key: bytes) -> None:
        """Ask over *link*; *key* has 16 to 64 bytes."""
        self._link = link
        self._key = key

    async def is_first(self, shown: ShownKey) -> bool:
        """Tell the others that a proof is shown, and return whether nobody had.

        Also true when nobody can be asked: every process remembers its own as well.
        """
        name = "chatkeep:proof:" + self._digest(shown)
        answer = await self._link.ask("EVAL", _SCRIPT, 1, name, _REMEMBERED_FOR_MS)
        return bool(answer != 0)

    def _digest(self, shown: ShownKey) -> str:
        said = f"{shown.thumbprint}\0{shown.proof_id}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(said, key=self._key, digest_size=16).hexdigest()
