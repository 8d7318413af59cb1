"""`/auth/v1`: signing in with other providers, and linking them to an account.

A browser goes to `/authorize`, from there to the provider, comes back to `/callback` and
goes on to the application. An application that was given an ID token shows it to `/token`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from chatkeep.errors import (
    BadIdToken,
    BadOAuthCallback,
    BadOAuthState,
    BadRequest,
    ChatkeepError,
    InsufficientAal,
    Invalid,
    ManualLinkingDisabled,
    ReauthenticationNeeded,
    UnsupportedMediaType,
)
from chatkeep.providers import Proof, Provider, Returned, Sent, flows, linking
from chatkeep.providers.flows import Flow, Linking
from chatkeep.sign_in import authorization_codes, redirects
from chatkeep.web.auth import Anybody
from chatkeep.web.gotrue.answers import json_answer, session_answer
from chatkeep.web.gotrue.bodies import (
    IdTokenBody,
    SignUpBody,
    challenge_of,
    read_body,
)
from chatkeep.web.gotrue.callers import Issuer, SignedInHere, device_of, here_of, limited
from chatkeep.web.gotrue.errors import GoTrueRoute, Refusal, Refused, described
from chatkeep.web.gotrue.provider_flows import (
    browser_of,
    browser_of_own_page,
    browser_or_new,
    elsewhere_on_this_machine,
    left_a_page_of,
    sent_away,
    sent_to,
    signed_in,
    told,
    told_who,
)
from chatkeep.web.services import services_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.issuance import EmbeddedIssuer, Here
    from chatkeep.one_time_tokens import Challenge

router = APIRouter(prefix="/auth/v1", route_class=GoTrueRoute, tags=["Supabase Auth"])

#: To link a provider, somebody must have signed in this lately (ASVS 7.5.1).
FRESH: Final = timedelta(minutes=30)
_NOT_ENABLED = Refusal(400, "validation_failed", "Unsupported provider: provider is not enabled")
_DISABLED = Refusal(400, "provider_disabled", "Provider is not enabled")
#: Ours; everything else in the query is for the provider.
_OURS: Final = frozenset(
    {
        *("provider", "redirect_to", "scopes", "skip_http_redirect", "invite_token", "ticket"),
        *("code_challenge", "code_challenge_method", "apikey"),
    }
)
_MORE_AT_MOST: Final = 20
_LONGEST: Final = 500
_FORM_AT_MOST: Final = 65_536
#: What a provider's form may bring along into the address of the page behind it.
_OF_A_FORM: Final[tuple[str, ...]] = ("state", "code", "error", "iss", "user")

_FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "properties": {name: {"type": "string"} for name in _OF_A_FORM},
                }
            }
        },
    }
}

ProviderName = Annotated[str, Query(description="A configured provider, such as `google`.")]
RedirectTo = Annotated[
    str | None, Query(description="Where the browser goes at last; see `REDIRECT_URLS`.")
]
Scopes = Annotated[str, Query(description="Further scopes for the provider.")]
CodeChallenge = Annotated[str | None, Query(description="With PKCE (RFC 7636).")]
SkipRedirect = Annotated[str, Query(description="`true` to be told and not sent.")]
IdentityId = Annotated[str, Path(description="The `identity_id` of one of the caller's.")]
ChallengeMethod = Annotated[str | None, Query(description="`s256` or `plain`.")]


@router.get(
    "/authorize",
    dependencies=[limited("authorize")],
    status_code=302,
    response_class=Response,
    responses=described(400, 429, 503),
)
async def authorize(
    _: Anybody,
    request: Request,
    provider: ProviderName = "",
    redirect_to: RedirectTo = None,
    scopes: Scopes = "",
    code_challenge: CodeChallenge = None,
    code_challenge_method: ChallengeMethod = None,
) -> Response:
    """Send the browser to a provider to sign in there; it comes back to `/callback`."""
    if (there := elsewhere_on_this_machine(request)) is not None:
        return sent_to(there)
    asked = _provider(request, provider)
    services, browser = services_of(request), browser_or_new(request)
    if (ticket := request.query_params.get("ticket")) is not None:
        return await _go_to_link(request, ticket, scopes)
    flow = Flow(
        provider=asked.name,
        redirect_to=redirects.permitted(services.settings, redirect_to),
        challenge=_challenge(code_challenge, code_challenge_method),
    )
    state = await flows.begin(services.db, flow, browser=browser)
    return await _gone(request, asked, state, browser, scopes)


async def _go_to_link(request: Request, ticket: str, scopes: str) -> Response:
    """Open a flow that its owner has begun, if this is their browser."""
    services, browser = services_of(request), browser_or_new(request)
    try:
        left = partial(left_a_page_of, request)
        flow = await flows.open_in(services.db, ticket, browser=browser, may_begin=left)
    except BadOAuthState as error:
        return told(services.settings.base_url, error)
    return await _gone(request, _provider(request, flow.provider), ticket, browser, scopes)


async def _gone(
    request: Request, asked: Provider, state: str, browser: str, scopes: str
) -> Response:
    known = flows.secrets_of(_key(request), state)
    sent = Sent(
        state=state,
        nonce=known.nonce,
        verifier=known.verifier,
        scopes=_scopes(scopes),
        more=_more(request),
    )
    return sent_away(request, await asked.authorization_url(sent), browser)


@router.post(
    "/callback",
    status_code=303,
    response_class=Response,
    openapi_extra=_FORM,
    responses=described(400, 413, 415),
)
async def form(_: Anybody, request: Request) -> Response:
    """Take a provider's form as the query it could have been.

    No cookie comes with a form from another site; with the page behind it, it does.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("Send the form as application/x-www-form-urlencoded.")
    raw = await request.body()
    if len(raw) > _FORM_AT_MOST:
        raise BadRequest("The form is too long")
    try:
        said = dict(parse_qsl(raw.decode("ascii"), max_num_fields=20))
    except ValueError as error:
        raise BadRequest("The form cannot be read") from error
    kept = {name: said[name] for name in _OF_A_FORM if name in said}
    home = services_of(request).settings.base_url
    return sent_to(f"{home}/auth/v1/callback?{urlencode(kept)}", status=303)


@router.get(
    "/callback",
    dependencies=[limited("authorize")],
    status_code=302,
    response_class=Response,
    responses=described(429, 503),
)
async def callback(_: Anybody, request: Request, issuer: Issuer) -> Response:
    """Take the browser back from a provider, and send it on with a code, tokens, or an error."""
    services = services_of(request)
    address = services.settings.base_url
    try:
        state, browser = request.query_params.get("state"), browser_of(request)
        if state is None or browser is None:
            raise BadOAuthState
        flow = await flows.take(services.db, state, browser=browser)
        address = flow.redirect_to
        return await _come_back(request, issuer, flow, state)
    except (ChatkeepError, Refused) as error:
        code = error.refusal.code if isinstance(error, Refused) else error.code
        issuer.notices.note("session.begun", reason=code)
        return told(address, error)


async def _come_back(request: Request, issuer: EmbeddedIssuer, flow: Flow, state: str) -> Response:
    proof = await _proof(request, flow, state)
    subject = await _account(issuer, proof, flow.linking)
    method = f"oauth:{flow.provider}"
    if flow.challenge is None:
        device = await device_of(request)
        grant = await issuer.begin(subject, method, device, begun_with=proof.session)
        return signed_in(flow.redirect_to, replace(grant, provider_tokens=proof.tokens))
    code = await authorization_codes.issue(
        issuer,
        subject,
        method,
        flow.challenge,
        provider_tokens=proof.tokens,
        begun_with=proof.session,
    )
    return sent_to(redirects.leading_to(flow.redirect_to, query={"code": code}))


async def _proof(request: Request, flow: Flow, state: str) -> Proof:
    said = request.query_params
    if "error" in said:
        raise BadOAuthCallback(
            "The provider did not sign you in, or you did not want it to", error="access_denied"
        )
    if not said.get("code"):
        raise BadOAuthCallback
    known = flows.secrets_of(_key(request), state)
    returned = Returned(
        code=said["code"],
        issuer=said.get("iss"),
        nonce=known.nonce,
        verifier=known.verifier,
        user=said.get("user"),
    )
    return await _provider(request, flow.provider).proof(returned)


async def _account(issuer: EmbeddedIssuer, proof: Proof, asked: Linking | None) -> UUID:
    if asked is None:
        return await linking.account_of(issuer, proof)
    return await linking.link(issuer, proof, asked)


async def by_id_token(request: Request, issuer: EmbeddedIssuer) -> Response:
    """Exchange an ID token that an application was given for a session, or link it."""
    body = await read_body(request, IdTokenBody)
    try:
        proof = await _shown_proof(request, body)
        wanted = await _wanted_link(request) if body.link_identity else None
        if proof.shown is not None:
            await linking.note_shown(issuer, proof.shown)
    except BadIdToken as error:
        issuer.notices.note("session.begun", reason=error.code)
        return _oauth_error(error)
    subject = await _account(issuer, proof, wanted)
    method, device = f"oauth:{proof.provider}", await device_of(request)
    return session_answer(await issuer.begin(subject, method, device, begun_with=proof.session))


async def _shown_proof(request: Request, body: IdTokenBody) -> Proof:
    if not body.id_token:
        raise BadIdToken("id_token required")
    known = services_of(request).providers
    provider = known.find(body.provider or "") or known.find_issuer(body.issuer)
    if provider is None:
        raise Refused(_DISABLED)
    return await provider.proof_of_id_token(
        body.id_token, nonce=body.nonce or None, access_token=body.access_token or None
    )


def _oauth_error(error: BadIdToken) -> Response:
    """Word it as Supabase Auth does for this grant alone: as OAuth (RFC 6749 section 5.2)."""
    said = {"error": error.error, "error_description": error.detail}
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(said), 400, headers, media_type="application/json")


# --- linking, and unlinking -----------------------------------------------------------------


@router.get(
    "/user/identities/authorize",
    dependencies=[limited("authorize")],
    responses=described(400, 401, 403, 404, 429, 503) | {302: {"description": "Found"}},
)
async def link_identity(
    here: SignedInHere,
    request: Request,
    provider: ProviderName = "",
    redirect_to: RedirectTo = None,
    scopes: Scopes = "",
    code_challenge: CodeChallenge = None,
    code_challenge_method: ChallengeMethod = None,
    skip_http_redirect: SkipRedirect = "",
) -> Response:
    """Say where the browser goes to link a provider to the caller's account."""
    services = services_of(request)
    flow = Flow(
        provider=_provider(request, provider).name,
        redirect_to=redirects.permitted(services.settings, redirect_to),
        challenge=_challenge(code_challenge, code_challenge_method),
        linking=await _linking(request, here),
    )
    browser = browser_of_own_page(request)
    ticket = await flows.begin(services.db, flow, browser=browser)
    asked = {**_more(request), "provider": flow.provider, "scopes": scopes, "ticket": ticket}
    url = f"{services.settings.base_url}/auth/v1/authorize?{urlencode(asked)}"
    answer = json_answer({"url": url}) if skip_http_redirect == "true" else sent_to(url)
    return answer if browser is None else told_who(request, answer, browser)


@router.delete("/user/identities/{identity_id}", responses=described(400, 401, 403, 404, 422, 503))
async def unlink_identity(
    here: SignedInHere, request: Request, issuer: Issuer, identity_id: IdentityId
) -> Response:
    """Unlink an identity from the caller's account; the last one stays."""
    _require_linking(request, here)
    try:
        wanted = UUID(identity_id)
    except ValueError as error:
        raise Invalid("identity_id must be an UUID") from error
    await linking.unlink(issuer, here, wanted)
    return json_answer({})


async def _wanted_link(request: Request) -> Linking:
    return await _linking(request, await here_of(request))


async def _linking(request: Request, here: Here) -> Linking:
    """Return what a person asks for who wants to link a provider, if they may now.

    Raises:
        ReauthenticationNeeded: they signed in too long ago.
    """
    _require_linking(request, here)
    newest = max((float(one.get("timestamp", 0)) for one in here.session.amr), default=0.0)
    now = await services_of(request).db.now()
    if newest < (now - FRESH).timestamp():
        raise ReauthenticationNeeded("Sign in again before you link another provider")
    return Linking(user_id=here.user.id, session_id=here.session.id)


def _require_linking(request: Request, here: Here) -> None:
    if not services_of(request).settings.manual_linking:
        raise ManualLinkingDisabled
    if here.user.has_second_factor and here.aal != "aal2":
        raise InsufficientAal


# --- what was asked -------------------------------------------------------------------------


def _provider(request: Request, name: str) -> Provider:
    found = services_of(request).providers.find(name)
    if found is None:
        raise Refused(_NOT_ENABLED)
    return found


def _challenge(text: str | None, method: str | None) -> Challenge | None:
    # The rules of a sign-up's are those of every flow's.
    return challenge_of(SignUpBody(code_challenge=text, code_challenge_method=method))


def _scopes(text: str) -> tuple[str, ...]:
    if len(text) > _LONGEST or not text.isascii() or not text.isprintable():
        raise Invalid("The scopes cannot be used")
    return tuple(text.replace(",", " ").split())


def _more(request: Request) -> Mapping[str, str]:
    """Return what the application has to say to the provider, such as `prompt`."""
    more = {name: value for name, value in request.query_params.items() if name not in _OURS}
    if len(more) > _MORE_AT_MOST or any(len(one) > _LONGEST for one in more.values()):
        raise Invalid("There are too many parameters, or one is too long")
    return more


def _key(request: Request) -> bytes:
    return services_of(request).embedded.derived("sign-in flows")
