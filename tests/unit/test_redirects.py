"""Browsers are sent to this server and to what the operator named, however it is spelled."""

from __future__ import annotations

import pytest

from chatkeep.config import Settings
from chatkeep.errors import SetupError
from chatkeep.sign_in.redirects import leading_to, permitted

OWN = "https://chat.example.com"
SETTINGS = Settings.from_env(
    {
        "PUBLIC_URL": OWN,
        "ENVIRONMENT": "production",
        "REDIRECT_URLS": (
            "https://app.example.com/welcome,https://*.preview.example.com/**,"
            "https://tenant.example.com/t/*/done,http://tools.example.com:8080/,"
            "com.example.app://signed-in"
        ),
    }
)
AT_HOME = Settings.from_env({"HOST": "127.0.0.1", "PORT": "8000"})


@pytest.mark.parametrize(
    "wanted",
    [
        OWN,
        f"{OWN}/anywhere?next=1#x",
        "https://CHAT.example.com:443/",
        "https://app.example.com/welcome",
        "https://app.example.com/welcome?from=mail",
        "https://app.example.com:443/welcome#/inside",
        "https://a-1.preview.example.com",
        "https://a-1.preview.example.com/deep/down/",
        "https://tenant.example.com/t/one/done",
        "http://tools.example.com:8080",
        "com.example.app://signed-in",
        "com.example.app://signed-in?x=1",
    ],
)
def test_what_is_named_is_permitted(wanted: str) -> None:
    """The own address, and each pattern with what its stars may stand for."""
    assert permitted(SETTINGS, wanted) == wanted


@pytest.mark.parametrize(
    "wanted",
    [
        None,
        "",
        "/inside",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https:/evil.example",
        "https:evil.example",
        "https:///evil.example",
        "https://evil.example",
        f"https://evil.example/{OWN}",
        f"{OWN}.evil.example/",
        f"{OWN}@evil.example/",
        "https://chat.example.com:x@evil.example/",
        "https://evil.example\\@chat.example.com/",
        "https://evil.example#@chat.example.com/",
        "https://evil.example?@chat.example.com/",
        "https://chat.example.com%2eevil.example/",
        "https://chat.example.com%00.evil.example/",
        "https://chat.example.com\r\nset-cookie: a=b",
        "https://chat.example.com/\nx",
        "https://chat.example.com/ x",
        "https://chat.example.com/\u2028",
        "https://chat.example.com:444/",
        "https://chat.example.com:99999/",
        "https://chat.example.com:0/",
        "https://[::1/",
        "http://chat.example.com/",
        "https://app.example.com/",
        "https://app.example.com/welcome/more",
        "https://app.example.com/welcome/../admin",
        "https://app.example.com/Welcome",
        "https://a.b.preview.example.com/",
        "https://preview.example.com/",
        "https://evil.example/.preview.example.com/",
        "https://x.preview.example.com.evil.example/",
        "https://x.preview.example.com/a/../b",
        "https://x.preview.example.com/a/%2e%2e/b",
        "https://x.preview.example.com/a/..%2fb",
        "https://x.preview.example.com/a/..%5cb",
        "https://tenant.example.com/t/a/b/done",
        "https://tenant.example.com/t/a%2fb/done",
        "http://tools.example.com/",
        "com.example.app://elsewhere",
        "javascript://chat.example.com/%0aalert(1)",
        "data:text/html,x",
        "http://localhost:3000/",
        "http://127.0.0.1/",
        OWN + "/" + "x" * 3000,
    ],
)
def test_everything_else_leads_home(wanted: str | None) -> None:
    """Whatever two programs could read differently, or nobody named, is not gone to."""
    assert permitted(SETTINGS, wanted) == OWN


@pytest.mark.parametrize(
    "wanted",
    [
        "http://localhost:3000/x",
        "https://app.localhost/",
        "http://127.0.0.1:5173",
        "http://127.9.9.9/",
        "http://[::1]:3000/",
    ],
)
def test_this_machine_is_permitted_in_development(wanted: str) -> None:
    """A front end under construction runs on some port here; elsewhere stays elsewhere."""
    assert permitted(AT_HOME, wanted) == wanted
    for other in ("http://localhost.evil.example/", "http://128.0.0.1/", "ftp://localhost/"):
        assert permitted(AT_HOME, other) == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    "pattern",
    [
        "app.example.com",
        "https://*/",
        "https://*.com/**",
        "https://app.*/",
        "https://user@app.example.com/",
        "https://app.example.com/?x=1",
        "https://app.example.com/#x",
        "javascript://x/",
        "file:///etc/passwd",
    ],
)
def test_patterns_that_name_nobody_are_refused(pattern: str) -> None:
    """The server does not start with a pattern that stands for anybody."""
    with pytest.raises(SetupError, match="REDIRECT_URLS"):
        Settings.from_env({"REDIRECT_URLS": pattern})


def test_what_is_carried_is_encoded() -> None:
    """A query is added to, a fragment is replaced, and no value breaks out of its place."""
    assert leading_to("https://a.example", query={"code": "x&y#z"}) == (
        "https://a.example/?code=x%26y%23z"
    )
    assert leading_to("https://a.example/p?q=1#old", query={"code": "c"}) == (
        "https://a.example/p?q=1&code=c#old"
    )
    assert leading_to("https://a.example/p#old", fragment={"message": "a b\r\n"}) == (
        "https://a.example/p#message=a%20b%0D%0A"
    )
    assert leading_to("app://done", query={"code": "c"}) == "app://done?code=c"
