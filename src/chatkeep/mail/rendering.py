"""A mail as it is read: the same words as HTML and as plain text.

Every value is somebody's input: in HTML it is escaped, in both it stays on one line, and it
is cut short, so that nobody can write a letter of their own into ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from string import Template
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chatkeep.mail.mails import Mail
    from chatkeep.mail.templates import Templates, Text

_LONGEST_VALUE: Final = 80
_LONGEST_ADDRESS: Final = 254  # RFC 5321 section 4.5.3.1.3, as corrected by erratum 1690
_FONT: Final = "-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
_PARAGRAPH: Final = Template(
    f'<p class="$name" style="margin:0 0 $below;font:400 $size {_FONT};color:$color;'
    'overflow-wrap:anywhere">$text</p>'
)
_BUTTON: Final = Template(
    '<table role="presentation" cellpadding="0" cellspacing="0" border="0" width="100%"'
    ' style="margin:22px 0 14px"><tr><td class="button">'
    '<a href="$link" style="display:inline-block;padding:13px 26px;border-radius:9px;'
    f"background-color:#2563eb;font:600 16px/22px {_FONT};color:#ffffff;text-align:center;"
    'text-decoration:none">$text</a></td></tr></table>'
)
_BARE_LINK: Final = Template(
    f'<p class="small" style="margin:0 0 20px;font:400 13px/20px {_FONT};color:#6b7280">'
    'Or open this address: <a class="address" href="$link" style="color:#1d4ed8;'
    'overflow-wrap:anywhere;word-break:break-all">$link</a></p>'
)
_CODE: Final = Template(
    f'<p class="text" style="margin:22px 0 8px;font:400 15px/24px {_FONT};color:#374151">$text</p>'
    '<table role="presentation" cellpadding="0" cellspacing="0" border="0" width="100%"'
    ' style="margin:0 0 22px"><tr><td class="codebox code" align="center"'
    ' style="padding:16px 12px;border:1px solid #e3e6ea;border-radius:9px;'
    "background-color:#f7f8fa;font:600 32px/40px ui-monospace,Menlo,Consolas,monospace;"
    'padding-left:18px;letter-spacing:6px;color:#111827">$code</td></tr></table>'
)
_RULE: Final = (
    '<div class="rule" style="margin:26px 0 18px;border-top:1px solid #e9ebee;font-size:0;'
    'line-height:0">&nbsp;</div>'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The words of a mail."""

    subject: str
    html: str
    text: str


def rendered(mail: Mail, templates: Templates, *, product: str, home: str) -> Rendered:
    """Return *mail* in the words of *templates*, as *product*, whose address is *home*.

    A paragraph that names something which this mail does not know is left out.
    """
    text, language = templates.text(mail.kind, mail.locale)
    values = _values(mail) | {"product": product, "home": home}
    subject = _filled(text.subject, values) or product
    heading = _filled(text.heading, values) or subject
    before = _paragraphs(text.before, values)
    after = _paragraphs(text.after, values)
    html = templates.layout.substitute(
        language=language,
        subject=escape(subject),
        preview=escape(" ".join(before)),
        product=escape(product),
        home=escape(home),
        heading=escape(heading),
        content=_html(mail, text, before, after, values),
    )
    plain = _plain(mail, text, heading, before, after, values)
    return Rendered(subject=subject, html=html, text=f"{plain}\n\n-- \n{product}\n{home}\n")


def _values(mail: Mail) -> dict[str, str]:
    known = {
        "email": mail.to,
        "new_email": mail.new_email,
        "old_email": mail.old_email,
        "provider": mail.provider,
        "factor": mail.factor,
    }
    return {name: _one_line(value, name) for name, value in known.items() if value}


def _one_line(value: str, name: str) -> str:
    line = " ".join("".join(one if one.isprintable() else " " for one in value).split())
    longest = _LONGEST_ADDRESS if name.endswith("email") else _LONGEST_VALUE
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _filled(template: Template, values: Mapping[str, str]) -> str | None:
    """Return the text, None when it names what is not known."""
    if set(template.get_identifiers()) - set(values):
        return None
    return template.substitute(values)


def _paragraphs(templates: tuple[Template, ...], values: Mapping[str, str]) -> list[str]:
    return [filled for one in templates if (filled := _filled(one, values)) is not None]


def _label(template: Template | None, values: Mapping[str, str], otherwise: str) -> str:
    return (template and _filled(template, values)) or otherwise


def _html(
    mail: Mail, text: Text, before: list[str], after: list[str], values: Mapping[str, str]
) -> str:
    parts = [
        _PARAGRAPH.substitute(
            name="text", below="14px", size="16px/25px", color="#374151", text=escape(one)
        )
        for one in before
    ]
    if mail.link is not None:
        label = _label(text.button, values, "Open")
        parts.append(_BUTTON.substitute(link=escape(mail.link), text=escape(label)))
        parts.append(_BARE_LINK.substitute(link=escape(mail.link)))
    if mail.code is not None:
        label = "Enter this code" if mail.link is None else _label(text.code, values, "Code")
        parts.append(_CODE.substitute(code=escape(mail.code), text=escape(label)))
    parts += [_RULE] if after else []
    parts += [
        _PARAGRAPH.substitute(
            name="small", below="8px", size="13px/20px", color="#6b7280", text=escape(one)
        )
        for one in after
    ]
    return "\n".join(parts)


def _plain(
    mail: Mail,
    text: Text,
    heading: str,
    before: list[str],
    after: list[str],
    values: Mapping[str, str],
) -> str:
    parts = [heading, *before]
    if mail.link is not None:
        parts.append(f"{_label(text.button, values, 'Open')}:\n{mail.link}")
    if mail.code is not None:
        label = "Enter this code" if mail.link is None else _label(text.code, values, "Code")
        parts.append(f"{label}:\n{mail.code}")
    return "\n\n".join([*parts, *after])
