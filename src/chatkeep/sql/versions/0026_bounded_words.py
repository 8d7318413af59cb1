"""Words of messages in time that grows with their length, whatever they are.

PostgreSQL's parser begins anew wherever what might have been a path, a host or a comment of
HTML is none: of 50,000 signs without a space between them (`a_a_a_…`) each is looked at
thousands of times, for a quarter of a minute. So what is indexed has a space in it after so
many signs, and begins no comments. What was indexed before stays as it is.
"""

from __future__ import annotations

from alembic import op

revision = "0026"
down_revision = "0025"

BOUNDED = r"""
create or replace function chat.words_of(user_id text, content text, locale text)
returns tsvector
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return (
  select to_tsvector('simple', said.bounded)
    || case when chat.search_language(locale) = 'simple'::regconfig then ''::tsvector
         else to_tsvector(chat.search_language(locale), said.bounded) end
    || array_to_tsvector(array[chat.search_owner(user_id)])
  from (
    select regexp_replace(replace(left(content, 50000), '<!', '  '), '(\S{200})', '\1 ', 'g')
      as bounded
    offset 0
  ) said
);
"""

BEFORE = """
create or replace function chat.words_of(user_id text, content text, locale text)
returns tsvector
language sql immutable parallel safe set search_path = pg_catalog, pg_temp
return to_tsvector('simple', left(content, 50000))
  || case when chat.search_language(locale) = 'simple'::regconfig then ''::tsvector
       else to_tsvector(chat.search_language(locale), left(content, 50000)) end
  || array_to_tsvector(array[chat.search_owner(user_id)]);
"""


def upgrade() -> None:
    """Bound the work; servers of the version before index by it too."""
    op.execute(BOUNDED)


def downgrade() -> None:
    """Index as before."""
    op.execute(BEFORE)
