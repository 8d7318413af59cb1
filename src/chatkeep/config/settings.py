"""All settings, in one frozen value that was checked as a whole.

`Settings.from_env` returns it or raises a `SetupError` that lists every problem at once,
naming settings and never their secret values.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from chatkeep.config.accounts import AccountSettings
from chatkeep.config.administration import AdministrationSettings
from chatkeep.config.budgets import BudgetSettings
from chatkeep.config.chatkit import ChatKitSettings
from chatkeep.config.chats import ChatSettings
from chatkeep.config.contradictions import contradictions
from chatkeep.config.extensions import ExtensionSettings
from chatkeep.config.factors import FactorSettings
from chatkeep.config.files import FileSettings
from chatkeep.config.issuers import IssuerSettings
from chatkeep.config.keys import KeySettings
from chatkeep.config.mail import MailSettings
from chatkeep.config.mcp import McpSettings, read_mcp_servers
from chatkeep.config.metrics import MetricsSettings
from chatkeep.config.providers import OPENID, OpenIdProvider, named_providers, openid_settings
from chatkeep.config.reading import read_setting
from chatkeep.config.server import ServerSettings
from chatkeep.config.sessions import SessionSettings
from chatkeep.config.sign_in import SignInSettings
from chatkeep.config.sign_in_providers import SignInProviderSettings, named_sign_in_providers
from chatkeep.config.upstreams import UpstreamSettings, read_upstreams
from chatkeep.config.webhooks import WebhookSettings, read_webhooks
from chatkeep.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Settings(
    ChatSettings,
    UpstreamSettings,
    ExtensionSettings,
    McpSettings,
    WebhookSettings,
    ChatKitSettings,
    FileSettings,
    BudgetSettings,
    AccountSettings,
    SignInSettings,
    SignInProviderSettings,
    FactorSettings,
    AdministrationSettings,
    IssuerSettings,
    SessionSettings,
    KeySettings,
    MailSettings,
    MetricsSettings,
    ServerSettings,
):
    """Everything an operator can choose. Empty values count as not set."""

    #: Whether somebody said which environment this is; the development header needs it.
    environment_is_explicit: bool = False
    #: Those that OIDC_ISSUERS names.
    named_providers: tuple[OpenIdProvider, ...] = ()

    @classmethod
    def from_env(cls, environ: Mapping[str, str], **overrides: object) -> Settings:
        """Read and check every setting of *environ*; *overrides* (command line) win.

        Raises:
            SetupError: with one sentence per problem.
        """
        problems: list[str] = []
        values: dict[str, Any] = {}
        for one in fields(cls):
            if one.metadata:
                read_setting(one.name, one.metadata, environ, values, problems)
        explicit = "environment" in values
        named = named_providers(cls, values.get("oidc_issuers", ()), environ, problems)
        names = values.get("sign_in_provider_names", ())
        upstreams = values.get("upstream_names", ())
        values["said_of_upstreams"] = read_upstreams(upstreams, environ, problems)
        values["named_sign_in_providers"] = named_sign_in_providers(names, environ, problems)
        mcp_servers = values.get("mcp_server_names", ())
        values["mcp_servers"] = read_mcp_servers(mcp_servers, environ, problems)
        values["webhooks"] = read_webhooks(values.get("webhook_names", ()), environ, problems)
        values.update({name: value for name, value in overrides.items() if value is not None})
        if not problems:
            settings = cls(**values, environment_is_explicit=explicit, named_providers=named)
            problems = contradictions(settings)
        if problems:
            raise SetupError(*problems)
        return settings

    @property
    def production(self) -> bool:
        """Whether unsafe conveniences are refused."""
        return self.environment == "production"

    @property
    def mail_enabled(self) -> bool:
        """Whether mail reaches anybody: through a mail server, or development's outbox."""
        return self.smtp_url is not None or not self.production

    @property
    def autoconfirm(self) -> bool:
        """Whether an address counts as confirmed without a mail."""
        if self.mailer_autoconfirm is not None:
            return self.mailer_autoconfirm
        return not (self.production and self.mail_enabled)

    @property
    def openid_providers(self) -> tuple[OpenIdProvider, ...]:
        """Every OpenID provider: the one without a name of its own first."""
        if self.oidc_issuer is None:
            return self.named_providers
        said = {
            one.name.removeprefix(OPENID): getattr(self, one.name)
            for one in openid_settings(type(self))
            if getattr(self, one.name) is not None
        }
        return (OpenIdProvider(name="oidc", **said), *self.named_providers)

    @property
    def issuer_names(self) -> tuple[str, ...]:
        """Every issuer whose tokens are taken; the first is the primary one unless said."""
        supabase = bool(self.supabase_project_url or self.supabase_jwt_secret)
        better_auth = bool(self.better_auth_url or self.better_auth_issuer)
        return (
            *(["supabase"] if supabase else []),
            *(["better-auth"] if better_auth else []),
            *(one.name for one in self.openid_providers),
            "embedded",
        )

    @property
    def base_url(self) -> str:
        """The address people use, without a slash at the end."""
        if self.public_url:
            return self.public_url
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 -- a comparison, not a bind
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
