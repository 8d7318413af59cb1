"""Give adopted conversations of unknown owner to the person they belong to.

None of our roles may do this, because to row-level security such a row is nobody's; the
owner of the tables may, in a moment in which it is not held by its own policies.
"""

from __future__ import annotations

import psycopg

from chatkeep.errors import Conflict


def assign_conversations(admin_url: str, user_id: str, conversation_ids: list[str] | None) -> int:
    """Give the named conversations that are nobody's (None: all of them) to *user_id*.

    Return how many were given. What belongs to somebody already stays where it is.

    Raises:
        Conflict: *user_id* already has a conversation of that id; nothing was given.
    """
    if not user_id:
        raise ValueError("a user id is never empty")
    with psycopg.connect(admin_url, connect_timeout=5, client_encoding="UTF8") as connection:
        connection.execute("alter table chat.conversations no force row level security")
        try:
            given = connection.execute(
                "update chat.conversations set user_id = %s"
                " where user_id = '' and (%s::text[] is null or id = any(%s))",
                [user_id, conversation_ids, conversation_ids],
            )
        except psycopg.errors.UniqueViolation as error:
            raise Conflict("This person already has a conversation of that id.") from error
        connection.execute("alter table chat.conversations force row level security")
        return given.rowcount
