"""What every foreseen failure is.

`code` is stable API and has a heading in `docs/reference/errors.md`; `status` is the
plain HTTP number; `detail` may be shown to the caller and therefore never holds a
secret, another person's data or the text of a driver's error. Nothing here knows HTTP
beyond that number: `web/problems.py` words it.
"""

from __future__ import annotations

from typing import ClassVar


class ChatkeepError(Exception):
    """A failure we foresaw.

    *members* become further members of the error body; *retry_after_s* becomes the
    `Retry-After` header, in whole seconds.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    default_detail: ClassVar[str] = "Something went wrong on our side. Try again."

    def __init__(
        self, detail: str | None = None, *, retry_after_s: int | None = None, **members: object
    ) -> None:
        """Keep what the caller may see."""
        self.detail = detail or self.default_detail
        self.retry_after_s = retry_after_s
        self.members = members
        super().__init__(self.detail)

    @property
    def challenge(self) -> str | None:
        """What `WWW-Authenticate` says, where another credential would do (RFC 9110 11.6.1)."""
        return None


class SetupError(ChatkeepError):
    """The server cannot start like this. *problems* has one clear sentence each."""

    code = "setup"

    def __init__(self, *problems: str) -> None:
        """Keep every problem, so that one start shows them all."""
        self.problems = problems
        super().__init__("; ".join(problems))


class Unavailable(ChatkeepError):
    """Something we need is away for now; try again after `retry_after_s`."""

    code = "unavailable"
    status = 503
    default_detail = "The service is busy or restarting. Try again shortly."

    def __init__(
        self, detail: str | None = None, *, retry_after_s: int | None = 2, **members: object
    ) -> None:
        """Default to a short wait, because a 503 without one invites a stampede."""
        super().__init__(detail, retry_after_s=retry_after_s, **members)


class DatabaseBusy(Unavailable):
    """A statement took too long, or waited too long for what others have locked."""


class DatabaseUnavailable(Unavailable):
    """PostgreSQL cannot be reached, or gave no connection in time."""

    code = "database_unavailable"
