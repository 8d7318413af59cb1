"""Failures of conversations, and of the models that answer in them."""

from __future__ import annotations

from chatkeep.errors.base import ChatkeepError, Unavailable
from chatkeep.errors.requests import Conflict, NotFound


class NotYourConversation(NotFound):
    """The wording of `NotFound` that the REST conversation routes have promised."""

    code = "conversation_forbidden"
    status = 403
    default_detail = "Conversation does not belong to this user"


class LinkEnded(NotFound):
    """A link to a conversation has expired, was revoked, or never was: all the same."""

    code = "link_ended"
    default_detail = "There is nothing to see here, or not any more. Ask for a new link."


class IdempotencyKeyReused(ChatkeepError):
    """Another request was made with the same key, so this one was not done.

    The `Idempotency-Key` header draft of the IETF, section 2.7, has this status for it.
    """

    code = "idempotency_key_reused"
    status = 422
    default_detail = (
        "Another request was made with this idempotency key or client message id. Use a new one."
    )


class RequestInProgress(Conflict):
    """The same request, by its `Idempotency-Key`, is still being answered."""

    code = "request_in_progress"
    default_detail = "The same request is still being answered. Send it again shortly."


class AnswerNotKept(Conflict):
    """The same request was answered before, and its answer cannot be given again."""

    code = "answer_not_kept"
    default_detail = (
        "This request was done before, and its answer was not kept. Look at what it made."
    )


class RunInProgress(Conflict):
    """The conversation is being answered; `run_id` names the answer that is in the way."""

    code = "run_in_progress"
    default_detail = "This conversation is being answered. Wait for it or stop it first."

    def __init__(self, detail: str | None = None, *, run_id: str = "") -> None:
        """Keep which run it is, for the caller to see and for who wants to join it."""
        super().__init__(detail, run_id=run_id)
        self.run_id = run_id


class AnswerNotInterrupted(Conflict):
    """There is nothing to continue: the answer is whole, failed, or not what is shown last."""

    code = "answer_not_interrupted"
    default_detail = (
        "Only the last answer can be continued, and only if it was stopped, interrupted or ended"
        " by its length limit."
    )


class QueueFull(ChatkeepError):
    """As many questions wait for their turn as may."""

    code = "queue_full"
    status = 429
    default_detail = "Too many of your messages wait to be answered. Wait for one, or cancel it."


class NotWaiting(Conflict):
    """What was to be taken out of the queue has begun or ended."""

    code = "not_waiting"
    default_detail = "This answer does not wait: it has begun or ended."


class BudgetExhausted(ChatkeepError):
    """A budget has too little left; `budget` names it, `resets_at` says when it begins anew."""

    code = "budget_exhausted"
    status = 429
    default_detail = "A budget is used up. GET /api/usage says which, and when it begins anew."


class ModelUnavailable(Unavailable):
    """The model's provider is down, overloaded or unreachable."""

    code = "model_unavailable"
    default_detail = "The model is not available right now. Try again shortly."


class ModelRateLimited(ModelUnavailable):
    """The model's provider limits us."""

    code = "model_rate_limited"
    status = 429
    default_detail = "The model's provider is limiting requests. Try again shortly."


class ModelTimeout(ModelUnavailable):
    """The model's provider did not answer, or stopped answering, in time."""

    code = "model_timeout"
    status = 504
    default_detail = "The model took too long to answer."


class ModelNotOffered(NotFound):
    """The model that was asked for cannot be chosen here."""

    code = "model_not_found"
    default_detail = "This model is not offered here. GET /v1/models lists those that are."


class ModelRefused(ChatkeepError):
    """The model's provider refused the request itself (moderation, context length, ...)."""

    code = "model_refused"
    status = 422
    default_detail = "The model refused this request."


class ModelMisconfigured(ChatkeepError):
    """The provider refuses our own key, credit or model name: never the caller's fault."""

    code = "model_misconfigured"
    status = 502
    default_detail = "The model is not set up correctly on this server."


class ModelBroken(ChatkeepError):
    """The provider's answer broke off or could not be understood."""

    code = "model_broken"
    status = 502
    default_detail = "The model's answer broke off."


class AnswerInterrupted(ChatkeepError):
    """The server that was answering went away; what was said so far is kept."""

    code = "answer_interrupted"
    status = 503
    default_detail = "The answer was interrupted. What was said so far is kept."


def error_named(code: str) -> ChatkeepError:
    """Return the error that was kept by its *code* alone."""
    kinds = [ChatkeepError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    return next((kind for kind in kinds if kind.code == code), ChatkeepError)()
