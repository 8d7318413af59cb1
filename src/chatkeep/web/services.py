"""The services of a running server, handed to every route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends
from starlette.requests import Request

if TYPE_CHECKING:
    from chatkeep.administration.overview import Overviews
    from chatkeep.answering.replies import Replies
    from chatkeep.answering.titling import Titling
    from chatkeep.authentication import Authenticator
    from chatkeep.back_channel_logout import BackChannelLogout
    from chatkeep.chatkit.opening import ChatKit
    from chatkeep.config import Settings
    from chatkeep.db import Database
    from chatkeep.files.stored import StoredFiles
    from chatkeep.idempotency import IdempotencyKeys
    from chatkeep.issuance import EmbeddedIssuer
    from chatkeep.issuers import Issuers
    from chatkeep.job_queue import JobQueue
    from chatkeep.limits import Attempts, Limits
    from chatkeep.mail.templates import Templates
    from chatkeep.offered_models import OfferedModels
    from chatkeep.personal_keys.reading import PersonalKeys
    from chatkeep.preferences import Preferences
    from chatkeep.providers import Providers
    from chatkeep.sessions.cookie_tokens import SessionTokens
    from chatkeep.sessions.foreign import ForeignSessions
    from chatkeep.sessions.refresh_cookies import RefreshCookies
    from chatkeep.sessions.sightings import Sightings
    from chatkeep.sign_in.browser_sessions import BrowserSessions
    from chatkeep.token_binding import Proofs
    from chatkeep.tools import Tools
    from chatkeep.webhooks import Webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What routes need. Opened by the application's lifespan, closed with it."""

    settings: Settings
    db: Database
    issuers: Issuers
    authenticator: Authenticator
    embedded: EmbeddedIssuer
    session_tokens: SessionTokens
    personal_keys: PersonalKeys
    browser_sessions: BrowserSessions
    foreign_sessions: ForeignSessions
    back_channel_logout: BackChannelLogout
    refresh_cookies: RefreshCookies
    proofs: Proofs
    sightings: Sightings
    offered_models: OfferedModels
    preferences: Preferences
    replies: Replies
    titling: Titling
    answered_by_built_in: bool
    tools: Tools
    chatkit: ChatKit
    files: StoredFiles
    idempotency: IdempotencyKeys
    limits: Limits
    attempts: Attempts
    jobs: JobQueue
    webhooks: Webhooks
    providers: Providers
    mail_templates: Templates
    overviews: Overviews


_NOT_STARTED: Final = (
    "Chatkeep has not been started. Where it is mounted in another application, the lifespan of"
    " that one enters `chat.router.lifespan_context(chat)`; a test client is entered itself."
)


def services_of(request: Request) -> Services:
    """Return the services of the application that *request* came to."""
    try:
        found: Services = request.app.state.services
    except AttributeError:
        raise RuntimeError(_NOT_STARTED) from None
    return found


async def _services(request: Request) -> Services:
    # Async, because FastAPI calls anything else in a thread.
    return services_of(request)


#: The services, as a route takes them.
ServicesDep = Annotated[Services, Depends(_services)]
