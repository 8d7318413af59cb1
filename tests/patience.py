"""How long tests wait for what must come."""

from __future__ import annotations

from typing import Final

#: Seconds; against what hangs, and says nothing of how quick it must be. A machine that others
#: share stands still for tens of seconds at times.
PATIENCE_S: Final = 60.0

#: A first start makes a cluster and does all migrations, in many times of what any other takes.
FIRST_START_S: Final = 3 * PATIENCE_S
