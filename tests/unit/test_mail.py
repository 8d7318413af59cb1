"""Mail: what it says, what it refuses to say, and how it is sealed."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

import chatkeep
from chatkeep.accounts.addresses import normal_address
from chatkeep.config import Settings
from chatkeep.errors import SetupError
from chatkeep.mail import Kind, Mail, Outgoing, outgoing_mail, queued
from chatkeep.mail.messages import message, on_the_wire
from chatkeep.mail.outgoing import Posted
from chatkeep.mail.rendering import rendered
from chatkeep.mail.smtp import mail_server
from chatkeep.mail.templates import KINDS, load_templates

if TYPE_CHECKING:
    from chatkeep.mail.rendering import Rendered

HOME = "https://chat.example"
LINK = f"{HOME}/auth/v1/verify?token=abc&type=signup"
SECRET = b"a secret of tests, long enough for keys"
OURS = load_templates(None)


def a_mail(kind: Kind = "magic_link", **others: str | None) -> Mail:
    """Return a mail with everything that a kind may name."""
    said: dict[str, str | None] = {
        "link": LINK,
        "code": "314159",
        "new_email": "new@example.com",
        "old_email": "old@example.com",
        "provider": "GitHub",
        "factor": "authenticator app",
        **others,
    }
    to = said.pop("to", None) or "ana@example.com"
    return Mail(kind=kind, to=to, locale=said.pop("locale", None) or "en", **said)


def shown(mail: Mail, *, product: str = "Chatkeep") -> Rendered:
    """Return *mail* in our own words."""
    return rendered(mail, OURS, product=product, home=HOME)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_is_sent(kind: Kind) -> None:
    """Somebody queues it, beside the list of kinds: no template waits for a mail that never is."""
    package = Path(chatkeep.__file__).parent
    texts = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert [path for path, text in texts.items() if f'"{kind}"' in text and path.name != "mails.py"]


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_has_words(kind: Kind) -> None:
    """Each kind says the link and the code in both parts, and leaves no placeholder."""
    content = shown(a_mail(kind))
    for part in (content.text, content.html.replace("&amp;", "&")):
        assert LINK in part
        assert "314159" in part
        assert "$" not in part
    assert content.subject
    assert "\n" not in content.subject


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_stands_without_details(kind: Kind) -> None:
    """What is not known is left out, with the paragraph that would name it."""
    content = shown(Mail(kind=kind, to="ana@example.com"))
    assert "None" not in content.text
    assert "$" not in content.text + content.html
    assert "http" not in content.text.replace(HOME, "")


def test_values_cannot_write_html() -> None:
    """Names that somebody chose stay text, in the mail and in attributes."""
    evil = '"><img src=x onerror=alert(1)>'
    content = shown(a_mail("factor_added", factor=evil), product="<b>Shop</b>")
    assert "<img" not in content.html
    assert "<b>Shop" not in content.html
    link = f'{HOME}/"><script>alert(1)</script>'
    assert "<script" not in shown(a_mail(link=link)).html


def test_values_cannot_write_a_letter_of_their_own() -> None:
    """A name is one short line, so that nobody can phish in our name with it."""
    evil = "phone\n\nYour account is closed. Call +1 555 0100 now.\n" + "x" * 500
    text = shown(a_mail("factor_added", factor=evil)).text
    assert "\nYour account" not in text
    assert "x" * 80 not in text


@pytest.mark.parametrize(
    "address",
    ["ana@example.com\r\nBcc: bo@example.com", "ana@example.com\n", "ana\x00@example.com", "ana"],
)
def test_line_break_in_an_address_becomes_no_header(address: str) -> None:
    """E-mail header injection stops where the mail is made."""
    with pytest.raises(ValueError, match="not one address"):
        a_mail(to=address)
    with pytest.raises(ValueError, match="not an address"):
        message(shown(a_mail()), to=address, **_sender())


@pytest.mark.parametrize(
    "address",
    [
        "ana@example.com,bo@example.com",
        "ana@example.com bo@example.com",
        "<ana@example.com>",
        "Ana <ana@example.com>",
        '"ana@example.com"@example.org',
        "ana@@example.com",
    ],
)
def test_mail_has_one_recipient(address: str) -> None:
    """Nobody gets somebody else's link sent to themselves as well."""
    with pytest.raises(ValueError, match="not one address"):
        a_mail(to=address)


def test_domain_goes_out_in_ascii() -> None:
    """A mail server without SMTPUTF8 takes mail for any domain."""
    assert on_the_wire("ana@bücher.example") == "ana@xn--bcher-kva.example"
    made = message(shown(a_mail()), to="ana@bücher.example", **_sender())
    assert made["To"] == "ana@xn--bcher-kva.example"
    with pytest.raises(ValueError, match="Label"):
        on_the_wire("ana@.example")


@pytest.mark.parametrize(
    "address", ["ana@straße.example", "ana@βόλος.example", "ana@fa\u1e9e.test"]
)
def test_mail_goes_to_no_domain_but_the_accounts_own(address: str) -> None:
    """`straße` and `strasse` have two owners, who would get each other's links (RFC 5894, 7.2)."""
    kept = normal_address(address)
    assert normal_address(on_the_wire(kept)) == kept
    assert on_the_wire(on_the_wire(kept)) == on_the_wire(kept)


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\x85", "\u2028", "\x0b"])
def test_line_break_in_a_name_or_subject_becomes_no_header(break_: str) -> None:
    """Whatever ends a line somewhere is refused or encoded; never a header of its own."""
    evil = f"Shop{break_}Bcc: bo@example.com"
    content = replace(shown(a_mail()), subject=evil)
    for name, subject in ((evil, "Hello"), ("Shop", evil)):
        try:
            made = message(
                replace(content, subject=subject),
                to="ana@example.com",
                **(_sender() | {"sender_name": name}),
            )
        except ValueError:
            continue
        parsed = message_from_bytes(bytes(made), policy=default)
        assert parsed["Bcc"] is None
        assert b"\nBcc:" not in bytes(made).replace(b"\r", b"\n")


def test_message_says_that_a_machine_sent_it() -> None:
    """No vacation notice answers it, and the same mail has the same id each time."""
    made = message(shown(a_mail()), to="ana@example.com", **_sender())
    again = message(shown(a_mail()), to="ana@example.com", **_sender())
    assert made["Auto-Submitted"] == "auto-generated"
    assert made["Message-ID"] == again["Message-ID"]
    assert made["Date"].datetime.year == 2001
    (sender,) = made["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Grüße & Co.", "no-reply@example.com")


def _sender() -> dict[str, Any]:
    return {
        "sender": "no-reply@example.com",
        "sender_name": "Grüße & Co.",
        "at": 1_000_000_000.0,
        "identity": "one",
    }


def test_sealed_mail_opens_with_the_same_secret_only() -> None:
    """Another server's secret, or one changed bit, opens nothing."""
    outgoing = outgoing_mail(Settings(), SECRET)
    posted = Posted(mail=a_mail(), at=1.5)
    sealed = outgoing.sealed(posted)
    assert outgoing.opened(sealed) == posted
    assert outgoing.sealed(posted) != sealed
    assert outgoing_mail(Settings(), b"another " + SECRET).opened(sealed) is None
    bent = ("A" if sealed[30] != "A" else "B").join((sealed[:30], sealed[31:]))
    assert outgoing.opened(bent) is None
    for nothing in ("", "A", "é", "AAAA"):
        assert outgoing.opened(nothing) is None


def test_secrets_of_mail_are_in_no_repr() -> None:
    """Neither links and codes nor the key reach a log by accident."""
    outgoing = outgoing_mail(Settings(), SECRET)
    said = f"{a_mail()!r} {outgoing!r} {Posted(mail=a_mail(), at=1)!r}"
    assert "314159" not in said
    assert "verify?token" not in said
    assert repr(outgoing.key) not in said


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/auth/v1/verify?token=abc",
        "https://chat.example.evil.example/verify",
        "https://chat.example@evil.example/verify",
        "//evil.example/verify",
        "javascript:alert(1)",
    ],
)
def test_link_from_a_host_header_is_not_mailed(link: str) -> None:
    """Links lead to our public address, whatever name the request used."""
    outgoing = Outgoing(place="mail", home=HOME, key=b"k" * 32)
    with pytest.raises(ValueError, match="public address"):
        queued(a_mail(link=link), outgoing)
    assert queued(a_mail(), outgoing).params


def test_where_mail_goes_by_settings() -> None:
    """To the mail server, to development's outbox, or in production nowhere."""
    production = Settings(environment="production", public_url=HOME)
    through = Settings(smtp_url="smtp://mail.example", mail_from="a@example.com")  # type: ignore[arg-type]  # as from_env reads it
    assert outgoing_mail(Settings(), SECRET).place == "outbox"
    assert outgoing_mail(through, SECRET).place == "mail"
    assert outgoing_mail(production, SECRET).place is None
    assert (Settings().mail_enabled, through.mail_enabled) == (True, True)
    assert not production.mail_enabled


# --- templates -----------------------------------------------------------------------------------


def test_a_file_replaces_ours_of_the_same_name(tmp_path: Path) -> None:
    """An operator's words, in the language of the reader where there are any."""
    (tmp_path / "recovery.txt").write_text("Subject: New\nHeading: New one\n\nHi $email, $$5!\n")
    (tmp_path / "recovery.de.txt").write_text("Subject: Neu\nHeading: Neues\n\nHallo.\n")
    (tmp_path / "notes.md").write_text("$not a template")
    templates = load_templates(tmp_path)

    def said(locale: str) -> Rendered:
        mail = a_mail("recovery", locale=locale)
        return rendered(mail, templates, product="Shop", home=HOME)

    assert said("en").subject == said("fr-FR").subject == "New"
    assert "Hi ana@example.com, $5!" in said("en").text
    assert said("de-AT").subject == said("de_DE").subject == "Neu"
    assert '<html lang="de"' in said("de").html
    kept, ours = templates.texts["confirmation", ""], OURS.texts["confirmation", ""]
    assert kept.subject.template == ours.subject.template


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("recovery.txt", "Subject: a\nHeading: b\n\n$nobody", r"names \$nobody"),
        ("recovery.txt", "Subject: a\nHeading: b\n\n$ 5", r"write \$\$"),
        ("recovery.txt", "Subject: a\n\nHello", "no line `Heading"),
        ("recovery.txt", "Hello\n\nHello", "must begin with lines"),
        ("recovery.txt", "Subject: a\nHeading: b\n", "says nothing"),
        ("recovery.txt", b"\xff\xfe", "as UTF-8"),
        ("recovery.txt", "x" * 200_001, "too large"),
        ("recover.txt", "Subject: a\nHeading: b\n\nHello", "no kind of mail"),
        ("layout.html", "<p>$heading</p>", r"no \$content"),
        ("layout.html", "$content $email", r"names \$email"),
    ],
)
def test_broken_template_is_refused_by_name(
    tmp_path: Path, name: str, content: str | bytes, problem: str
) -> None:
    """The start says which file, and what is wrong with it."""
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(SetupError, match=problem) as caught:
        load_templates(tmp_path)
    assert name in caught.value.problems[0]


def test_folder_of_templates_must_be_there(tmp_path: Path) -> None:
    """A misspelt folder is no reason to send our words instead."""
    with pytest.raises(SetupError, match="MAIL_TEMPLATES"):
        load_templates(tmp_path / "nowhere")


def test_every_template_is_of_a_kind() -> None:
    """There are words for each kind and none beside them."""
    assert {kind for kind, _ in OURS.texts} == set(KINDS)


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"SMTP_URL": "http://mail.example"}, "SMTP_URL must be an address like"),
        ({"SMTP_URL": "smtp://mail.example/path"}, "end with the host and port"),
        ({"SMTP_URL": "smtp://user@mail.example"}, "or neither"),
        ({"SMTP_URL": "smtp://mail.example"}, "SMTP_URL needs MAIL_FROM"),
        ({"MAIL_FROM": "Ana <ana@example.com>"}, "MAIL_FROM must be"),
        ({"MAIL_FROM": "ana@example.com\nBcc: x@example.com"}, "MAIL_FROM must be"),
        ({"MAIL_NAME": "Shop\r\nBcc: x@example.com"}, "MAIL_NAME must be one line"),
    ],
)
def test_mail_settings_that_are_refused(environ: dict[str, str], problem: str) -> None:
    """What cannot work, or would become a header, is said at the start."""
    with pytest.raises(SetupError, match=problem):
        Settings.from_env(environ)


def test_plain_text_to_another_machine_is_refused_in_production() -> None:
    """Links that sign people in are not readable on the way."""
    production = {
        "ENVIRONMENT": "production",
        "PUBLIC_URL": HOME,
        "MAIL_FROM": "a@example.com",
        "SMTP_TLS": "off",
    }
    with pytest.raises(SetupError, match="SMTP_TLS must be on"):
        Settings.from_env(production | {"SMTP_URL": "smtp://mail.example"})
    Settings.from_env(production | {"SMTP_URL": "smtp://localhost"})
    Settings.from_env(production | {"SMTP_URL": "smtps://mail.example"})
    Settings.from_env(production | {"SMTP_URL": "smtp://mail.example", "SMTP_TLS": "on"})


def test_mail_server_of_an_address() -> None:
    """Ports and encryption follow the scheme; names and passwords may hold anything."""
    url = "smtp://ana%40example.com:p%2Fw%3A@mail.example"
    environ = {"SMTP_URL": url, "MAIL_FROM": "a@example.com"}
    server = mail_server(Settings.from_env(environ))
    assert server is not None
    assert (server.port, server.starttls, server.encrypted) == (587, True, False)
    assert (server.user, server.password) == ("ana@example.com", "p/w:")
    assert "p/w:" not in repr(server)
    encrypted = mail_server(Settings.from_env(environ | {"SMTP_URL": "smtps://mail.example"}))
    assert encrypted is not None
    assert (encrypted.port, encrypted.starttls, encrypted.encrypted) == (465, False, True)
    assert mail_server(Settings()) is None


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (HOME, "chat.example"),
        ("http://192.0.2.1:8000", "[192.0.2.1]"),
        ("http://[2001:db8::1]:8000", "[IPv6:2001:db8::1]"),
    ],
)
def test_mail_server_is_greeted_by_our_public_name(address: str, name: str) -> None:
    """Whoever gets the mail sees no name of a container, and nobody asks DNS for one."""
    environ = {
        "PUBLIC_URL": address,
        "SMTP_URL": "smtp://mail.example",
        "MAIL_FROM": "a@example.com",
    }
    server = mail_server(Settings.from_env(environ))
    assert server is not None
    assert server.own_name == name
