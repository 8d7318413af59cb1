"""The command line. Every failure we foresee is one clear line, never a traceback.

The commands are imported when they are called, so that `chatkeep --help` is quick.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import sys
from itertools import pairwise
from typing import Final

import click

import chatkeep
from chatkeep.cli.steps import say_no_more
from chatkeep.cli.words import examples
from chatkeep.errors import ChatkeepError, SetupError
from chatkeep.stop_signals import STOP_SIGNALS

_log = logging.getLogger(__name__)

_FAILED: Final = 1
_INTERRUPTED: Final = 130

# name: where it is
_COMMANDS: Final = {
    "serve": "chatkeep.cli.serve",
    "keys": "chatkeep.cli.keys",
    "token": "chatkeep.cli.token",
    "users": "chatkeep.cli.users",
    "import": "chatkeep.cli.chat_import",
    "sessions": "chatkeep.cli.sessions",
    "claims": "chatkeep.cli.claims",
    "audit": "chatkeep.cli.audit",
    "doctor": "chatkeep.cli.doctor",
    "issuers": "chatkeep.cli.issuers",
    "budgets": "chatkeep.cli.budgets",
    "mail": "chatkeep.cli.mail",
    "webhooks": "chatkeep.cli.webhooks",
    "migrate": "chatkeep.cli.migrate",
    "assign": "chatkeep.cli.assign",
    "version": "chatkeep.cli.version",
}


class _Commands(click.Group):
    """The commands of the table above, in its order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 -- as above
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        found: click.Command = importlib.import_module(place).command
        return found

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse what is empty, for every command: a variable of the shell that is not set."""
        for before, one in pairwise(["", *args]):
            name, equals, value = one.partition("=")
            option = name if equals and name.startswith("--") else before
            if not (value if option is name else one).strip():
                where = f"What stands behind {option}" if option else "The first word"
                raise click.UsageError(f"{where} is empty: give it a value, or leave it out.", ctx)
        return super().parse_args(ctx, args)


@click.command(
    cls=_Commands,
    epilog=examples(
        "# with nothing to set up; then open http://127.0.0.1:8000",
        "chatkeep serve",
        "",
        "# for a front end of your own: what createClient() wants, and a token to try with",
        "chatkeep keys",
        "chatkeep token --user ana",
        "",
        "# on a PostgreSQL of your own",
        "export DATABASE_URL=postgresql://chatkeep:...@db.example/chat",
        "chatkeep migrate && chatkeep doctor && chatkeep serve",
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(chatkeep.__version__, prog_name="chatkeep", message="%(prog)s %(version)s")
def _commands() -> None:
    """The signed-in back end of a chat application.

    Settings come from the environment and from .env.local in this folder.
    """


def main() -> None:
    """Run the command that the arguments name, and end the process with its exit code.

    0: done. 1: it failed, and standard error says why. 2: it was called wrongly. 130: a signal
    stopped it.
    """
    for number in STOP_SIGNALS:  # each as Ctrl-C: what was started for a command is stopped
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    try:
        _commands.main(prog_name="chatkeep", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except SetupError as error:
        _complain(*error.problems)
        sys.exit(_FAILED)
    except ChatkeepError as error:
        _complain(error.detail)
        sys.exit(_FAILED)
    except Exception as error:  # noqa: BLE001 -- the last resort, logged in full where wanted
        _log.debug("unexpected", exc_info=error)
        # Its text may quote anything, a password in an address too.
        _complain(f"Unexpected {_kind(error)}: LOG_LEVEL=DEBUG shows what and where.")
        sys.exit(_FAILED)
    finally:
        try:
            sys.stderr.flush()
        except OSError:  # a log whose disk is full makes no failure of what was done
            say_no_more(sys.stderr)


def _kind(error: Exception) -> str:
    """Name *error*, and of what the system refuses, such as a full disk, say what it is."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.errno:
        return f"{name} ({os.strerror(error.errno)})"
    return name


def _complain(*problems: str) -> None:
    for problem in problems:
        click.echo(f"chatkeep: {' '.join(problem.split())}", err=True)
