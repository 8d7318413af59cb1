"""From a request of an OpenAI client to a turn of a conversation.

A request names what it goes on from (`previous_response_id`, or a conversation), or nothing;
what it brings hangs below that. What functions have answered is written into the answer that
called them, and that answer goes on; where it has gone on already, another one beside it
begins with the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chatkeep import conversations
from chatkeep.answering.history import BYTES_AT_MOST, Said
from chatkeep.answering.parts import Part, stored, unstored
from chatkeep.answering.titles import title_from
from chatkeep.answering.turns import Turn
from chatkeep.errors import Invalid, NotFound, RunInProgress
from chatkeep.ids import new_id
from chatkeep.openai_api import conversation_items, responses
from chatkeep.openai_api.conversation_items import adding, answering, making
from chatkeep.web.openai.inputs import InputOutput, no_call, no_output
from chatkeep.web.openai.items import (
    CONVERSATION,
    RESPONSE,
    answer_items,
    item_id,
    without_prefix,
)
from chatkeep.web.openai.response_objects import said_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chatkeep.db import Database, Query
    from chatkeep.openai_api.conversation_items import NewMessage
    from chatkeep.web.openai.inputs import Given, InputItem

_HISTORY_AT_MOST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Above:
    """What a request goes on from.

    *message_id* None: an empty conversation. Of an answer, *parts* are those that the request
    knows of and *whole* says that there are no more. *shown*: it is the end of the branch that
    is shown. *exact*: what is asked hangs below this message, wherever that branch ends.
    """

    conversation_id: str
    message_id: str | None = None
    parent_id: str | None = None
    run_id: str | None = None
    role: str | None = None
    parts: list[Part] = field(default_factory=list)
    whole: bool = True
    shown: bool = True
    exact: bool = False

    @property
    def calls(self) -> set[str]:
        """The calls that were made in it."""
        return {part.call.call_id for part in self.parts if part.call is not None}


async def below_response(db: Database, user_id: str, response_id: str) -> Above:
    """Return where to go on from a response.

    Raises:
        NotFound: there is none of this id, or it is somebody else's.
        RunInProgress: it has not ended.
    """
    kept = await responses.get(db, user_id, named(RESPONSE, response_id), "response")
    if not kept.ended:
        raise RunInProgress(run_id=kept.id)
    described = await conversation_items.describe(db, user_id, kept.conversation_id)
    return Above(
        conversation_id=kept.conversation_id,
        message_id=kept.message_id,
        parent_id=kept.user_message_id,
        run_id=kept.id,
        role="assistant",
        parts=said_in(kept),
        whole=kept.until is None,
        shown=described.head_id == kept.message_id,
        exact=True,
    )


async def below_conversation(db: Database, user_id: str, conversation_id: str) -> Above:
    """Return where to go on in a conversation: at the end that is shown. Raises `NotFound`."""
    own_id = named(CONVERSATION, conversation_id)
    described = await conversation_items.describe(db, user_id, own_id)
    return await below_message(db, user_id, own_id, described.head_id)


async def below_message(
    db: Database, user_id: str, conversation_id: str, message_id: str | None
) -> Above:
    """Return where to go on below a message, or in what is empty where there is none of the id."""
    found = []
    if message_id is not None:
        found = await conversations.list_messages(db, user_id, conversation_id, [message_id])
    if not found:
        return Above(conversation_id=conversation_id)
    last = found[0]
    parts = unstored(last.content, last.parts) if last.role == "assistant" else []
    return Above(
        conversation_id=conversation_id,
        message_id=last.id,
        parent_id=last.parent_id,
        run_id=last.run_id,
        role=last.role,
        parts=parts,
    )


async def answered_before(
    db: Database, user_id: str, above: Above, items: Sequence[InputItem]
) -> Above | None:
    """Find the answer before *above* that has been told the same outputs of its functions.

    None where *items* have anything else, or *above* itself made the calls.
    """
    told = {one.call_id: one.text for one in items if isinstance(one, InputOutput)}
    if len(told) < len(items) or above.message_id is None or told.keys() <= above.calls:
        return None
    for message in await _branch(db, user_id, above.conversation_id, above.message_id):
        parts = unstored(message.content, message.parts)
        results = {part.result.call_id: part.result.output for part in parts if part.result}
        if told.keys() <= results.keys():
            same = all(results[call_id] == text for call_id, text in told.items())
            place = (above.conversation_id, message.id)
            return await below_message(db, user_id, *place) if same else None
    return None


async def _branch(
    db: Database, user_id: str, conversation_id: str, message_id: str
) -> list[conversations.Message]:
    """Return what was said down to a message, the newest first, as far as there is room for it."""
    ids = await conversations.branch_ids(
        db, user_id, conversation_id, from_id=message_id, limit=_HISTORY_AT_MOST
    )
    listed, _ = await conversations.list_fitting(
        db, user_id, conversation_id, ids, most=BYTES_AT_MOST
    )
    by_id = {one.id: one for one in listed}
    return [by_id[one] for one in ids if one in by_id]


def named(prefix: str, text: str) -> str:
    """Return our own id of what a client names. Raises `NotFound` for any other text."""
    found = without_prefix(prefix, text)
    if found is None or "\x00" in found:
        raise NotFound
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A turn to begin, and the ids of the items that its request brought."""

    turn: Turn
    brought: list[str]


def asked(user_id: str, given: Given, above: Above | None, *, model: str) -> Asked:
    """Return the turn of a request that brings *given* to *above*.

    Raises:
        Invalid: there is nothing to answer, or calls and outputs do not fit.
    """
    decided = settled(given, above)
    if above is not None and decided is not None and not given.messages and not given.begun:
        return _going_on(given, above, decided, model)
    if not given.messages and not (above is not None and above.role == "user"):
        raise Invalid.of("input", "must have something to answer")
    if given.messages and given.messages[-1].role != "user":
        ends = "must end with a message of the user, or with what functions have answered"
        raise Invalid.of("input", ends)
    return _question(user_id, given, above, decided, model)


def settled(given: Given, above: Above | None) -> list[Part] | None:
    """Return the parts of the answer above with what came of its tools; None: nothing did.

    Raises:
        Invalid: it waits for more, or for something else.
    """
    if not given.outputs and not given.approvals:
        return None
    found = list(above.parts) if above is not None else []
    outputs, approvals = dict(given.outputs), dict(given.approvals)
    for index, part in enumerate(found):
        asked_as = item_id("mcpr", above.message_id or "", index) if above is not None else ""
        if part.call is None:
            continue
        if part.approval_id is not None and asked_as in approvals:
            found[index] = replace(part, approved=approvals.pop(asked_as), result=None)
        elif part.approval_id is None and part.call.call_id in outputs:
            found[index] = replace(part, result=outputs.pop(part.call.call_id))
    if outputs:
        raise no_call()
    if approvals:
        raise Invalid.of("input", "has an answer to a question that was not asked")
    if any(part.waits and part.approved is None for part in found):
        raise no_output()
    return found


def _going_on(given: Given, above: Above, decided: list[Part], model: str) -> Asked:
    goes_on = above.whole and above.shown
    message_id = above.message_id if goes_on and above.message_id else new_id()
    kept = stored(decided) or []
    turn = Turn(
        conversation_id=above.conversation_id,
        run_id=new_id(),
        message_id=message_id,
        user_message_id=above.parent_id or "",
        model=model,
        content=None,
        resumed=kept if goes_on else None,
        resumes=above.run_id if goes_on else None,
        begun=None if goes_on else kept,
    )
    return Asked(turn=turn, brought=settled_items(given, above, message_id))


def settled_items(given: Given, above: Above, message_id: str) -> list[str]:
    """Return the ids of what was said to the tools of an answer."""
    found = []
    for index, part in enumerate(above.parts):
        if part.call is None:
            continue
        if part.approval_id is not None:
            if item_id("mcpr", above.message_id or "", index) in given.approvals:
                found.append(item_id("mcpa", message_id, index))
        elif part.call.call_id in given.outputs:
            found.append(item_id("fco", message_id, index))
    return found


def _question(
    user_id: str, given: Given, above: Above | None, decided: list[Part] | None, model: str
) -> Asked:
    before: list[Query[Any]] = []
    brought: list[str] = []
    conversation_id = above.conversation_id if above is not None else new_id()
    if decided is not None:
        assert above is not None  # noqa: S101 -- without it nothing is decided
        before.append(_answered(user_id, given, above, decided))
        brought += settled_items(given, above, above.message_id or "")
    title = title_of(given.messages)
    chain, question = list(given.messages[:-1]), given.messages[-1] if given.messages else None
    parent_id = above.message_id if above is not None else None
    if chain:
        if above is None:
            before.append(making(user_id, conversation_id, title))
        before.append(adding(user_id, conversation_id, chain, below=parent_id))
    message_id = new_id()
    turn = Turn(
        conversation_id=conversation_id,
        run_id=new_id(),
        message_id=message_id,
        user_message_id=question.id if question else parent_id or "",
        model=model,
        content=question.content if question else None,
        parts=question.parts if question else None,
        branches=bool(chain) or bool(above and above.exact),
        parent_id=chain[-1].id if chain else parent_id,
        may_create=above is None and not chain,
        title=title,
        begun=stored(given.begun) if given.begun else None,
        before=before,
    )
    brought += [one for message in given.messages for one in new_ids(message)]
    begun = answer_items(message_id, given.begun, shows_outputs=True)
    return Asked(turn=turn, brought=[*brought, *(str(one["id"]) for one in begun)])


def _answered(user_id: str, given: Given, above: Above, decided: list[Part]) -> Query[Any]:
    if given.approvals or not above.whole:
        alone = "must not have messages beside an answer to an earlier response's question"
        raise Invalid.of("input", alone)
    kept = stored(decided) or []
    return answering(user_id, above.conversation_id, above.message_id or "", kept)


def title_of(messages: Sequence[NewMessage]) -> str | None:
    """Return the title that the first message of the person gives."""
    first = next((one.content for one in messages if one.role == "user"), "")
    return title_from(first)


def new_ids(message: NewMessage) -> list[str]:
    """Return the ids of the items that a new message is."""
    if message.role != "assistant":
        return [item_id("msg", message.id, 0)]
    parts = unstored(message.content, message.parts)
    return [str(one["id"]) for one in answer_items(message.id, parts, shows_outputs=True)]


async def history(
    db: Database, user_id: str, above: Above | None, decided: list[Part] | None
) -> list[Said]:
    """Return what was said down to *above*, its last answer with what its tools said since."""
    if above is None or above.message_id is None:
        return []
    branch = await _branch(db, user_id, above.conversation_id, above.message_id)
    found = [Said(role=one.role, content=one.content, parts=one.parts) for one in reversed(branch)]
    if above.role == "assistant" and found:
        parts = above.parts if decided is None else decided
        text = "".join(part.text for part in parts if part.kind == "text")
        found[-1] = Said(role="assistant", content=text, parts=stored(parts))
    return [one for one in found if one.content or one.parts is not None]


def said_by(given: Given) -> list[Said]:
    """Return what a request brings as history, for an answer that is not kept."""
    found = [Said(role=one.role, content=one.content, parts=one.parts) for one in given.messages]
    if given.begun:
        text = "".join(part.text for part in given.begun if part.kind == "text")
        found.append(Said(role="assistant", content=text, parts=stored(given.begun)))
    return found
