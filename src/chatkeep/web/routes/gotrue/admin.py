"""`/auth/v1/admin`: accounts, as `auth.admin` of Supabase clients expects it.

For servers that have the secret key. Makes, lists, changes, suspends and deletes accounts, and
shows the audit log. Nothing here shows what people said, or hands out a token of anybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from chatkeep import accounts, audit
from chatkeep.administration import accounts as administration
from chatkeep.administration.accounts import NOT_BANNED, Wanted
from chatkeep.administration.durations import read_duration
from chatkeep.db import AUTH
from chatkeep.errors import Invalid, UserNotFound
from chatkeep.web.cursors import cursor_at, read_cursor
from chatkeep.web.gotrue.administrators import SecretKey
from chatkeep.web.gotrue.answers import audit_members, json_answer, user_members
from chatkeep.web.gotrue.bodies import (
    AdminUserBody,
    DeleteUserBody,
    read_body,
    request_body,
)
from chatkeep.web.gotrue.callers import Issuer
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused, described
from chatkeep.web.services import ServicesDep

if TYPE_CHECKING:
    from datetime import timedelta

    from chatkeep.accounts import User
    from chatkeep.db import Database
    from chatkeep.issuance import EmbeddedIssuer

router = APIRouter(
    prefix="/auth/v1/admin", route_class=GoTrueRoute, tags=["Supabase Auth administration"]
)

_AUDIENCE: Final = "authenticated"
_PER_PAGE: Final = 50
_PER_PAGE_AT_MOST: Final = 1000
_LAST_PAGE: Final = 1_000_000
_LAST_ENTRY: Final = 2**63 - 1
_NO_SUCH_USER: Final = Refusal(404, "user_not_found", "User not found")
_NO_PHONES: Final = Refusal(400, "phone_provider_disabled", "Phone numbers are disabled")

UserId = Annotated[str, Path(description="The account's id, a UUID.")]
Page = Annotated[str, Query(description="From 1 on; 50 users each unless `per_page` says.")]
PerPage = Annotated[str, Query(description="1 to 1000.")]
Filter = Annotated[str, Query(description="Part of an address or a full name, or an id.")]
Sort = Annotated[str, Query(description="`created_at desc` (the default) or `created_at asc`.")]
Cursor = Annotated[
    str | None, Query(description="Where the page before ended; it says so as `next_cursor`.")
]
AuditQuery = Annotated[str, Query(description="`author:<user id>` or `action:<action>`.")]
Before = Annotated[str, Query(description="Only entries before the one with this id.")]
Limit = Annotated[str, Query(description="1 to 1000, for pages by cursor.")]


@router.get("/users", responses=described(400, 401, 403, 503))
async def list_users(
    _: SecretKey,
    services: ServicesDep,
    page: Page = "",
    per_page: PerPage = "",
    limit: Limit = "",
    cursor: Cursor = None,
    sort: Sort = "",
    filter: Filter = "",  # noqa: A002 -- Supabase Auth's name for it
) -> Response:
    """List accounts, the newest first: by page, or with `cursor` or `limit` after a cursor."""
    newest_first = _newest_first(sort)
    if (cursor is not None or limit) and not page and not per_page:
        size = _whole(limit or str(_PER_PAGE), _PER_PAGE_AT_MOST)
        return await _after(services.db, cursor, size, filter, newest_first=newest_first)
    size = _whole(per_page or str(_PER_PAGE), _PER_PAGE_AT_MOST)
    number = _whole(page or "1", _LAST_PAGE)
    totals, users = await services.db.fetch_all(
        AUTH,
        accounts.counted(text=filter),
        accounts.listed(
            text=filter, newest_first=newest_first, limit=size, offset=(number - 1) * size
        ),
    )
    total: int = totals[0].total
    return json_answer(_listed(users), _paging(number, size, total))


async def _after(
    db: Database, cursor: str | None, size: int, text: str, *, newest_first: bool
) -> Response:
    """Answer the *size* accounts after *cursor*, and where the next ones begin."""
    (users,) = await db.fetch_all(
        AUTH,
        accounts.listed(
            text=text,
            newest_first=newest_first,
            limit=size + 1,
            after=read_cursor(cursor) if cursor else None,
        ),
    )
    shown, more = users[:size], len(users) > size
    pagination: dict[str, object] = {"has_more": more}
    if more:
        pagination["next_cursor"] = cursor_at(shown[-1].created_at, str(shown[-1].id))
    return json_answer(_listed(shown) | {"pagination": pagination})


@router.post(
    "/users",
    openapi_extra=request_body(AdminUserBody),
    responses=described(400, 401, 403, 413, 415, 422, 503),
)
async def create_user(actor: SecretKey, request: Request, issuer: Issuer) -> Response:
    """Make an account; it is confirmed with `email_confirm`, and signed in nowhere."""
    body = await read_body(request, AdminUserBody)
    user_id = None if not body.id else _sent_id(body.id)
    created = await administration.create_account(
        issuer, _wanted(body), actor=actor, user_id=user_id
    )
    return json_answer(user_members(created))


@router.get("/users/{user_id}", responses=described(401, 403, 404, 503))
async def get_user(_: SecretKey, user_id: UserId, issuer: Issuer) -> Response:
    """Return one account."""
    return json_answer(user_members(await _found(issuer, _path_id(user_id))))


@router.put(
    "/users/{user_id}",
    openapi_extra=request_body(AdminUserBody),
    responses=described(400, 401, 403, 404, 413, 415, 422, 503),
)
async def update_user(
    actor: SecretKey, user_id: UserId, request: Request, issuer: Issuer
) -> Response:
    """Change an account. A password or a ban ends every session at once and everywhere."""
    person = _path_id(user_id)
    wanted = _wanted(await read_body(request, AdminUserBody))
    try:
        changed = await administration.change_account(issuer, person, wanted, actor=actor)
    except UserNotFound as error:
        raise Refused(_NO_SUCH_USER) from error
    return json_answer(user_members(changed))


@router.delete(
    "/users/{user_id}",
    openapi_extra=request_body(DeleteUserBody, required=False),
    responses=described(400, 401, 403, 404, 413, 415, 503),
)
async def delete_user(
    actor: SecretKey, user_id: UserId, request: Request, issuer: Issuer
) -> Response:
    """Delete an account; with `should_soft_delete` its id stays taken, and nothing else."""
    person = _path_id(user_id)
    body = DeleteUserBody()
    if await request.body():
        body = await read_body(request, DeleteUserBody)
    try:
        await administration.delete_account(
            issuer, person, actor=actor, keep_row=body.should_soft_delete
        )
    except UserNotFound as error:
        raise Refused(_NO_SUCH_USER) from error
    return json_answer({})


@router.get("/audit", responses=described(400, 401, 403, 503))
async def list_audit(
    _: SecretKey,
    services: ServicesDep,
    page: Page = "",
    per_page: PerPage = "",
    query: AuditQuery = "",
    before: Before = "",
) -> Response:
    """List what happened, the newest first; what is further back is found with `before`."""
    size = _whole(per_page or str(_PER_PAGE), audit.AT_MOST)
    number = _whole(page or "1", _LAST_PAGE)
    if number * size > audit.AT_MOST:
        raise Invalid(f"Page through {audit.AT_MOST} entries at most, then ask with before=<id>")
    user_id, action = _audit_query(query)
    found = await audit.listed(
        services.db,
        user_id=user_id,
        action=action,
        before=_whole(before, _LAST_ENTRY) if before else None,
        limit=number * size,
    )
    return json_answer([audit_members(one) for one in found[(number - 1) * size :]])


def _audit_query(query: str) -> tuple[str | None, str | None]:
    """Return the user and the action that are asked for."""
    column, _, text = query.partition(":")
    match column:
        case "":
            return None, None
        case "author":
            return text, None
        case "action" | "type":
            return None, text
    raise Invalid("query must be author:<user id> or action:<action>")


def _listed(users: list[User]) -> dict[str, object]:
    return {"users": [user_members(one) for one in users], "aud": _AUDIENCE}


def _paging(page: int, per_page: int, total: int) -> dict[str, str]:
    """Say where the next and the last page are (RFC 8288), `page` first: clients count on it."""
    last = max(1, -(-total // per_page))
    links = [(last, "last")] if page >= last else [(page + 1, "next"), (last, "last")]
    shown = (
        f'</auth/v1/admin/users?page={number}&per_page={per_page}>; rel="{rel}"'
        for number, rel in links
    )
    return {"x-total-count": str(total), "link": ", ".join(shown)}


def _newest_first(sort: str) -> bool:
    match sort.lower().split():
        case [] | ["created_at"] | ["created_at", "desc"]:
            return True
        case ["created_at", "asc"]:
            return False
    raise Invalid("Bad Sort Parameters: created_at asc or created_at desc")


def _whole(text: str, at_most: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > len(str(at_most)):
        raise Invalid("Bad Pagination Parameters")
    if not 1 <= int(text) <= at_most:
        raise Invalid("Bad Pagination Parameters")
    return int(text)


def _wanted(body: AdminUserBody) -> Wanted:
    if body.phone:
        raise Refused(_NO_PHONES)
    if body.aud not in {None, "", _AUDIENCE}:
        raise Invalid(f"aud must be {_AUDIENCE}: tokens for anybody else are not taken here")
    return Wanted(
        email=body.email or None,
        email_confirmed=body.email_confirm,
        password=body.password or None,
        password_hash=body.password_hash or None,
        user_metadata=body.user_metadata,
        app_metadata=body.app_metadata,
        role=body.role or None,
        banned_for=_ban(body.ban_duration) if body.ban_duration else None,
    )


def _ban(text: str) -> timedelta:
    return NOT_BANNED if text == "none" else read_duration(text)


def _sent_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Invalid("id must be a UUID") from error


def _path_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise Refused(Refusal(404, "validation_failed", "user_id must be an UUID")) from error


async def _found(issuer: EmbeddedIssuer, person: UUID) -> User:
    try:
        return await accounts.get_user(issuer.db, person)
    except UserNotFound as error:
        raise Refused(_NO_SUCH_USER) from error
