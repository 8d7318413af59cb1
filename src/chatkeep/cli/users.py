"""`chatkeep users`: the people of our own issuer, for whoever runs the server."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from chatkeep.cli.listing import json_option
from chatkeep.cli.own_issuer import ACTOR, run_as_issuer
from chatkeep.cli.personal_data import erase_user, export_user
from chatkeep.cli.personal_keys import list_keys, revoke_key
from chatkeep.cli.settings import data_option
from chatkeep.cli.user_import import import_users
from chatkeep.cli.words import examples, printable

if TYPE_CHECKING:
    from pathlib import Path

    from chatkeep.accounts import User
    from chatkeep.config import Settings
    from chatkeep.issuance import EmbeddedIssuer

_SHOWN = click.IntRange(1, 1000)


@click.group(
    "users",
    short_help="Administer people with accounts of this server's own.",
    epilog=examples(
        "chatkeep users list --search example.com",
        "chatkeep users grant-role ana@example.com admin",
        "chatkeep users ban eve@example.com --for 24h --reason spam",
        "chatkeep users import users.csv --from supabase --dry-run",
    ),
)
def command() -> None:
    """Administer the people who sign in with this server's own accounts.

    People of another issuer can be suspended here, too. WHO is an address or an id.
    What is done is in the audit log, by "operator".
    """


command.add_command(import_users)
command.add_command(export_user)
command.add_command(erase_user)
command.add_command(list_keys)
command.add_command(revoke_key)
_who = click.argument("who", metavar="WHO")
_reason = click.option("--reason", metavar="TEXT", help="Why, for the audit log.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@command.command("list", epilog=examples("chatkeep users list --search ana --json"))
@click.option("--search", metavar="TEXT", help="Part of an address or a name, or an id.")
@click.option("--limit", type=_SHOWN, default=50, show_default=True, help="How many at most.")
@json_option
@data_option
def list_users(*, search: str | None, limit: int, as_json: bool, data: Path | None) -> None:
    """List people, the newest first."""

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep import accounts  # noqa: PLC0415 -- slow to import
        from chatkeep.db import AUTH  # noqa: PLC0415 -- as above

        totals, users = await issuer.db.fetch_all(
            AUTH, accounts.counted(text=search), accounts.listed(text=search, limit=limit)
        )
        if as_json:
            click.echo(json.dumps([_members(one) for one in users], indent=2))
            return
        for one in users:
            click.echo(_line(one))
        click.echo(f"{len(users)} of {totals[0].total}", err=True)

    run_as_issuer(data, work)


@command.command("show", epilog=examples("chatkeep users show ana@example.com"))
@_who
@json_option
@data_option
def show_user(*, who: str, as_json: bool, data: Path | None) -> None:
    """Show one person."""

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        members = _members(await _person(issuer, who))
        if as_json:
            click.echo(json.dumps(members, indent=2))
            return
        for name, value in members.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            click.echo(f"{name:18} {'-' if shown in (None, '') else shown}")

    run_as_issuer(data, work)


@command.command(
    "ban",
    short_help="Suspend somebody, and end all their sessions and keys.",
    epilog=examples(
        "chatkeep users ban eve@example.com --for 24h",
        "chatkeep users ban supabase:8d1c4e9a-5f0f-4d7e-9a51-0c2f6a1b7e33",
    ),
)
@_who
@click.option(
    "--for", "length", metavar="LENGTH", help="Such as 24h or 1h30m.  [default: for ever]"
)
@_reason
@data_option
def ban_user(*, who: str, length: str | None, reason: str | None, data: Path | None) -> None:
    """Suspend somebody, and end all their sessions and API keys at once and everywhere.

    WHO may also be the id of a person of another issuer, as `chatkeep sessions list` shows it.
    """
    wanted = None if length is None else _duration(length)

    async def work(issuer: EmbeddedIssuer, settings: Settings) -> None:
        from chatkeep.administration import accounts as administration  # noqa: PLC0415 -- slow to import
        from chatkeep.administration import suspensions  # noqa: PLC0415 -- as above

        banned_for = wanted or administration.LONGEST_BAN
        stranger = await _of_another_issuer(issuer, settings, who)
        if stranger is None:
            await _change(issuer, settings, who, banned_for, reason)
        else:
            await suspensions.suspend(
                issuer.db, issuer.revocations, stranger, banned_for, actor=ACTOR, reason=reason
            )
        click.echo(f"{who} is banned and signed out everywhere.")

    run_as_issuer(data, work)


@command.command("banned", epilog=examples("chatkeep users banned --json"))
@json_option
@data_option
def list_banned(*, as_json: bool, data: Path | None) -> None:
    """List who is suspended, of any issuer, and until when.

    A thousand of our own accounts, and a thousand people of other issuers, at most.
    """

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep import accounts  # noqa: PLC0415 -- slow to import
        from chatkeep.administration import suspensions  # noqa: PLC0415 -- as above
        from chatkeep.db import AUTH  # noqa: PLC0415 -- as above

        (own,) = await issuer.db.fetch_all(AUTH, accounts.banned())
        found = [(issuer.user_id_of(one.id), one.banned_until, one.email) for one in own]
        found += [(one.user_id, one.until, None) for one in await suspensions.listed(issuer.db)]
        if as_json:
            members = [
                {"user_id": user_id, "banned_until": until.isoformat(), "email": email}
                for user_id, until, email in found
                if until is not None
            ]
            click.echo(json.dumps(members, indent=2))
            return
        for user_id, until, email in found:
            click.echo(printable(f"{user_id}  until {until:%Y-%m-%d %H:%M}  {email or '-'}"))
        if not found:
            click.echo("Nobody is suspended.", err=True)

    run_as_issuer(data, work)


@command.command("unban", epilog=examples("chatkeep users unban eve@example.com"))
@_who
@_reason
@data_option
def unban_user(*, who: str, reason: str | None, data: Path | None) -> None:
    """Lift a suspension. What was ended stays ended."""

    async def work(issuer: EmbeddedIssuer, settings: Settings) -> None:
        from chatkeep.administration import suspensions  # noqa: PLC0415 -- slow to import

        stranger = await _of_another_issuer(issuer, settings, who)
        if stranger is None:
            await _change(issuer, settings, who, timedelta(0), reason)
        else:
            await suspensions.lift(
                issuer.db, issuer.revocations, stranger, actor=ACTOR, reason=reason
            )
        click.echo(f"{who} may sign in again.")

    run_as_issuer(data, work)


@command.command(
    "grant-role",
    short_help="Give somebody a role, for their next request on.",
    epilog=examples("chatkeep users grant-role ana@example.com admin"),
)
@_who
@click.argument("role", metavar="ROLE")
@data_option
def grant_role(*, who: str, role: str, data: Path | None) -> None:
    """Give somebody a role; with one of ADMIN_ROLES they administer, from their next request on."""
    if not role.isidentifier():
        raise click.BadParameter(
            "must be a name of letters, digits and underscores", param_hint="ROLE"
        )

    async def work(issuer: EmbeddedIssuer, settings: Settings) -> None:
        from chatkeep.administration import administrators  # noqa: PLC0415 -- slow to import

        person = await _person(issuer, who)
        new = await administrators.grant_role(issuer, person.id, role, actor=ACTOR)
        click.echo(f"{who} {'now has' if new else 'already had'} the role {role}.")
        if new and role not in settings.admin_roles:
            names = ", ".join(settings.admin_roles)
            click.echo(f"It is none of ADMIN_ROLES ({names}): it administers nothing.", err=True)

    run_as_issuer(data, work)


@command.command("revoke-role", epilog=examples("chatkeep users revoke-role ana@example.com admin"))
@_who
@click.argument("role", metavar="ROLE")
@data_option
def revoke_role(*, who: str, role: str, data: Path | None) -> None:
    """Take a role away, from somebody's next request on. The last administrator stays one."""

    async def work(issuer: EmbeddedIssuer, settings: Settings) -> None:
        from chatkeep.administration import administrators  # noqa: PLC0415 -- slow to import

        person = await _person(issuer, who)
        had = await administrators.revoke_role(
            issuer, person.id, role, actor=ACTOR, administrators=settings.admin_roles
        )
        click.echo(f"{who} {'no longer has' if had else 'did not have'} the role {role}.")

    run_as_issuer(data, work)


@command.command("delete", epilog=examples("chatkeep users delete eve@example.com --yes"))
@_who
@_yes
@data_option
def delete_user(*, who: str, yes: bool, data: Path | None) -> None:
    """Delete somebody's account and sessions. It cannot be undone."""

    async def work(issuer: EmbeddedIssuer, settings: Settings) -> None:
        from chatkeep.administration import accounts as administration  # noqa: PLC0415 -- slow to import

        person = await _person(issuer, who)
        require_yes(f"Delete the account of {person.email or person.id}?", yes=yes)
        await administration.delete_account(
            issuer, person.id, actor=ACTOR, administrators=settings.admin_roles
        )
        click.echo(f"{who} is deleted and signed out everywhere.")

    run_as_issuer(data, work)


@command.command(
    "set-password",
    epilog=examples(
        "chatkeep users set-password ana@example.com",
        "openssl rand -base64 18 | tee /dev/tty | chatkeep users set-password ana@example.com",
    ),
)
@_who
@data_option
def set_password(*, who: str, data: Path | None) -> None:
    """Give somebody a new password, and end all their sessions.

    It is asked for, or read from standard input: never from the command line, which others see.
    """

    async def work(issuer: EmbeddedIssuer, _: Settings) -> None:
        from chatkeep.administration import accounts as administration  # noqa: PLC0415 -- slow to import

        person = await _person(issuer, who)
        wanted = administration.Wanted(password=_asked_password())
        await administration.change_account(issuer, person.id, wanted, actor=ACTOR)
        click.echo(f"{who} has a new password and is signed out everywhere.")

    run_as_issuer(data, work)


def require_yes(question: str, *, yes: bool) -> None:
    """Ask *question*, unless *yes*; without a terminal it must have been said."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody is there to be asked: say --yes.")
    click.confirm(question, abort=True)


def _duration(text: str) -> timedelta:
    from chatkeep.administration.durations import read_duration  # noqa: PLC0415 -- slow to import
    from chatkeep.errors import Invalid  # noqa: PLC0415 -- as above

    try:
        return read_duration(text)
    except Invalid as error:
        raise click.BadParameter(f"{text!r}: {error.detail}", param_hint="--for") from error


def _asked_password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("New password", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


async def _change(
    issuer: EmbeddedIssuer, settings: Settings, who: str, length: timedelta, reason: str | None
) -> None:
    from chatkeep.administration import accounts as administration  # noqa: PLC0415 -- slow to import

    person = await _person(issuer, who)
    await administration.change_account(
        issuer,
        person.id,
        administration.Wanted(banned_for=length),
        actor=ACTOR,
        reason=reason,
        administrators=settings.admin_roles,
    )


async def _of_another_issuer(issuer: EmbeddedIssuer, settings: Settings, who: str) -> str | None:
    """Return the id of a person of another issuer, None for whoever has an account here."""
    from chatkeep.administration.suspensions import issuer_of  # noqa: PLC0415 -- slow to import
    from chatkeep.cli.finding_people import user_id_named  # noqa: PLC0415 -- as above

    found = await user_id_named(issuer, who)
    bare = not issuer.issuer.primary
    return None if issuer_of(found, settings.issuer_names, bare=bare) is None else found


async def _person(issuer: EmbeddedIssuer, who: str) -> User:
    from chatkeep.cli.finding_people import person_named  # noqa: PLC0415 -- slow to import

    return await person_named(issuer, who)


def _members(user: User) -> dict[str, Any]:
    times = {
        "created_at": user.created_at,
        "last_sign_in_at": user.last_sign_in_at,
        "email_confirmed_at": user.email_confirmed_at,
        "banned_until": user.banned_until,
        "deleted_at": user.deleted_at,
    }
    return {
        "id": str(user.id),
        "email": user.email,
        "roles": sorted(user.roles),
        "providers": sorted({str(one["provider"]) for one in user.identities}),
        **{name: one.isoformat() if one else None for name, one in times.items()},
    }


def _line(user: User) -> str:
    members = _members(user)
    marks = [*members["roles"], *(["banned"] if user.is_banned else [])]
    if user.deleted_at:
        marks.append("deleted")
    seen = user.last_sign_in_at or user.created_at
    return f"{user.id}  {seen:%Y-%m-%d}  {user.email or '-'}  {' '.join(marks)}".rstrip()
