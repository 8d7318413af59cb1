"""What asks a process of ours to end: Ctrl-C, a service manager, a terminal that is closed.

Whatever is to be stopped again, such as a database that was started, is stopped at any of them.
"""

from __future__ import annotations

import signal
from typing import Final

#: Not the end of a terminal where that is to be survived, as under `nohup`.
STOP_SIGNALS: Final = tuple(
    number
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
)


def is_news(number: int, *, stopping: bool) -> bool:
    """Whether signal *number* says anything to who may be *stopping* already.

    That a terminal is gone is said by the system, by its shell, and once more by whoever stops
    them all: nobody has lost patience.
    """
    return not (stopping and number == signal.SIGHUP)
