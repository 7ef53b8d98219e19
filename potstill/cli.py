"""The command line: one command per function of api/; a command's options are that function's parameters.

A function's signature becomes the options and its docstring the help; the result is printed by its `to_text`, or as
JSON with `--json`. A `PotstillError` becomes its sentence and its exit code.
"""

from __future__ import annotations

import builtins
import errno
import inspect
import io
import os
import signal
import sys
import typing
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

import click

from potstill import __version__
from potstill.api import COMMAND_GROUPS, COMMANDS
from potstill.api.distill import RecipeOptions, TextOptions
from potstill.api.serve import LimitOptions
from potstill.api.table_options import SEVERAL, FileOptions, TableOptions
from potstill.data.paths import as_text
from potstill.data.printable import escape_controls, printable_json
from potstill.errors import PotstillError, PotstillWarning

INTERRUPTED = 130
_python_warning = warnings.showwarning
# What is wrong with a place that the user named or the machine gives, not with the program.
_PLACE = "ENOENT EACCES EPERM EROFS ENOSPC EDQUOT EFBIG EIO ENAMETOOLONG ELOOP ENOTDIR EISDIR EMFILE EBUSY"
PLACE_ERRORS = frozenset(getattr(errno, name) for name in _PLACE.split() if hasattr(errno, name))
STOPPED = "Stopped. Nothing is lost: the same command goes on from here."
STOPPED_AT_ONCE = (
    "Stopped at once: calls that were in flight are booked as lost by the next start (potstill show RUN says how "
    "much). All else is kept: the same command goes on from here."
)
# The shared options in the order of a command's help. Each table includes those below it.
OPTION_GROUPS = {
    "Recipe, teacher and prices": RecipeOptions,
    "Which texts": TextOptions,
    "Columns and labels": TableOptions,
    "Reading files": FileOptions,
    "Limits": LimitOptions,
}


class CommandGroup(click.Group):
    """The group of commands, listed as in `COMMAND_GROUPS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the groups."""
        return [command_name(command) for command in COMMANDS]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group."""
        for title, group in COMMAND_GROUPS.items():
            names = [command_name(command) for command in group]
            with formatter.section(title):
                formatter.write_dl([(f"{name:<12}", self.commands[name].get_short_help_str(200)) for name in names])


class HelpedArgument(click.Argument):
    """An argument with a help text."""

    def __init__(self, names: list[str], about: str, **settings: Any) -> None:
        super().__init__(names, **settings)
        self.about = about

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Its name and its help."""
        return self.make_metavar(ctx), self.about


class GroupedCommand(click.Command):
    """A command whose help lists its arguments, its own options, and the shared ones in `OPTION_GROUPS`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Arguments", "Options", *OPTION_GROUPS)}
        for parameter in self.get_params(ctx):
            groups = [title for title, table in OPTION_GROUPS.items() if parameter.name in table.__annotations__]
            title = "Arguments" if isinstance(parameter, click.Argument) else ["Options", *groups][-1]
            line = parameter.get_help_record(ctx)
            if line is not None:
                sections[title].append(line)
        for title, lines in sections.items():
            if lines:
                with formatter.section(title):
                    formatter.write_dl(lines)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, "-V", "--version", prog_name="potstill")
def app() -> None:
    """Turn a large model's knowledge, your labels and your budget into a small text classifier.

    \b
    potstill init tickets.csv                               read the data, write potstill.toml
    potstill distill tickets.csv --budget 2 -o runs/tickets train a small model for at most two dollars
    potstill predict runs/tickets "my card was declined"    label a text
    """


def command_name(function: Callable[..., Any]) -> str:
    """The command of an api function: its name with hyphens."""
    return function.__name__.replace("_", "-")


def make_command(function: Callable[..., Any]) -> click.Command:
    """The click command of an api function."""
    parameters = [*_parameters(function)]
    parameters.append(click.Option(["--json", "as_json"], is_flag=True, help="Print the result as JSON."))
    text = inspect.cleandoc(function.__doc__ or "")
    about, _, rest = text.partition("\n\n")
    body = rest.partition("Raises:")[0].partition("Returns:")[0].strip()
    return GroupedCommand(
        command_name(function),
        callback=lambda **given: _run(function, given),
        params=parameters,
        help=f"{about}\n\n{body}".strip(),
        short_help=about.rstrip("."),
    )


def _parameters(function: Callable[..., Any]) -> typing.Iterator[click.Parameter]:
    hints = typing.get_type_hints(function, localns=_Names(vars(sys.modules[function.__module__])), include_extras=True)
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if parameter.kind is parameter.VAR_KEYWORD:
            (table,) = typing.get_args(hint)
            for name, each in typing.get_type_hints(table, include_extras=True).items():
                yield _option(name, each)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            yield HelpedArgument([parameter.name], _help(hint), nargs=-1, type=_type(hint))
        elif typing.get_origin(hint) is typing.Annotated:
            if parameter.default is parameter.empty:
                nargs = -1 if SEVERAL in hint.__metadata__ else 1
                yield HelpedArgument([parameter.name], _help(hint), type=_type(hint), nargs=nargs, required=True)
            else:
                yield _option(parameter.name, hint)


class _Names(dict[str, Any]):
    """The names in a module of api/, and `Any` for its type-checking imports, which no option has as its type."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def _option(name: str, hint: Any) -> click.Option:
    kind, text = typing.get_args(hint)[0], _help(hint)
    given = [each for each in hint.__metadata__[1:] if each.startswith("-")]
    flags = [*given] if any(flag.startswith("--") for flag in given) else [f"--{name.replace('_', '-')}", *given]
    if bool in (kind, *typing.get_args(kind)):
        return click.Option([*flags, name], is_flag=True, default=None, help=text)
    several = SEVERAL in hint.__metadata__
    return click.Option([*flags, name], type=_type(hint), help=text, metavar=_metavar(hint), multiple=several)


def _help(hint: Any) -> str:
    return str(hint.__metadata__[0])


def _type(hint: Any) -> type:
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    kinds = [kind for kind in typing.get_args(hint) or (hint,) if kind in (str, int, float, Path)]
    return kinds[0] if len(kinds) == 1 else str


def _metavar(hint: Any) -> str:
    named = [each[1:] for each in hint.__metadata__ if each.startswith("=")]
    if named:
        return str(named[0])
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    return "PATH" if Path in typing.get_args(hint) else {int: "N", float: "X"}.get(_type(hint), "TEXT")


def _one_or_more(value: Any) -> Any:
    """The value of an argument or option that may be given several times, if it was given once."""
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value


def _run(function: Callable[..., Any], given: dict[str, Any]) -> None:
    as_json = given.pop("as_json")
    given = {name: _one_or_more(value) for name, value in given.items() if value is not None and value != ()}
    positional: list[Any] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            value = given.pop(parameter.name, ())
            positional += value if isinstance(value, tuple) else (value,)
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD and parameter.default is parameter.empty:
            positional.append(given.pop(parameter.name))
    with ExitStack() as stack:
        if "reporter" in inspect.signature(function).parameters:
            from potstill.reports.console import ConsoleReporter

            given["reporter"] = stack.enter_context(ConsoleReporter())
        result = function(*positional, **given)
    if as_json:
        click.echo(printable_json(result.to_json()))
    else:
        text = escape_controls(result.to_text(), colours=sys.stdout.isatty())
        click.echo(text, nl=not text.endswith("\n"))


for _function in COMMANDS:
    app.add_command(make_command(_function))


class _Terminal(io.TextIOWrapper):
    """A terminal; once it was closed, what is printed is lost and no error ends the calls in flight."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _terminal(stream: TextIO) -> TextIO:
    """The stream, which may vanish if it is a terminal."""
    if not stream.isatty():
        return stream
    raw = io.BufferedWriter(io.FileIO(stream.fileno(), "w", closefd=False))
    return _Terminal(raw, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


class TerminationSignal(KeyboardInterrupt):
    """The process received SIGTERM, or SIGHUP as its terminal was closed; holds the signal's number."""


def _stopped(number: int, *_: object) -> None:
    raise TerminationSignal(number)


def _stop_cleanly() -> None:
    """Let SIGTERM and SIGHUP do what Ctrl-C does: calls in flight end and are booked. An ignored signal stays so."""
    with suppress(ValueError):  # not in the main thread
        for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _stopped)


def _was_waiting(stop: BaseException) -> bool:
    """Whether it came while an earlier interruption waited for the calls in flight."""
    earlier = stop.__context__
    while earlier is not None and not isinstance(earlier, KeyboardInterrupt):
        earlier = earlier.__context__
    return earlier is not None


def _end(stop: BaseException) -> NoReturn:
    """Say what an interruption leaves, and exit with the signal's code."""
    notes = getattr(stop, "__notes__", ())  # by the run: what is lost
    at_once = STOPPED_AT_ONCE if _was_waiting(stop) else STOPPED
    click.echo(f"\n{' '.join(['Stopped:', *notes]) if notes else at_once}", err=True)
    sys.exit(128 + stop.args[0] if isinstance(stop, TerminationSignal) else INTERRUPTED)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of potstill as a sentence, and any other as Python does."""
    if issubclass(category, PotstillWarning):
        click.echo(f"potstill: {escape_controls(str(message))}", err=True)
    else:
        _python_warning(message, category, filename, lineno, file, line)


def main() -> None:
    """Run the command line; the entry point of the `potstill` command."""
    _stop_cleanly()
    warnings.showwarning = _show_warning
    sys.stdout, sys.stderr = _terminal(sys.stdout), _terminal(sys.stderr)
    try:
        app(standalone_mode=False)
    except PotstillError as error:
        click.echo(f"potstill: {escape_controls(error.message)}", err=True)
        if error.hint:
            click.echo(f"  {escape_controls(error.hint)}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        page = io.StringIO()
        error.show(page)
        click.echo(escape_controls(page.getvalue()), nl=False, err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort) as stop:
        _end(stop.__cause__ or stop)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.errno not in PLACE_ERRORS:
            raise
        where = f"{as_text(Path(os.fsdecode(error.filename)))}: " if isinstance(error.filename, str | bytes) else ""
        click.echo(f"potstill: {escape_controls(where)}{(error.strerror or str(error)).lower()}.", err=True)
        click.echo("  Give another place, or make this one readable and writable.", err=True)
        sys.exit(PotstillError.exit_code)
