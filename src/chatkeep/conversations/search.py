"""Search in what a person said and was told themselves.

The words are kept and looked up by the database (`chat.search`), which restricts to the
caller itself; everything shown of a find is read as that caller, under row-level security.
A few finds come best first; of a common word the newest come first, because ranking would
mean reading them all. Found on every branch of a conversation, also those not shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from chatkeep.db import Query, as_user

if TYPE_CHECKING:
    from datetime import datetime

    from chatkeep.conversations import Role
    from chatkeep.db import Database

#: With more finds than this they are not ranked, and the newest come first.
RANKED_AT_MOST = 50
#: Around a find; private-use characters, taken out of what is shown, so nobody can forge one.
_BEGIN, _END = "\ue000", "\ue001"
_HEADLINE = f"StartSel={_BEGIN}, StopSel={_END}, MaxWords=35, MinWords=15"
#: In so many characters of all finds of a page together a passage is looked for, and in so many
#: of one; in fewer with a query of many words, because each is tried wherever one could begin.
_LOOKED_THROUGH: Final = 400_000
_OF_ONE: Final = 20_000
#: A minus that excludes nothing. PostgreSQL fails at more than thirty that stand in a row.
_LOOSE_MINUS: Final = re.compile(r"-(?![\w\"])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a page begins: after this find. *rank* None: in the list of the newest."""

    rank: float | None
    said_at: str
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A message that matches. *marked* is the passage, as `passage` takes it apart."""

    conversation_id: str
    message_id: str
    title: str | None
    role: Role
    said_at: datetime
    rank: float | None
    marked: str


@dataclass(frozen=True, slots=True)
class _Done:
    done: str


@dataclass(frozen=True, slots=True)
class _Plan:
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of a passage: plain text, that matches or does not."""

    text: str
    match: bool


def reading_again(conversation_id: str, message_id: str) -> Query[_Done]:
    """The statement, as whose message it is, that looks for what a changed message says now.

    What it said before is found no more. It follows the change, in its transaction.
    """
    return Query(
        "select chat.read_words_again(%s, %s)::text as done", [conversation_id, message_id], _Done
    )


async def search(
    db: Database,
    user_id: str,
    words: str,
    *,
    locale: str | None,
    limit: int,
    after: Position | None = None,
) -> list[Found]:
    """Find at most *limit* messages that hold all of *words*, after the position *after*.

    `"..."` is a phrase, `or` an alternative and `-` an exclusion; every other character is
    a letter of a word or separates words. *locale* is the language the person writes in.
    """
    values = {
        "user": user_id,
        "words": _LOOSE_MINUS.sub(" ", words),
        "locale": locale,
        "limit": limit,
        "of_one": min(_OF_ONE, _LOOKED_THROUGH // limit),
        "ranked_at_most": RANKED_AT_MOST,
        "marks": _BEGIN + _END,
        "headline": _HEADLINE,
        **_beginning(after, limit),
    }
    _, found = await db.fetch_all(
        as_user(user_id), Query(_PLANNED, (), _Plan), Query(_SEARCH, values, Found)
    )
    return found


def _beginning(after: Position | None, limit: int) -> dict[str, object]:
    """Where a page begins: behind *after*, which is one of the best or one of the newest."""
    ranked = after is None or after.rank is not None
    return {
        "ranked": ranked,
        "most": RANKED_AT_MOST + 1 if ranked else limit,
        "before": "infinity" if ranked or after is None else after.said_at,
        "before_id": "" if ranked or after is None else after.message_id,
        "rank": after.rank if after else None,
        "said_at": after.said_at if after else None,
        "message": after.message_id if after else None,
    }


def passage(marked: str) -> list[Piece]:
    """Take the marks out of a passage: its pieces, in order, none of them empty."""
    pieces = []
    for part in marked.split(_BEGIN):
        match, end, rest = part.partition(_END)
        if end:
            pieces += [Piece(text=match, match=True), Piece(text=rest, match=False)]
        else:
            pieces.append(Piece(text=part, match=False))
    return [piece for piece in pieces if piece.text]


# For whom has said much, with the plan that is for anybody, it takes three times as long: what is
# looked through does not hang on keys alone.
_PLANNED = "select set_config('plan_cache_mode', 'auto', true) as mode"

_SEARCH = r"""
with asked as materialized (
  select websearch_to_tsquery('simple', %(words)s)
    || websearch_to_tsquery(chat.search_language(%(locale)s), %(words)s) as words
), found as materialized (
  select f.* from asked, chat.search(asked.words, %(before)s::timestamptz,
    %(before_id)s, %(most)s) f
), placed as (
  select conversation_id, message_id, said_at,
    case when %(ranked)s and (select count(*) from found) <= %(ranked_at_most)s
      then rank end as rank
  from found
), page as materialized (
  select * from placed p
  where %(rank)s::float8 is null
    or (p.rank, p.said_at, p.message_id)
      < (%(rank)s::float8, %(said_at)s::timestamptz, %(message)s)
  order by p.rank desc nulls last, p.said_at desc, p.message_id desc limit %(limit)s
)
-- `offset 0`: looked up one by one, however many conversations the person has. Where no space
-- is for long, and after what might begin a comment, the parser reads everything again and again.
select p.conversation_id, p.message_id, c.title, m.role, p.said_at, p.rank,
  ts_headline(chat.search_language(%(locale)s), regexp_replace(replace(translate(
      left(m.content, greatest(1000, %(of_one)s * 15 / greatest(15, numnode(asked.words)))),
      %(marks)s, ''), '<!', '< !'), '(\S{200})', '\1 ', 'g'),
    asked.words, %(headline)s) as marked
from asked cross join page p
cross join lateral (
  select role, content from chat.messages where user_id = %(user)s
    and conversation_id = p.conversation_id and id = p.message_id offset 0
) m
cross join lateral (
  select title from chat.conversations
  where user_id = %(user)s and id = p.conversation_id offset 0
) c
order by p.rank desc nulls last, p.said_at desc, p.message_id desc
"""
