"""SQL that closes a new table: to everybody but the roles that its migration names after it."""

from __future__ import annotations


def closed(*tables: str) -> str:
    """Return the SQL that puts *tables* under forced row-level security and takes every right.

    Default privileges of a database may open each new table to others (Supabase does that),
    and row-level security does not govern truncate. Grants and policies come after it.
    """
    return "".join(_CLOSED.format(table=table) for table in tables)


_CLOSED = """
alter table {table} enable row level security;
alter table {table} force row level security;
do $$
declare
  stranger record;
begin
  for stranger in
    select distinct x.grantee from pg_class c, aclexplode(c.relacl) x
    where c.oid = '{table}'::regclass and x.grantee <> c.relowner
  loop
    execute format('revoke all on {table} from %s cascade',
      case stranger.grantee when 0 then 'public'
        else quote_ident(pg_get_userbyid(stranger.grantee)) end);
  end loop;
end
$$;
"""
