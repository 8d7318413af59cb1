"""Settings under names that operators chose, beside variables that others chose."""

from __future__ import annotations

import pytest

from chatkeep.config import Settings
from tests.settings import problems_of

NAMED = {
    "OIDC_SHOP": {
        "OIDC_ISSUERS": "shop",
        "OIDC_SHOP_ISSUER": "https://shop.example",
        "OIDC_SHOP_AUDIENCE": "chat",
    },
    "SIGN_IN_SHOP": {
        "SIGN_IN_PROVIDERS": "shop",
        "SIGN_IN_SHOP_ISSUER": "https://shop.example",
        "SIGN_IN_SHOP_CLIENT_ID": "chat",
        "SIGN_IN_SHOP_CLIENT_SECRET": "hunter2",
    },
    "UPSTREAM_SHOP": {
        "UPSTREAMS": "shop",
        "UPSTREAM_SHOP_URL": "https://shop.example/v1",
        "UPSTREAM_SHOP_MODELS": "m",
    },
    "MCP_SHOP": {"MCP_SERVERS": "shop", "MCP_SHOP_URL": "https://shop.example/mcp"},
    "WEBHOOK_SHOP": {
        "WEBHOOKS": "shop",
        "WEBHOOK_SHOP_URL": "https://shop.example",
        "WEBHOOK_SHOP_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    },
}
#: What Kubernetes tells every program of a service that is there.
OF_A_SERVICE = (
    "SERVICE_HOST",
    "SERVICE_PORT",
    "SERVICE_PORT_HTTP_WEB",
    "PORT",
    "PORT_8000_TCP",
    "PORT_8000_TCP_PROTO",
    "PORT_8000_TCP_PORT",
    "PORT_8000_TCP_ADDR",
    "2_SERVICE_HOST",
)


@pytest.mark.parametrize("begins", NAMED)
def test_misspelt_setting_of_a_name_stops_the_start(begins: str) -> None:
    """What was to be narrowed by it would be wide open."""
    for ending in ("ONYL", "PORTS", "SERVICE_HOSTNAME"):
        (problem,) = problems_of({**NAMED[begins], f"{begins}_{ending}": "hunter3"})
        assert problem.startswith(f"{begins}_{ending} is no setting of a")
        assert "hunter" not in problem


@pytest.mark.parametrize("begins", NAMED)
def test_addresses_of_a_service_of_that_name_are_left_alone(begins: str) -> None:
    """Kubernetes gives them to every program beside a service called mcp-shop or mcp-shop-2."""
    told = {f"{begins}_{ending}": "10.0.0.7" for ending in OF_A_SERVICE}
    assert Settings.from_env({**NAMED[begins], **told}) == Settings.from_env(NAMED[begins])
