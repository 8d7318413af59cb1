"""The route of `benchmarks.applications`, signed in with fastapi-users.

As its documentation sets it up ("Full example"): a JWT (HS256), and SQLAlchemy for the
person, who is looked up for each request. With PostgreSQL and asyncpg instead of a file of
SQLite, which would be somewhat slower. Runs in a virtual environment of its own
(`benchmarks.peers`).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncGenerator  # noqa: TC003 -- FastAPI reads it
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi_users import (  # type: ignore[import-not-found]  # where it is installed, mypy is not
    BaseUserManager,
    FastAPIUsers,
    UUIDIDMixin,
    schemas,
)
from fastapi_users.authentication import (  # type: ignore[import-not-found]  # as above
    AuthenticationBackend,
    BearerTransport,
    JWTStrategy,
)
from fastapi_users.db import (  # type: ignore[import-not-found]  # as above
    SQLAlchemyBaseUserTableUUID,
    SQLAlchemyUserDatabase,
)
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

_SECRET = "a-secret-for-the-benchmark-of-48-bytes-in-length"


class Base(DeclarativeBase):
    """The tables."""


class User(SQLAlchemyBaseUserTableUUID, Base):  # type: ignore[misc]  # of an unknown class
    """A person."""


_engine = create_async_engine(os.environ["DATABASE_URL"])
_sessions = async_sessionmaker(_engine, expire_on_commit=False)


async def session() -> AsyncGenerator[AsyncSession, None]:
    """Lend a session for one request."""
    async with _sessions() as one:
        yield one


async def user_database(
    one: Annotated[AsyncSession, Depends(session)],
) -> AsyncGenerator[Any, None]:
    """Lend the adapter."""
    yield SQLAlchemyUserDatabase(one, User)


class UserManager(UUIDIDMixin, BaseUserManager[User, uuid.UUID]):  # type: ignore[misc]  # as above
    """What the library asks for."""

    reset_password_token_secret = _SECRET
    verification_token_secret = _SECRET


async def user_manager(
    database: Annotated[SQLAlchemyUserDatabase, Depends(user_database)],
) -> AsyncGenerator[Any, None]:
    """Lend the manager."""
    yield UserManager(database)


def strategy() -> Any:  # noqa: ANN401 -- the library's
    """Return how a token is made and read."""
    return JWTStrategy(secret=_SECRET, lifetime_seconds=86_400)


_backend = AuthenticationBackend(
    name="jwt", transport=BearerTransport(tokenUrl="auth/jwt/login"), get_strategy=strategy
)
_users = FastAPIUsers[User, uuid.UUID](user_manager, [_backend])
_signed_in = _users.current_user(active=True)


@asynccontextmanager
async def _lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
    async with _engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield


app = FastAPI(lifespan=_lifespan)
app.include_router(_users.get_auth_router(_backend), prefix="/auth/jwt")
app.include_router(
    _users.get_register_router(schemas.BaseUser[uuid.UUID], schemas.BaseUserCreate), prefix="/auth"
)


@app.get("/me")
async def me(who: Annotated[User, Depends(_signed_in)]) -> dict[str, str]:
    """Say who is calling."""
    return {"id": str(who.id)}
