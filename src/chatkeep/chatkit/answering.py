"""Our own ChatKit server: what it answers with is the engine that answers every surface.

The question is kept first, then a run answers it; hanging up stops the run, or leaves it be.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chatkit.errors import CustomStreamError
from chatkit.server import ChatKitServer
from chatkit.types import (
    ClientToolCallItem,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    ThreadItem,
    UserMessageItem,
)

from chatkeep import conversations
from chatkeep.answering import decisions
from chatkeep.answering.parts import unstored
from chatkeep.answering.reading import Ended, failure_of
from chatkeep.answering.titles import title_from
from chatkeep.answering.turns import Turn
from chatkeep.chatkit import items
from chatkeep.chatkit.context import ChatKitContext
from chatkeep.chatkit.encoding import AnswerEncoder
from chatkeep.errors import ChatkeepError, Unavailable
from chatkeep.ids import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from chatkit.types import InferenceOptions, ThreadMetadata, ThreadStreamEvent

    from chatkeep.answering.answers import Answer
    from chatkeep.answering.replies import Replies
    from chatkeep.chatkit.attachments import KeptAttachments
    from chatkeep.chatkit.store import ConversationStore
    from chatkeep.conversations import AnswerShown
    from chatkeep.db import Database
    from chatkeep.offered_models import OfferedModels
    from chatkeep.policies import Choices
    from chatkeep.preferences import Preferences
    from chatkeep.runs import Ending
    from chatkeep.tools import Tools


class Engine:
    """What answers: the parts of the server that our own ChatKit server works with."""

    def __init__(
        self,
        db: Database,
        replies: Replies,
        *,
        preferences: Preferences,
        offered_models: OfferedModels,
        tools: Tools,
    ) -> None:
        """Name the parts."""
        self.db = db
        self.replies = replies
        self.preferences = preferences
        self.offered_models = offered_models
        self.tools = tools

    def runs_in_client(self, tool: str) -> bool:
        """Whether the client itself runs *tool*."""
        known = self.tools.find(tool)
        return known is not None and known.function is None

    async def choices(self, context: ChatKitContext, options: InferenceOptions | None) -> Choices:
        """Return how to answer.

        Raises:
            Invalid: the operator does not allow it.
            ModelUnavailable: nobody who could answer is up.
        """
        profile = await self.preferences.get_profile(context.who.user_id)
        wishes = {"model": options.model if options else None}
        chosen = await self.offered_models.choose(context.who, profile, wishes)
        if (refused := self.offered_models.refusal(chosen.settings.model)) is not None:
            raise refused
        if options and options.tool_choice:
            wanted = {"type": "function", "function": {"name": options.tool_choice.id}}
            chosen = replace(chosen, settings=replace(chosen.settings, tool_choice=wanted))
        if context.locale is None:
            return chosen
        hint = f"The person's language is {context.locale}."
        said = f"{chosen.system_prompt}\n\n{hint}" if chosen.system_prompt else hint
        return replace(chosen, system_prompt=said)


class EngineServer(ChatKitServer[ChatKitContext]):
    """Answers with runs: kept while they are made, one at a time in a thread."""

    def __init__(
        self, store: ConversationStore, attachments: KeptAttachments, engine: Engine
    ) -> None:
        """Answer with *engine*."""
        super().__init__(store, attachments)
        self._engine = engine

    async def respond(
        self,
        thread: ThreadMetadata,
        input_user_message: UserMessageItem | None,
        context: ChatKitContext,
    ) -> AsyncGenerator[ThreadStreamEvent, None]:
        """Answer the question, or go on with the answer whose tools have answered."""
        try:
            turn, choices = await self._turn(thread, input_user_message, context)
            if turn is None:
                return  # of several tools some still wait
            answer = await self._begin(turn, choices, context)
        except ChatkeepError as error:
            raise _told(error) from error
        encoder = AnswerEncoder(
            thread.id, answer.address.message_id, runs_in_client=self._engine.runs_in_client
        )
        async with aclosing(answer.follow(only_new=True)) as events:
            async for event in events:
                for shown in encoder.encode(event):
                    yield shown
                if isinstance(event, Ended):
                    await self._entitle(thread, context)
                    _raise_failure(event.ending)

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: ChatKitContext
    ) -> None:
        """Stop the run, which keeps what was said itself, and wait until it has."""
        del pending_items
        if context.progress.answer is not None:
            await asyncio.wait([context.progress.answer])
            await self._engine.replies.stop(context.who.user_id, thread.id)

    async def _begin(self, turn: Turn, choices: Choices, context: ChatKitContext) -> Answer:
        """Begin the run, whole even when the reader leaves meanwhile: then it can be stopped."""
        context.progress.kept.add(turn.message_id)
        begun = asyncio.create_task(self._engine.replies.begin(context.who, turn, choices))
        context.progress.answer = begun
        return await asyncio.shield(begun)

    async def _turn(
        self, thread: ThreadMetadata, question: UserMessageItem | None, context: ChatKitContext
    ) -> tuple[Turn | None, Choices]:
        engine = self._engine
        choices = await engine.choices(context, question.inference_options if question else None)
        if question is None:
            return await self._resumed(thread, choices, context), choices
        if thread.title is None:
            thread.title = title_from("".join(one.text for one in question.content))
        turn = Turn(
            conversation_id=thread.id,
            run_id=new_id(),
            message_id=self.store.generate_item_id("message", thread, context),
            user_message_id=question.id,
            model=choices.settings.model,
            content=None,
        )
        return turn, choices

    async def _resumed(
        self, thread: ThreadMetadata, choices: Choices, context: ChatKitContext
    ) -> Turn | None:
        """Go on with the answer at the end of the thread, once nothing of it waits."""
        found = await conversations.find_answer(
            self._engine.db, context.who.user_id, thread.id, None
        )
        if found is None:
            raise decisions.waits_for_nothing()
        said = await self._said(thread.id, found, context)
        if said is None:
            return None
        return Turn(
            conversation_id=thread.id,
            run_id=new_id(),
            message_id=found.id,
            user_message_id=found.parent_id,
            model=choices.settings.model,
            content=None,
            resumed=decisions.resolved(found.parts, said),
            resumes=found.run_id,
        )

    async def _said(
        self, thread_id: str, found: AnswerShown, context: ChatKitContext
    ) -> list[dict[str, Any]] | None:
        """What was said to the tools that wait; None while some have heard nothing."""
        page = await self.store.load_thread_items(thread_id, None, 100, "desc", context)
        here = {item.id: item for item in page.data}
        said: list[dict[str, Any]] = []
        for index, part in enumerate(unstored("", found.parts)):
            if not part.waits or part.call is None:
                continue
            name = f"{found.id}.{index}"
            item = here.get(f"{name}a") if part.approval_id else here.get(name)
            match item:
                case StructuredInputItem(status="pending") | ClientToolCallItem(status="pending"):
                    return None
                case StructuredInputItem():
                    approval = {"id": part.approval_id, "approved": _allowed(item)}
                    said.append({"toolCallId": part.call.call_id, "approval": approval})
                case ClientToolCallItem(output=output):
                    said.append(_output(part.call.call_id, output))
                case _:
                    said.append(_unanswered(part.call.call_id))
        return said

    async def _entitle(self, thread: ThreadMetadata, context: ChatKitContext) -> None:
        """Take over the title that the answer gave the thread."""
        if thread.title is None:
            thread.title = (await self.store.load_thread(thread.id, context)).title


def _allowed(item: StructuredInputItem) -> bool:
    return any(
        isinstance(one, StructuredInputMultipleChoice)
        and one.answer is not None
        and one.answer.values == [items.ALLOW]
        for one in item.inputs
    )


def _output(call_id: str, output: object) -> dict[str, Any]:
    return {"toolCallId": call_id, "state": "output-available", "output": output}


def _unanswered(call_id: str) -> dict[str, Any]:
    told = "The tool was not run."
    return {"toolCallId": call_id, "state": "output-error", "errorText": told}


def _raise_failure(ending: Ending) -> None:
    failure = failure_of(ending)
    if failure is not None:
        raise _told(failure)


def _told(error: ChatkeepError) -> CustomStreamError:
    return CustomStreamError(error.detail, allow_retry=isinstance(error, Unavailable))
