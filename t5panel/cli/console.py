"""What every command shares: data to stdout, the rest to stderr, the language, and the exit codes of our errors."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Any

import click

from t5panel.errors import ExitCode, T5PanelError
from t5panel.language import LANGUAGES, Language, chosen_language, speak, tr
from t5panel.plain import is_plain, plain_line

Handler = Callable[..., Any]
PLAIN = f"{__name__}.plain"


def say(text: str) -> None:
    """Data to stdout."""
    click.echo(plain_line(text) if is_ascii() else text)


def note(text: str) -> None:
    """Diagnostics to stderr."""
    click.echo(plain_line(text) if is_ascii() else text, err=True)


def say_json(value: Any) -> None:  # noqa: ANN401
    """One JSON value to stdout."""
    click.echo(json.dumps(value, ensure_ascii=is_ascii(), indent=1))


def is_ascii() -> bool:
    """Whether what is read here has to be ASCII. Asked of the command, for click would make its own stream of ours."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(PLAIN))


def _settle(context: click.Context, option: click.Parameter, asked: Language | bool | None) -> None:
    """From here on in the language and the characters that were asked for, else in those of the environment."""
    if asked:
        context.meta[f"{__name__}.{option.name}"] = asked
    _speak(context)


def _speak(context: click.Context) -> None:
    language = context.meta.get(f"{__name__}.lang")
    terminal = sys.stdout.isatty() or sys.stderr.isatty()
    plain = context.meta.get(f"{__name__}.ascii") or (
        language is None and is_plain(os.environ, encoding=sys.stdout.encoding, terminal=terminal)
    )
    context.meta[PLAIN] = plain
    speak("en" if plain else language or chosen_language(os.environ))


def display_options(command: click.Command) -> None:
    """`--lang` and `--ascii`, before a command and after it; they hold for its help too."""
    lang = "Language of the texts; else that of LC_ALL, LC_MESSAGES or LANG."
    plain = "ASCII only, in English; also where the terminal or the locale has nothing else."
    settled: dict[str, Any] = {"expose_value": False, "is_eager": True, "callback": _settle}
    command.params += [
        click.Option(["--lang"], type=click.Choice(LANGUAGES), help=lang, **settled),
        click.Option(["--ascii"], is_flag=True, help=plain, **settled),
    ]
    command.format_help = partial(_format_help, command, command.format_help)  # type: ignore[method-assign]


def help_texts(command: click.Command) -> Iterator[str]:
    """The paragraphs that a command's help tells of it and of its options."""
    for text in (command.help, *(option.help for option in command.params if isinstance(option, click.Option))):
        yield from _paragraphs(text or "")


def _format_help(
    command: click.Command,
    write: Callable[[click.Context, click.HelpFormatter], None],
    context: click.Context,
    formatter: click.HelpFormatter,
) -> None:
    """Help in the language of the other texts; the English words stay on the command."""
    _speak(context)
    told = [command, *getattr(command, "commands", {}).values()]
    told += [option for option in command.get_params(context) if isinstance(option, click.Option)]
    before = [each.help for each in told]
    try:
        for each in told:
            each.help = "\n\n".join(map(tr, _paragraphs(each.help or "")))
        write(context, formatter)
    finally:
        for each, text in zip(told, before, strict=True):
            each.help = text


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def ends_with_exit_code(command: Handler) -> Handler:
    """Turn our errors into messages and exit codes."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        try:
            return command(*args, **kwargs)
        except T5PanelError as error:
            from t5panel.render.faults import fault_json, fault_lines

            if kwargs.get("as_json"):
                say_json({"error": type(error).__name__, "faults": fault_json(error.faults)})
            for line in fault_lines(error.faults):
                note(line)
            sys.exit(error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            note("\n" + tr("interrupted"))
            sys.exit(ExitCode.STOPPED_BY_USER)

    return wrapped


def paint(text: str, tone: str) -> str:
    """A text in the colour of its tone; plain without a terminal, and with NO_COLOR."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    colours = {"good": "green", "warning": "yellow", "error": "red"}
    return click.style(text, fg=colours.get(tone), bold=tone == "title", dim=tone == "quiet")
