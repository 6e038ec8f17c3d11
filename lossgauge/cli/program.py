"""The program around the commands: what it prints, how it ends, and what is wrong with a command line."""

from __future__ import annotations

import re
import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, NoReturn, cast

import typer

from lossgauge import __version__, stopping
from lossgauge.cli.last_lines import stopped
from lossgauge.errors import InputError, LossgaugeError
from lossgauge.terminal import one_line, safe

if TYPE_CHECKING:
    from lossgauge.results.view import StudyView

WRONG, FAILED = 2, 1
"""Exit codes: 2 for a mistake of the user, named in the message; 1 for a failed run or a broken rule."""

app = typer.Typer(
    help="Which metric-learning loss to train with, and whether your training and your embeddings are healthy.",
    epilog="Start with `lossgauge advise folder:photos`, or with `lossgauge study demo`: seven losses on two real datasets, with a "
    "report in about two minutes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def say(line: str, *, err: bool = False) -> None:
    """Print one line. Everything that a command prints goes through here, and progress through the same `safe`."""
    typer.echo(safe(line), err=err)


def say_damage(view: StudyView) -> None:
    """Print one line for each run that is left out because one of its files is damaged."""
    for line in view.damage:
        say(f"left out: {line}", err=True)


def _say_version(asked: bool) -> bool:
    if asked:
        say(f"lossgauge {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options that come before a command."""


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, never a traceback."""
    stopping.describe = stopped
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # an encoding without τ must not stop a command
            stream.reconfigure(errors="backslashreplace")
    try:
        _check_arguments(sys.argv[1:])
        sys.exit(app(prog_name="lossgauge", standalone_mode=False))
    except LossgaugeError as error:
        _fail(str(error))
    except _WrongUse as error:
        # called without arguments, typer shows the help and gives no message
        words = error.format_message().rstrip(".")
        for kind in ("integer", "number"):
            words = words.replace(*_not_a(kind))
        _fail(words, hint="; --help shows the arguments and options")
    except OSError as error:
        # a name that is too long, a folder without read permission: not a bug
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}")


def _not_a(kind: str) -> tuple[str, str]:
    """Words of pydantic, with which typer reads numbers, and ours."""
    wrong = f"Input should be a valid {kind}, unable to parse string as a{'n' * (kind == 'integer')} {kind}"
    return wrong, f"it must be a {'whole ' * (kind == 'integer')}number"


_WrongUse = cast(type[typer.BadParameter], typer.BadParameter.__mro__[1])
"""An unknown option or a missing argument. Typer may contain its own copy of click, so the class is taken from typer."""


def _fail(words: str, *, hint: str = "") -> NoReturn:
    if words:
        say(f"lossgauge: {one_line(words)}{hint}", err=True)
    sys.exit(WRONG)


def _check_arguments(arguments: list[str]) -> None:
    """InputError for an empty argument: it would mean the working folder, or every name."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option = re.match(r"(--[\w-]+)=$", argument)
        if not argument or option:
            after = f"the argument after {before!r}" if before else "the first argument"
            name = option[1] if option else before if before.startswith("-") else after
            raise InputError(f"{name} is empty; give a value, or leave it out")
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{argument!r} is not valid UTF-8; rename the file or folder, or give another name"
            ) from None
