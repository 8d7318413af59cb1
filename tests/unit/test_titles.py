"""Titles: short, plain, and about something."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkeep.answering.titles import title_from
from chatkeep.llm.eliza_script import INTRODUCTION

TITLES = [
    ("What is the capital of Peru?", "What is the capital of Peru?"),
    ("Plan a trip. I have a week.", "Plan a trip"),
    ("  Two\n lines\there ", "Two lines here"),
    ("What is 3.14? And more.", "What is 3.14?"),
    ("Dr. Smith said so", "Dr. Smith said so"),
    ("1. first\n2. second", "first second"),
    ("Buy  milk", "Buy milk"),
    ("Buy\u00a0milk now", "Buy milk now"),
    ("Buy\u2003milk now", "Buy milk now"),
    ("Buy this:\n- milk", "Buy this: milk"),
    ("3. milk", "milk"),
    (" > milk", "milk"),
    *((f"Is it {mark}this{mark}?", "Is it this?") for mark in ("`", "~~", "|", "*", "_")),
    ("日本語のタイトル。二つ目", "日本語のタイトル"),
    ("# Heading\n\n> quoted **bold** _it_ `code`", "Heading quoted bold it code"),
    ("Why does snake_case(2*3) fail in C#?", "Why does snake_case(2*3) fail in C#?"),
    ("See [the docs](https://x.example/a_b) first", "See the docs first"),
    ("```py\nprint(1)\n``` What does this do?", "What does this do?"),
    ("```py\nprint(1)", None),
    ("\x1b[31mred\x1b[0m \x00alert", "[31mred [0m alert"),
    ("\u202a\n\u2028 \t", None),
    ("...", None),
    ("", None),
]


@pytest.mark.parametrize(("question", "title"), TITLES, ids=ascii)
def test_title_is_the_first_sentence_without_markup(question: str, title: str | None) -> None:
    """The first sentence, on one line, without the marks of Markdown."""
    assert title_from(question) == title


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Hi! Can you help me with Python?", "Can you help me with Python?"),
        ("hey there, what broke the build?", "What broke the build?"),
        ("Bonjour, comment faire un gâteau ?", "Comment faire un gâteau ?"),
        ("hello can you cook", "Can you cook"),
        ("Hello World in C", "Hello World in C"),
        ("Yoga for beginners", "Yoga for beginners"),
        ("Hi-fi systems", "Hi-fi systems"),
        ("highlights of today", "highlights of today"),
    ],
)
def test_greeting_is_passed_over(question: str, title: str) -> None:
    """A greeting before the question is no part of the title; a word that begins so is."""
    assert title_from(question) == title


@pytest.mark.parametrize("greeting", ["Hi", "hello!", "Good morning!", "hey there...", "👋", "Yo"])
def test_mere_greeting_leaves_it_to_the_answer(greeting: str) -> None:
    """A greeting names no subject: the answer's first sentence does, if it has any."""
    assert title_from(greeting, "Hello! Ask me about tides. Or not.") == "Ask me about tides"
    assert title_from(greeting, "Hello!") is None


def test_introduction_of_the_built_in_model_is_no_title() -> None:
    """Every conversation without a provider begins with it: it tells none from another."""
    answer = f"{INTRODUCTION}Hello. What would you like to talk about?"
    assert title_from("hi", answer) == "What would you like to talk about?"


def test_long_title_is_cut_at_a_word() -> None:
    """After at most 60 characters, at a space where there is one."""
    title = title_from("Explain, at length, " + "the theory of relativity, " * 9)
    assert title is not None
    assert title == "Explain, at length, the theory of relativity, the theory of…"
    assert len(title) <= 61
    assert title_from("x" * 100) == "x" * 60 + "…"


@pytest.mark.parametrize(
    "hostile",
    ["[", "![", "[x](", "`", "```", "*", "_", "*_", "a*_", "a ", "hi ", "(", "]", "\n# ", "~", "."],
)
def test_hostile_text_takes_no_time(hostile: str) -> None:
    """However long and however nested, a text is looked at for a moment only."""
    began = time.process_time()
    title_from(hostile * 200_000, hostile * 200_000)
    assert time.process_time() - began < 0.05


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_text_makes_a_line_or_nothing(question: str, answer: str) -> None:
    """Whatever was said, a title is one short line with something in it."""
    title = title_from(question, answer)
    if title is not None:
        assert 1 <= len(title) <= 61
        assert title == title.strip()
        assert any(character.isalnum() for character in title)
        assert not any(ord(character) < 32 or character == "\x7f" for character in title)
