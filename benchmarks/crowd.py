"""Conversations of a crowd, as many as are wanted, put into PostgreSQL with COPY.

Everything follows from a conversation's number, so that nothing has to be remembered. Many
conversations go on at the same time, so that the messages of one lie among those of others,
as they do in production. A tenth of all messages are one busy person's. Messages, runs and
the words of the search are written as the triggers would leave them; indexes that need not
be kept meanwhile are made anew afterwards.
"""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, LiteralString

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import psycopg

#: Messages of a conversation: half of them questions, half answers, each with its run.
LENGTH = 50
#: Every tenth conversation is this person's.
BUSY = "00000000-0000-4000-8000-00000000b05e"
LONG = "ffffffff-0000-7000-8000-00000000109a"
#: One of the busy person's messages in this many holds the rare word, and of the others' too.
RARE_IN = 100_000
_AT_ONCE = 400
_TALKS_OF_ONE = 20
_TEXTS = 5000
_BEGAN = datetime(2024, 1, 1, tzinfo=UTC)

#: Not needed while rows come in, and quicker to make at once than to keep.
_REMADE = ("messages_answers", "runs_of_messages", "message_words_found", "message_words_newest")


def owner(talk: int) -> str:
    """Return whose the conversation of this number is."""
    if talk % 10 == 0:
        return BUSY
    number = random.Random(talk).randrange(talk // _TALKS_OF_ONE + 1)
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def name(talk: int) -> str:
    """Return the id of the conversation of this number; later ones sort later."""
    return f"{talk:08x}-0000-7000-8000-{talk * 2654435761 % 2**48:012x}"


def message(talk: int, number: int) -> str:
    """Return the id of a message."""
    return f"{talk:08x}-{number:04x}-7000-9000-{talk * 40503 % 2**48:012x}"


def moment(talk: int) -> datetime:
    """Return when a conversation had its last message."""
    return _BEGAN + timedelta(seconds=7 * talk)


class Crowd:
    """Fills one database, in stages."""

    def __init__(self, connection: psycopg.Connection, *more: psycopg.Connection) -> None:
        """Use *connection*, a superuser's in autocommit mode, and *more* of them at once."""
        self._connection = connection
        self._hands = (connection, *more)
        self._texts = _texts()
        for one in self._hands:
            one.execute("set session_replication_role = replica")
        connection.execute("set maintenance_work_mem = '1GB'")
        self._words = self._words_of_texts()
        self.talks = 0

    def grow(self, messages: int) -> None:
        """Load until there are so many *messages*."""
        definitions = self._drop_indexes()
        wanted = messages // LENGTH
        free: SimpleQueue[psycopg.Connection] = SimpleQueue()
        for one in self._hands:
            free.put(one)

        def load(began: int) -> None:
            connection = free.get()
            self._load(connection, range(began, min(wanted, began + _AT_ONCE)))
            free.put(connection)

        with ThreadPoolExecutor(len(self._hands)) as pool:
            for _ in pool.map(load, range(self.talks, wanted, _AT_ONCE)):
                pass  # raises what went wrong
        self.talks = wanted
        self._finish(definitions)

    def add_long(self, messages: int) -> None:
        """Give the busy person one conversation of so many *messages*."""
        ids = [f"{number:08x}-0000-7000-9000-00000000109a" for number in range(messages)]
        at = moment(self.talks)
        self._copy(self._connection, _CONVERSATIONS, [_conversation(BUSY, LONG, ids[-1], at)])
        parents = ["\\N", *ids]
        self._copy(
            self._connection,
            _MESSAGES,
            (
                f"{BUSY}\t{LONG}\t{ids[n]}\t{parents[n]}\t{_role(n)}\t{self._texts[n % _TEXTS]}"
                f"\t\\N\t{at}\n"
                for n in range(messages)
            ),
        )

    def _load(self, connection: psycopg.Connection, talks: range) -> None:
        owners = {talk: owner(talk) for talk in talks}
        self._copy(
            connection,
            _CONVERSATIONS,
            (
                _conversation(owners[talk], name(talk), message(talk, LENGTH - 1), moment(talk))
                for talk in talks
            ),
        )
        chosen = random.Random(talks.start)
        texts = [chosen.randrange(_TEXTS) for _ in range(len(talks) * LENGTH)]
        self._copy(connection, _MESSAGES, self._messages(talks, owners, texts))
        self._copy(connection, _RUNS, _runs(talks, owners))
        self._copy(connection, _WORDS, self._vectors(talks, owners, texts))

    def _messages(self, talks: range, owners: dict[int, str], texts: list[int]) -> Iterator[str]:
        which = iter(texts)
        for number in range(LENGTH):
            for talk in talks:
                text = self._texts[next(which)] + _rare(talk, number)
                parent = message(talk, number - 1) if number else "\\N"
                run = message(talk, number) if number % 2 else "\\N"
                yield (
                    f"{owners[talk]}\t{name(talk)}\t{message(talk, number)}\t{parent}"
                    f"\t{_role(number)}\t{text}\t{run}\t{moment(talk)}\n"
                )

    def _vectors(self, talks: range, owners: dict[int, str], texts: list[int]) -> Iterator[str]:
        which = iter(texts)
        for number in range(LENGTH):
            for talk in talks:
                rare = " 'quagga':90" if _rare(talk, number) else ""
                yield (
                    f"{owners[talk]}\t{name(talk)}\t{message(talk, number)}\t{moment(talk)}"
                    f"\t{self._words[next(which)]}{rare} '{_lexeme(owners[talk])}'\n"
                )

    @staticmethod
    def _copy(
        connection: psycopg.Connection, statement: LiteralString, rows: Iterable[str]
    ) -> None:
        with connection.cursor().copy(statement) as copy:
            held: list[str] = []
            for row in rows:
                held.append(row)
                if len(held) == 500:
                    copy.write("".join(held))
                    held.clear()
            copy.write("".join(held))

    def _words_of_texts(self) -> list[str]:
        """Return what the search keeps of each text, as `chat.words_of` makes it."""
        found = self._connection.execute(
            "select ts_delete(chat.words_of('', one, 'en'), chat.search_owner(''))::text"
            " from unnest(%s::text[]) with ordinality as t(one, place) order by place",
            [self._texts],
        ).fetchall()
        return [row[0] for row in found]

    def _drop_indexes(self) -> list[LiteralString]:
        found = self._connection.execute(
            "select pg_get_indexdef(indexrelid), indexrelid::regclass::text from pg_index"
            " where (indexrelid::regclass::text) = any(%s)",
            [[f"chat.{index}" for index in _REMADE]],
        ).fetchall()
        if len(found) != len(_REMADE):
            raise RuntimeError(
                f"of the indexes {_REMADE} there are only {[one[1] for one in found]}"
            )
        for _, index in found:
            self._connection.execute(f"drop index {index}")
        return [row[0] for row in found]

    def _finish(self, definitions: list[LiteralString]) -> None:
        for definition in definitions:
            self._connection.execute(definition)
        self._connection.execute("vacuum (analyze)")
        self._connection.execute("checkpoint")


_CONVERSATIONS: LiteralString = (
    "copy chat.conversations (user_id, id, title, head_id, created_at, updated_at) from stdin"
)
_MESSAGES: LiteralString = (
    "copy chat.messages (user_id, conversation_id, id, parent_id, role, content, run_id,"
    " created_at) from stdin"
)
_RUNS: LiteralString = (
    "copy chat.runs (user_id, id, conversation_id, message_id, state, model, lease_until,"
    " started_at, ended_at) from stdin"
)
_WORDS: LiteralString = (
    "copy chat.message_words (user_id, conversation_id, message_id, said_at, words) from stdin"
)


def _runs(talks: range, owners: dict[int, str]) -> Iterator[str]:
    for number in range(1, LENGTH, 2):
        for talk in talks:
            answer, at = message(talk, number), moment(talk)
            yield (
                f"{owners[talk]}\t{answer}\t{name(talk)}\t{answer}\tdone\tgpt-4o-mini"
                f"\t{at}\t{at}\t{at}\n"
            )


def _conversation(user: str, talk: str, head: str, at: datetime) -> str:
    return f"{user}\t{talk}\tA talk about this and that\t{head}\t{at}\t{at}\n"


def _role(number: int) -> str:
    return "assistant" if number % 2 else "user"


def _rare(talk: int, number: int) -> str:
    """Return the rare word, in some messages of the busy person's and of the others'."""
    return " quagga" if (talk // 10 * LENGTH + number) % RARE_IN == 7 else ""


def _lexeme(user: str) -> str:
    return hashlib.sha256(user.encode()).hexdigest()


def _texts() -> list[str]:
    """Return what is said: common words, as often as such words are, among rarer ones."""
    chosen = random.Random(1)
    return [" ".join(_sentence(chosen)) for _ in range(_TEXTS)]


def _sentence(chosen: Any) -> Iterator[str]:  # noqa: ANN401 -- a generator of random numbers
    for word, often in (("half", 0.5), ("tenth", 0.1), ("hundredth", 0.01)):
        if chosen.random() < often:
            yield word
    for _ in range(8):
        yield f"w{int(20_000 * chosen.random() * chosen.random())}"
