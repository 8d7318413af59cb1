"""Calling an application's own async functions: within a time, and never in silence.

What such a function raises is told to nobody but the log. The errors of `errors` are what
it can say on purpose.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from chatkeep.cancelling import cancels_us
from chatkeep.errors import ChatkeepError, SetupError
from chatkeep.import_paths import load_object

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger(__name__)

#: Of so many members of a list the log says which types they have.
_LOOKED_AT: Final = 20

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook(Generic[_Found]):
    """One function, and what is done about its failures.

    *setting* is where it is named. When it fails or takes longer than *timeout_s*, *failure*
    is raised; None: it is as if it had said nothing.
    """

    setting: str
    function: Callable[..., Awaitable[_Found]]
    timeout_s: float = 10.0
    failure: type[ChatkeepError] | None = None

    async def ask(self, *given: object, fits: Callable[[object], bool]) -> _Found | None:
        """Return what the function says to *given*.

        What does not fit is a failure, too: whoever returns False, or an error that was to be
        raised, has not agreed. None always fits.

        Raises:
            ChatkeepError: what the function raises of these, or `failure`.
        """
        try:
            async with asyncio.timeout(self.timeout_s) as limit:
                found = await self.function(*given)
            if found is None or fits(found):
                return found
            # Not what it was: often it is what the function was given, somebody's words.
            _log.error("%s returned something of another kind: %s", self.setting, _kind(found))
        except ChatkeepError:
            raise
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            # Whatever its bug is, or `sys.exit` in what it uses, it is said and logged.
            if cancels_us(error):
                raise
            if limit.expired():
                _log.warning("%s took longer than %g s", self.setting, self.timeout_s)
            else:
                _log.exception("%s failed", self.setting)
        if self.failure is not None:
            raise self.failure
        return None


def _kind(found: object) -> str:
    """Return of which type *found* is, and how large, with nothing of what it says."""
    if isinstance(found, type):
        return f"the class {found.__name__}"
    name = type(found).__name__
    match found:
        case str():
            return f"{name} of {len(found)} characters"
        case list() | tuple():
            of = ", ".join(sorted({type(one).__name__ for one in found[:_LOOKED_AT]}))
            return f"{name} of {len(found)}" + (f" ({of})" if of else "")
        case bytes() | dict() | set():
            return f"{name} of {len(found)}"
    return name


def load_function(setting: str, path: str) -> Callable[..., Awaitable[object]]:
    """Return the async function that *setting* names.

    Raises:
        SetupError: it names something else, or nothing.
    """
    found = load_object(setting, path)
    for one in (found, getattr(found, "__call__", None)):  # noqa: B004 -- an object whose call is async is as good
        if inspect.iscoroutinefunction(one):
            function: Callable[..., Awaitable[object]] = found  # type: ignore[assignment]  # as was checked
            return function
    raise SetupError(f"{setting}: {path} is no async function.")
