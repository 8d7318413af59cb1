"""An operator's own function that has the last word on the claims of an access token.

A Python function, or one in PostgreSQL; input and output are those of Supabase Auth's custom
access token hook. What says who the token is for, from whom and for how long stays as it
was, and what comes back is looked at before it is signed: a hook that does something else
makes no token.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec
from psycopg import Error as DriverError
from psycopg import sql

from chatkeep.blocking import NoThread, Threads
from chatkeep.db import AUTH
from chatkeep.errors import (
    AccessTokenHookFailed,
    AccessTokenHookRefused,
    NotFound,
    SetupError,
    Unavailable,
)
from chatkeep.ids import new_id
from chatkeep.import_paths import load_object
from chatkeep.request_origin import request_origin

if TYPE_CHECKING:
    from chatkeep.config import Settings
    from chatkeep.db import Database

_log = logging.getLogger(__name__)

Json = dict[str, Any]
Function = Callable[[Json], Awaitable[object]]

#: A hook that takes longer is given up, and nobody gets a token.
TIME_LIMIT_S: Final = 2.0
#: What a hook may not change: who, from whom, for whom, how long, and how well proved.
PROTECTED: Final = (
    *("iss", "sub", "aud", "exp", "iat", "jti"),
    *("session_id", "aal", "is_anonymous"),
)
#: What must be there still, as a text; the protected ones must be as they were.
_TEXTS: Final = ("email", "phone", "role")
_LONGEST_MESSAGE: Final = 500
POSTGRESQL: Final = "pg:"
_threads: Final = Threads()


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHook:
    """The hook of a server. *refused_roles* are roles that no person's token may have."""

    function: Function
    refused_roles: frozenset[str]

    async def changed(self, claims: Mapping[str, Any], *, method: str) -> Json:
        """Return *claims* as the hook wants them; *method* is how the person proved themselves.

        Raises:
            AccessTokenHookRefused: it does not let them have a token.
            AccessTokenHookFailed: it failed, or gave what cannot be in a token.
            Unavailable: it took too long, or its database is away.
        """
        # Its own copy: what it keeps or changes of it is nobody else's.
        given: Json = msgspec.json.decode(msgspec.json.encode(_input(claims, method)))
        try:
            async with asyncio.timeout(TIME_LIMIT_S):
                output = await self.function(given)
        except TimeoutError as error:
            _log.warning("the access token hook took longer than %g s", TIME_LIMIT_S)
            raise Unavailable("The sign-in took too long. Try again shortly.") from error
        except (AccessTokenHookFailed, Unavailable):
            raise
        except (Exception, SystemExit) as error:
            # Whatever the operator's function does wrong; only the operator is told.
            _log.error("the access token hook failed", exc_info=error)
            raise AccessTokenHookFailed from error
        return self._checked(output, claims)

    def _checked(self, output: object, before: Mapping[str, Any]) -> Json:
        if not isinstance(output, Mapping):
            raise _failure("it returned no object")
        error = output.get("error")
        if isinstance(error, Mapping):
            message = error.get("message")
            raise AccessTokenHookRefused(
                message[:_LONGEST_MESSAGE] if isinstance(message, str) and message else None
            )
        claims = output.get("claims")
        if not isinstance(claims, Mapping):
            raise _failure("it returned no claims")
        try:
            made: Json = msgspec.json.decode(msgspec.json.encode(dict(claims)))
        except (TypeError, ValueError, RecursionError) as wrong:
            raise _failure("the claims hold what JSON cannot") from wrong
        for name in PROTECTED:
            if (
                name not in made
                or made[name] != before[name]
                or type(made[name]) is not type(before[name])
            ):
                raise _failure(f"it changed {name}, which it may not")
        for name in _TEXTS:
            if not isinstance(made.get(name), str):
                raise _failure(f"{name} is missing, or no text")
        if made["role"] in self.refused_roles:
            raise _failure("the role is one that no person has")
        return made


def _failure(why: str) -> AccessTokenHookFailed:
    _log.error("the access token hook: %s", why)
    return AccessTokenHookFailed()


def _input(claims: Mapping[str, Any], method: str) -> Json:
    metadata = {
        "uuid": new_id(),
        "time": datetime.now(UTC).isoformat(),
        "name": "customize-access-token",
        "ip_address": request_origin.get().address or "",
    }
    return {
        "metadata": metadata,
        "user_id": claims["sub"],
        "claims": dict(claims),
        "authentication_method": method,
    }


async def open_hook(
    db: Database, settings: Settings, *, refused_roles: frozenset[str]
) -> TokenHook | None:
    """Return the hook that *settings* name, None if they name none.

    Raises:
        SetupError: there is no such function, or sign-in may not call it.
    """
    wanted = settings.access_token_hook
    if wanted is None:
        return None
    if wanted.startswith(POSTGRESQL):
        function = await _of_database(db, wanted.removeprefix(POSTGRESQL))
    else:
        function = _of_python(wanted)
    return TokenHook(function=function, refused_roles=refused_roles)


def check_python_hook(settings: Settings) -> None:
    """Do nothing if a hook in Python that *settings* name can be called, or they name none.

    Raises:
        SetupError: there is no such function.
    """
    wanted = settings.access_token_hook
    if wanted is not None and not wanted.startswith(POSTGRESQL):
        _of_python(wanted)


def _of_python(path: str) -> Function:
    found = load_object("ACCESS_TOKEN_HOOK", path)
    if not callable(found):
        raise SetupError(f"ACCESS_TOKEN_HOOK: {path} cannot be called.")

    async def called(given: Json) -> object:
        if inspect.iscoroutinefunction(found):
            return await found(given)
        # In a thread: one that waits for something holds up nobody else.
        try:
            return await _threads.call(found, given)
        except NoThread as error:
            _log.error("the access token hook is not asked: too many calls have not come back")
            raise Unavailable("The sign-in took too long. Try again shortly.") from error

    return called


@dataclass(frozen=True, slots=True)
class _May:
    may: bool | None


async def _of_database(db: Database, name: str) -> Function:
    try:
        (found,) = await db.fetch(
            AUTH,
            "select has_function_privilege(to_regprocedure(%s || '(jsonb)'), 'execute') as may",
            (name,),
            row=_May,
        )
    except NotFound:
        found = _May(None)
    if not found.may:
        raise SetupError(
            f"ACCESS_TOKEN_HOOK: there is no function {name}(jsonb) that chatkeep_auth may call:"
            " grant it usage on the schema and execute on the function."
        )
    schema, _, function = name.partition(".")
    statement = sql.SQL("select {}.{}(%s::jsonb)").format(
        sql.Identifier(schema), sql.Identifier(function)
    )
    return partial(_asked, db, statement)


async def _asked(db: Database, statement: sql.Composed, given: Json) -> object:
    try:
        async with db.acting_as(AUTH) as connection:
            cursor = await connection.execute(statement, (msgspec.json.encode(given).decode(),))
            found = await cursor.fetchone()
    except DriverError as error:
        # Raised by the function itself; its text may quote claims.
        _log.error("the access token hook failed: SQLSTATE %s", error.sqlstate)
        raise AccessTokenHookFailed from error
    return None if found is None else found[0]
