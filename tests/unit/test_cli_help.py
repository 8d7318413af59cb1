"""The help of every command: whole sentences, an example, and a word on each option."""

from __future__ import annotations

import importlib
from typing import Final

import click
import pytest

from chatkeep.cli import _COMMANDS, _commands
from tests.unit.test_docs import commands

WITHOUT_EXAMPLE: Final = {"chatkeep version"}
GROUPS: Final = {
    "chatkeep": _commands,
    **{
        f"chatkeep {name}": found
        for name, place in _COMMANDS.items()
        if isinstance(found := importlib.import_module(place).command, click.Group)
    },
}


@pytest.mark.parametrize("name", GROUPS)
def test_no_line_of_a_list_is_cut_off(name: str) -> None:
    """On a terminal of 80 columns each command is listed by a whole sentence."""
    context = click.Context(GROUPS[name], info_name=name, terminal_width=80)
    listed = GROUPS[name].get_help(context).partition("Commands:\n")[2].partition("\n\n")[0]
    assert listed
    assert not [line for line in listed.splitlines() if line.endswith("...")]


@pytest.mark.parametrize("name", sorted({*commands(), *GROUPS} - WITHOUT_EXAMPLE))
def test_command_has_an_example_that_begins_with_it(name: str) -> None:
    """Whoever asks for help may copy a line of it."""
    command = commands().get(name) or GROUPS[name]
    assert command.epilog is not None
    assert name in command.epilog


@pytest.mark.parametrize("name", commands())
def test_every_option_says_what_it_does(name: str) -> None:
    """An option without a word is one that only its author knows."""
    options = [one for one in commands()[name].params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []
