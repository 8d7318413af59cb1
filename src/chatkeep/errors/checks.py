"""Failures of what an application hangs before, behind and in place of the model."""

from __future__ import annotations

from chatkeep.errors.base import ChatkeepError, Unavailable


class MessageRefused(ChatkeepError):
    """The application's check before the model does not take this message."""

    code = "message_refused"
    status = 422
    default_detail = "This message is not answered here. Say it in another way."


class AnswerRefused(ChatkeepError):
    """The application's check after the model does not let the answer be shown."""

    code = "answer_refused"
    status = 422
    default_detail = "The answer to this cannot be shown. Ask for something else."


class CheckFailed(Unavailable):
    """A check of the application's gave no verdict, so nothing goes past it."""

    code = "check_failed"
    default_detail = "This could not be checked, so it is not answered. Try again shortly."


class RetrievalFailed(Unavailable):
    """What the application looks up for a question could not be looked up."""

    code = "retrieval_failed"
    default_detail = "What is needed for an answer could not be looked up. Try again shortly."


class ResponderBroken(ChatkeepError):
    """What answers on this server said something that can neither be kept nor sent."""

    code = "responder_broken"
    status = 500
    default_detail = "The answer broke off by a fault of this server. What was said is kept."
