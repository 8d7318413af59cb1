"""What the catalogue must say: row-level security everywhere, narrow roles, exact rights."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

import psycopg

from chatkeep.sql.migrations import ROLES
from tests.db.twins import OWNED
from tests.postgres_servers import LOGIN

if TYPE_CHECKING:
    from tests.postgres_servers import MigratedDatabase

#: Who may do what, and nobody else anything. In brackets the columns, where not all.
RIGHTS: dict[str, dict[str, set[str]]] = {
    "chatkeep_app": {
        "chat.conversations": {"select", "insert", "update", "delete"},
        "chat.messages": {"select", "insert", "update"},
        "chat.runs": {"select", "insert", "update"},
        **{
            f"chat.{name}": {"select", "insert", "update"}
            for name in ("charges", "budgets", "usage", "budget_totals")
        },
        "chat.budget_limits": {"select"},
        **{
            f"chat.chatkit_{name}": {"select", "insert", "update", "delete"}
            for name in ("threads", "items", "attachments")
        },
        "chat.profiles": {"select", "insert", "update", "delete"},
        "chat.responses": {"select", "insert", "update", "delete"},
        "chat.conversation_metadata": {"select", "insert", "update", "delete"},
        "chat.shares": {"select", "insert", "update", "delete"},
        "chat.idempotency_keys": {"select", "insert", "update", "delete"},
        "chat.file_uses": {"select", "insert", "update", "delete"},
        "public.user_sessions": {"select"},
        "chatkeep.personal_keys": {"select"},
        "chatkeep.alembic_version": {"select"},
    },
    "authenticated": {
        "chat.conversations": {"select"},
        "chat.messages": {"select"},
        "chat.profiles": {"select", "insert", "update"},
    },
    "chatkeep_auth": {
        "chat.shares": {
            f"select({column})"
            for column in ("user_id", "conversation_id", "head_id", "token_hash", "expires_at")
        },
        "chatkeep.users": {"select", "insert", "update", "delete"},
        "chatkeep.identities": {"select", "insert", "update", "delete"},
        **{
            table: {"select", "insert", "update", "delete"}
            for table in (
                "chatkeep.factors",
                "chatkeep.factor_challenges",
                "chatkeep.recovery_codes",
                "chatkeep.webauthn_credentials",
                "chatkeep.passkey_challenges",
                "chatkeep.one_time_tokens",
                "chatkeep.authorization_codes",
                "chatkeep.personal_keys",
            )
        },
        "chatkeep.sign_in_flows": {"select", "insert", "update", "delete"},
        "chatkeep.shown_id_tokens": {"select", "insert", "update", "delete"},
        "chatkeep.issuers": {"select", "insert", "update"},
        "chatkeep.signing_keys": {"select", "insert", "update"},
        "public.user_sessions": {"select", "insert", "update", "delete"},
        "chatkeep.revocations": {"select", "insert", "update", "delete"},
        "chatkeep.revocation_numbers": {"select", "update"},
        "chatkeep.audit_log": {
            "select(number)",
            "insert(action)",
            "insert(outcome)",
            "insert(reason)",
            "insert(user_id)",
            "insert(actor)",
            "insert(issuer)",
            "insert(session_id)",
            "insert(request_id)",
            "insert(address)",
            "insert(device)",
            "insert(details)",
        },
        "chatkeep_queue.procrastinate_jobs": {"insert"},
        "chatkeep_queue.procrastinate_events": {"insert"},
        "chatkeep_queue.procrastinate_jobs_id_seq": {"usage"},
        "chatkeep_queue.procrastinate_events_id_seq": {"usage"},
    },
    "chatkeep_worker": {
        "chat.conversations": {"delete", "select(deleted_at)"},
        "chat.chatkit_attachments": {
            "delete",
            "select(conversation_id)",
            "select(created_at)",
            "select(object_key)",
        },
        "chat.file_uses": {"select(file_id)", "select(user_id)"},
        "chat.idempotency_keys": {"delete", "select(created_at)"},
        "chat.runs": {
            "select(user_id)",
            "select(id)",
            "select(conversation_id)",
            "select(state)",
            "select(lease_until)",
            "select(said)",
            "update(state)",
            "update(ended_at)",
            "update(error_code)",
        },
        "chatkeep.claim_counts": {"select", "insert", "update", "delete"},
        "chatkeep.mail_hours": {"select", "insert", "update", "delete"},
        "chatkeep.webhooks": {"select", "insert", "update", "delete"},
        "chatkeep.dead_webhooks": {"select", "insert", "update", "delete"},
        "chat.charges": {"select", "update", "delete"},
        "chat.budgets": {"select", "update"},
        "chat.usage": {"select", "insert", "update"},
        "chat.budget_totals": {"select", "update", "delete"},
        **{
            f"chatkeep_queue.procrastinate_{name}": {"select", "insert", "update", "delete"}
            for name in ("jobs", "events", "workers", "periodic_defers")
        },
        **{
            f"chatkeep_queue.procrastinate_{name}_id_seq": {"usage"}
            for name in ("jobs", "events", "workers", "periodic_defers")
        },
    },
    "chatkeep_webhooks": {
        "chatkeep.webhooks": {"select"},
        "chatkeep_queue.procrastinate_jobs": {"insert"},
        "chatkeep_queue.procrastinate_events": {"insert"},
        "chatkeep_queue.procrastinate_jobs_id_seq": {"usage"},
        "chatkeep_queue.procrastinate_events_id_seq": {"usage"},
    },
    "chatkeep_search": {
        "chat.message_words": {"select", "insert", "update"},
        "chat.messages": {
            f"select({column})"
            for column in ("user_id", "conversation_id", "id", "content", "created_at")
        },
        "chat.conversations": {"select(user_id)", "select(id)", "select(deleted_at)"},
        "chat.profiles": {"select(id)", "select(locale)"},
    },
    "chatkeep_keeper": {
        # Where what is said belongs, and never what was said.
        "chat.runs": {
            *(
                f"select({column})"
                for column in (
                    *("user_id", "id", "conversation_id", "message_id"),
                    *("state", "stop_requested", "said_before"),
                )
            ),
            *("update(lease_until)", "update(said)"),
        },
        "chat.messages": {
            *(f"select({column})" for column in ("user_id", "conversation_id", "id", "run_id")),
            *("update(content)", "update(parts)"),
        },
    },
    "chatkeep_admin": {
        # Never what was said, nor where: an overview needs how many, and of how many people.
        "chat.runs": {
            f"select({column})"
            for column in (
                *("user_id", "state", "error_code", "started_at"),
                *("prompt_tokens", "completion_tokens", "cost"),
            )
        },
        "chat.usage": {"select"},
        "chat.budget_limits": {"select", "insert", "update", "delete"},
        "chatkeep.claim_counts": {"select"},
        "chatkeep.audit_log": {"select", "delete"},
        "chatkeep.audit_links": {"select", "insert", "delete"},
        "chatkeep.audit_head": {"select", "update"},
    },
}

#: Policies that show people rows of nobody: a revision, and numbers of all or of a role.
OF_NOBODY = {"alembic_version_of_server", "budget_totals_used", "budget_limits_of_roles"}
#: What their own row is told by, where it is not `user_id`.
OWNERS = {"profiles": "id", "budget": "name"}

#: Functions that run with their owner's rights; each would need a review of its own.
REVIEWED_DEFINERS = {
    # Keeps what running answers say where all of their keys say, for background work.
    "chat.keep_answers(json,double precision)",
    # Fills the search from triggers, with the message that their statement has written.
    "chat.keep_words()",
    # Reads a message of the caller again, which they have changed.
    "chat.read_words_again(text,text)",
    # Looks among the caller's own words only, and is for the role of requests.
    "chat.search(tsquery,timestamp with time zone,text,integer)",
    # Queues from triggers what others are told of the row that their statement has written.
    "chatkeep.tell_webhooks()",
}

_OURS: LiteralString = (
    " (n.nspname in ('chat', 'chatkeep', 'chatkeep_queue')"
    " or (n.nspname = 'public' and c.relname = 'user_sessions')) "
)


def rows(database: MigratedDatabase, query: LiteralString) -> list[tuple[str, ...]]:
    """Return what the catalogue answers."""
    with psycopg.connect(database.admin_url) as connection:
        return connection.execute(query).fetchall()


def names(database: MigratedDatabase, query: LiteralString) -> set[str]:
    """Return the first column of what the catalogue answers."""
    return {row[0] for row in rows(database, query)}


def test_every_table_is_under_row_security(database: MigratedDatabase) -> None:
    """Enabled and forced on each, with a policy wherever somebody has a right."""
    found = rows(
        database,
        "select c.oid::regclass::text, c.relrowsecurity and c.relforcerowsecurity,"  # noqa: S608 -- ours
        " exists (select from pg_policy p where p.polrelid = c.oid)"
        "   or (c.relacl is null and not exists (select from pg_attribute a"
        "     where a.attrelid = c.oid and a.attacl is not null))"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p', 'f') and" + _OURS,
    )
    assert len(found) >= 9
    assert {name for name, forced, governed in found if not (forced and governed)} == set()


def test_nothing_reads_around_row_security(database: MigratedDatabase) -> None:
    """No view without security_invoker, no materialised view, no unreviewed definer."""
    views = names(
        database,
        "select oid::regclass::text from pg_class where relkind = 'v'"
        " and relnamespace in ('chat'::regnamespace, 'chatkeep'::regnamespace,"
        "   'chatkeep_queue'::regnamespace,"
        "   'public'::regnamespace)"
        " and coalesce(reloptions::text, '') !~ 'security_invoker=(true|on|1)'",
    )
    assert views == set()
    assert names(database, "select oid::regclass::text from pg_class where relkind = 'm'") == set()
    definers = names(
        database,
        "select oid::regprocedure::text from pg_proc where prosecdef and pronamespace in"
        " ('chat'::regnamespace, 'chatkeep'::regnamespace, 'chatkeep_queue'::regnamespace,"
        " 'public'::regnamespace)",
    )
    assert definers == REVIEWED_DEFINERS


def test_a_definer_sees_to_its_own_names_and_is_for_one_role(database: MigratedDatabase) -> None:
    """What runs with another's rights has a fixed search path, and no stranger may call it."""
    found = rows(
        database,
        "select proname, proconfig::text, proacl::text from pg_proc where prosecdef"
        " and pronamespace in ('chat'::regnamespace, 'chatkeep'::regnamespace) order by 1",
    )
    owner = "chatkeep_search=X/chatkeep_search"
    told = "{chatkeep_webhooks=X/chatkeep_webhooks}"
    path = '{"search_path=pg_catalog, pg_temp"}'
    keeper = "chatkeep_keeper=X/chatkeep_keeper,chatkeep_worker=X/chatkeep_keeper"
    planned = "enable_hashjoin=off,enable_mergejoin=off,enable_seqscan=off,cpu_index_tuple_cost=1"
    assert found == [
        ("keep_answers", f"{path[:-1]},{planned}}}", f"{{{keeper}}}"),
        ("keep_words", path, f"{{{owner}}}"),
        ("read_words_again", path, f"{{{owner},chatkeep_app=X/chatkeep_search}}"),
        ("search", path, f"{{{owner},chatkeep_app=X/chatkeep_search}}"),
        ("tell_webhooks", path, told),
    ]


def test_rights_are_exactly_these(database: MigratedDatabase) -> None:
    """No role has a right on our tables that is not in the table above."""
    found = rows(
        database,
        "select coalesce(pg_get_userbyid(nullif(a.grantee, 0)), 'public'), a.tbl,"  # noqa: S608 -- ours
        " lower(a.privilege_type) || a.col, a.is_grantable::text from ("
        "  select c.oid::regclass::text as tbl, '' as col, x.* , c.relowner"
        "  from pg_class c, aclexplode(c.relacl) x, pg_namespace n"
        "  where n.oid = c.relnamespace and c.relkind in ('r', 'v', 'S') and" + _OURS + "union all"
        "  select c.oid::regclass::text, format('(%s)', t.attname), x.*, c.relowner"
        "  from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) x,"
        "    pg_namespace n where n.oid = c.relnamespace and" + _OURS + ") a"
        " where a.grantee <> a.relowner",
    )
    granted: dict[str, dict[str, set[str]]] = {role: {} for role in RIGHTS}
    for role, table, right, _ in found:
        full = table if "." in table else f"public.{table}"
        granted.setdefault(role, {}).setdefault(full, set()).add(right)
    assert granted == RIGHTS
    assert {grantable for *_, grantable in found} == {"false"}


def test_our_roles_are_narrow(database: MigratedDatabase) -> None:
    """They cannot log in, bypass, create or own anything, and are members of nothing."""
    powerful = names(
        database,
        "select rolname from pg_roles where rolname like 'chatkeep\\_%'"
        " and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication"
        "   or rolinherit)",
    )
    assert powerful == set()
    logins = names(
        database,
        "select rolname from pg_roles where rolname like 'chatkeep\\_%' and rolcanlogin",
    )
    assert logins <= {LOGIN}
    members = names(
        database,
        "select m.rolname from pg_auth_members a join pg_roles m on m.oid = a.member"
        " where m.rolname like 'chatkeep\\_%'",
    )
    assert members <= {LOGIN}
    owners = names(
        database,
        "select distinct r.rolname from pg_shdepend d join pg_roles r on r.oid = d.refobjid"
        " where d.deptype = 'o' and r.rolname like 'chatkeep\\_%'",
    )
    assert owners == {"chatkeep_keeper", "chatkeep_search", "chatkeep_webhooks"}
    owned = names(
        database,
        "select d.classid::regclass::text from pg_shdepend d"
        " join pg_roles r on r.oid = d.refobjid"
        " where d.deptype = 'o' and r.rolname like 'chatkeep\\_%'",
    )
    assert owned == {"pg_proc"}


def test_the_login_may_become_our_roles_and_nothing_else(database: MigratedDatabase) -> None:
    """What a server logs in as has rights only while it is one of the four."""
    may_become = names(
        database,
        "select r.rolname from pg_roles r where r.rolname <> 'chatkeep_login'"
        " and pg_has_role('chatkeep_login', r.oid, 'member')",
    )
    assert may_become == set(ROLES)
    has_now = names(
        database,
        "select r.rolname from pg_roles r where r.rolname <> 'chatkeep_login'"
        " and pg_has_role('chatkeep_login', r.oid, 'usage')",
    )
    assert has_now == set()


def test_schemas_take_nothing_from_strangers(database: MigratedDatabase) -> None:
    """Only the owner makes anything in our schemas; outsiders do not even look into ours."""
    found = rows(
        database,
        "select n.nspname, coalesce(pg_get_userbyid(nullif(x.grantee, 0)), 'public'),"
        " lower(x.privilege_type) from pg_namespace n, aclexplode(n.nspacl) x"
        " where n.nspname in ('chat', 'chatkeep', 'chatkeep_queue') and x.grantee <> n.nspowner",
    )
    assert {right for *_, right in found} == {"usage"}
    inside = {role for schema, role, _ in found if schema == "chatkeep"}
    assert inside == {*ROLES, "chatkeep_webhooks"}
    inside = {role for schema, role, _ in found if schema == "chatkeep_queue"}
    assert inside == {"chatkeep_auth", "chatkeep_worker", "chatkeep_webhooks"}


def test_policies_name_their_roles_and_have_no_way_around(database: MigratedDatabase) -> None:
    """A policy for callers is a plain comparison: no `or`, no exception for "unset"."""
    found = rows(
        database,
        "select policyname, roles::text, coalesce(qual, with_check), coalesce(with_check, qual),"
        " permissive from pg_policies"
        " where schemaname in ('chat', 'chatkeep', 'chatkeep_queue')"
        " or tablename = 'user_sessions'",
    )
    for name, roles, using, check, permissive in found:
        assert "public" not in roles, name
        assert permissive == "PERMISSIVE", name
        for condition in (using, check):
            assert " or " not in condition.lower(), name
            assert "null" not in condition.lower().replace("is not null", ""), name
        if "chatkeep_app" in roles and name not in OF_NOBODY:
            column = OWNERS.get(name.partition("_of_")[0].partition("_")[0], "user_id")
            plain = f"({column} = ( SELECT chat.caller_id() AS caller_id))"
            assert (using, check) == (plain, plain), name


def test_keys_lead_with_the_owner(database: MigratedDatabase) -> None:
    """Foreign keys bypass row-level security, so the owner is part of each."""
    found = rows(
        database,
        "select k.conrelid::regclass::text, k.contype::text,"
        " (select attname from pg_attribute where attrelid = k.conrelid and attnum = k.conkey[1]),"
        " coalesce((select attname from pg_attribute"
        "   where attrelid = k.confrelid and attnum = k.confkey[1]), '')"
        " from pg_constraint k where k.contype in ('p', 'f', 'u')",
    )
    owner = {table.name.removeprefix("public."): table.owner for table in OWNED}
    keys = [row for row in found if row[0] in owner]
    assert len(keys) >= 8
    for table, kind, first, points_to in keys:
        assert first == owner[table], (table, kind)
        assert points_to in {"", "user_id"}, (table, kind)
