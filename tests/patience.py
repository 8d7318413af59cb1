"""How long tests wait for what must come."""

from __future__ import annotations

from typing import Final

#: Seconds; against what hangs, and says nothing of how quick it must be. A machine that others
#: share stands still for tens of seconds at times.
PATIENCE_S: Final = 60.0

#: Seconds between two looks that count at most: where it was longer the whole machine stood still,
#: and what is waited for with it, so that it says nothing of how quick that is.
STANDSTILL_S: Final = 0.1
