"""Counts that several processes and machines share, in Redis.

The same algorithm as in memory, in a script that Redis runs undisturbed and by its own clock,
so that as many are admitted by all processes together as by one. Keys are digests under the
server's secret: whoever can read the store learns no address of anybody.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from chatkeep.limits.rates import Rate
    from chatkeep.redis_link import RedisLink

# Microseconds throughout. Whatever stands under the key that is no sensible moment (another
# type, a text, a moment that a clock put back has made distant) counts as nothing or as all
# used up, and is written over. A key ends by itself when its allowance is whole again.
_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, period, back = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local kept = redis.pcall('GET', KEYS[1])
local due = type(kept) == 'string' and tonumber(kept) or now
if not (due >= now) then due = now end
local function keep()
  redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
end
if due > now + period then
  due = now + period
  keep()
end
if back then
  due = due - interval
else
  local wait = due - now - (period - interval)
  if wait > 0 then return wait end
  due = due + interval
end
if due <= now then
  redis.call('DEL', KEYS[1])
else
  keep()
end
return 0
"""
_MICROSECONDS: Final = 1_000_000


class SharedCounts:
    """What was spent lately by all processes that share a Redis and the secret behind *key*."""

    def __init__(self, link: RedisLink, key: bytes) -> None:
        """Count over *link*; *key* has 16 to 64 bytes."""
        self._link = link
        self._key = key

    async def spend(self, key: tuple[str, str], rate: Rate) -> float:
        """Count one, and return 0; or count nothing, and return the seconds to wait.

        Also 0 when nobody can be asked: the caller counts for itself as well.
        """
        wait = await self._run(key, rate, back=False)
        return wait / _MICROSECONDS

    async def give_back(self, key: tuple[str, str], rate: Rate) -> None:
        """Take back one that was counted, if anybody can be asked."""
        await self._run(key, rate, back=True)

    async def _run(self, key: tuple[str, str], rate: Rate, *, back: bool) -> int:
        interval = round(rate.interval_s * _MICROSECONDS)
        name = "chatkeep:limit:" + self._digest(key)
        answer = await self._link.ask(
            *("EVAL", _SCRIPT, 1, name, interval, interval * rate.burst, int(back))
        )
        return answer if isinstance(answer, int) else 0

    def _digest(self, key: tuple[str, str]) -> str:
        said = "\0".join(key).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(said, key=self._key, digest_size=16).hexdigest()
