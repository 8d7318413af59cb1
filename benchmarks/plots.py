"""Small bar charts as SVG, drawn by hand, that can be read on a light page and on a dark one.

Colours are in the middle: a git host shows a picture without telling it which theme the page
has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Figures = Mapping[str, Mapping[str, object]]

_WIDTH, _LABEL, _VALUE, _ROW, _BAR = 760, 190, 90, 26, 16
_OURS, _FLOOR, _OTHERS = "#2da44e", "#7d8590", "#bf8700"
_CHUNKS, _FIRST, _ADDED = "apart_{}_chunks_per_s", "first_{}_added_p50_ms", "{}_added_p50_ms"
_LIMITS = ("floor", "relay", "psycopg", "open to all")
_INK, _QUIET = "#6e7781", "#7d8590"


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of one unit. *bars*: label to the figure's name; one label is ours, one the floor."""

    title: str
    benchmark: str
    bars: Mapping[str, str]


PLOTS: dict[str, tuple[str, Sequence[Panel]]] = {
    "tokens": (
        "Verifying a token seen for the first time (less is better)",
        [
            Panel(
                f"{algorithm}, microseconds",
                "tokens",
                {
                    "floor": f"{algorithm}_floor_us",
                    "Chatkeep": f"{algorithm}_ours_us",
                    "Authlib": f"{algorithm}_Authlib_us",
                    "joserfc": f"{algorithm}_joserfc_us",
                    "python-jose": f"{algorithm}_python-jose_us",
                    "PyJWT": f"{algorithm}_PyJWT_us",
                    "jwcrypto": f"{algorithm}_jwcrypto_us",
                },
            )
            for algorithm in ("HS256", "ES256")
        ],
    ),
    "database": (
        "One round trip to PostgreSQL (less is better)",
        [
            Panel(
                f"{what}, microseconds",
                "database",
                {
                    "psycopg, no row security": f"{name}_bare_us",
                    "Chatkeep": f"{name}_ours_us",
                    "SQLAlchemy ORM": f"{name}_orm_us",
                },
            )
            for what, name in (("Read a profile", "profile"), ("Store a message", "store"))
        ],
    ),
    "routes": (
        "Who is calling? A route of one's own application (less is better)",
        [
            Panel(
                "Processor time of the server for a request, microseconds",
                "routes",
                {
                    "open to all": "app_open_cpu_us",
                    "Chatkeep, middleware": "app_middleware_cpu_us",
                    "Chatkeep, dependency": "app_dependency_cpu_us",
                    "PyJWT": "app_PyJWT_cpu_us",
                    "fastapi-users": "app_fastapi-users_cpu_us",
                },
            )
        ],
    ),
    "answers": (
        "Answers of a model, relayed: Chatkeep signs in and keeps all, the others nothing",
        [
            Panel(
                f"{what} ({sense} is better)",
                benchmark,
                {
                    "relay, bare": figure.format("relay"),
                    "Chatkeep": figure.format("chatkeep"),
                    "FastAPI + openai": figure.format("sdk"),
                    "LiteLLM": figure.format("litellm"),
                },
            )
            for what, sense, benchmark, figure in (
                ("Streamed chunks a second of one core", "more", "stream", _CHUNKS),
                ("First token, milliseconds after the model's", "less", "stream", _FIRST),
                ("Whole answers a second, 16 clients", "more", "turn", "{}_per_s"),
                ("Whole answer, milliseconds after the model's", "less", "turn", _ADDED),
            )
        ],
    ),
    "streams": (
        "2,000 slow answers open at once (less is better)",
        [
            Panel(
                what,
                "streams",
                {"relay, bare": f"relay_{figure}", "Chatkeep": f"chatkeep_{figure}"},
            )
            for what, figure in (
                ("KiB of memory for each open stream", "open_kib_each"),
                ("First token p99, milliseconds", "open_first_token_p99_ms"),
            )
        ],
    ),
    "start": (
        "A start, and a server that waits (less is better)",
        [
            Panel(
                what,
                "start",
                {"Chatkeep": f"chatkeep_{figure}", "LiteLLM": f"litellm_{figure}"},
            )
            for what, figure in (
                ("Seconds until it answers", "start_s"),
                ("MiB of memory, idle", "idle_mib"),
            )
        ],
    ),
    "growth": (
        "Reading while the database grows (less is better)",
        [
            Panel(
                f"{what}, milliseconds",
                "growth",
                {f"Chatkeep, 10^{size} messages": f"{name}_1e{size}_ms" for size in (4, 6, 7)},
            )
            for what, name in (
                ("A page of a random conversation", "history"),
                ("A page of a random person's list", "list"),
            )
        ],
    ),
}


def plotted(figures: Figures) -> dict[str, str]:
    """Return the pictures that can be drawn from *figures*, by name."""
    found = {}
    for name, (title, panels) in PLOTS.items():
        drawn = [(panel.title, bars) for panel in panels if (bars := _bars(panel, figures))]
        if drawn:
            found[name] = chart(title, drawn)
    return found


def _bars(panel: Panel, figures: Figures) -> dict[str, float]:
    measured = figures.get(panel.benchmark, {})
    values = {label: measured.get(key) for label, key in panel.bars.items()}
    return {
        label: float(value) for label, value in values.items() if isinstance(value, (int, float))
    }


def chart(title: str, panels: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Draw panels of horizontal bars, one below the other."""
    parts, y = [_text(0, 18, title, size=15, weight=600)], 34
    for heading, bars in panels:
        parts.append(_text(0, y + 16, heading, size=12, colour=_QUIET))
        y += 26
        largest = max(bars.values())
        for label, value in bars.items():
            parts += _bar(y, label, value, largest)
            y += _ROW
        y += 12
    said = "; ".join(
        f"{heading}: " + ", ".join(f"{label} {_number(value)}" for label, value in bars.items())
        for heading, bars in panels
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" width="{_WIDTH}"'
        f' height="{y}" role="img" font-family="system-ui, sans-serif">'
        f"<title>{escape(title)}</title><desc>{escape(said)}</desc>{''.join(parts)}</svg>\n"
    )


def _bar(y: int, label: str, value: float, largest: float) -> list[str]:
    length = max(2.0, (_WIDTH - _LABEL - _VALUE) * value / largest)
    ours, floor = label.startswith("Chatkeep"), label.startswith(_LIMITS)
    colour = _OURS if ours else _FLOOR if floor else _OTHERS
    middle = y + _ROW // 2 + 4
    return [
        _text(_LABEL - 10, middle, label, size=12, anchor="end", weight=600 if ours else 400),
        f'<rect x="{_LABEL}" y="{y + 5}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>',
        _text(_LABEL + length + 8, middle, _number(value), size=12, weight=600 if ours else 400),
    ]


def _text(
    x: float,
    y: float,
    words: str,
    *,
    size: int,
    colour: str = _INK,
    anchor: str = "start",
    weight: int = 400,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}"'
        f' font-weight="{weight}">{escape(words)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
