"""Which command a command line means, and errors in the words in which it was typed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import click

from salve_audit.errors import SalveError, UsageError

AUDIT, HELP = "audit", "help"
CUTOFF = 0.6  # similarity from which a word is a misspelt command
LoadCommand = Callable[[str], "click.Command | None"]


def put_command_first(args: Sequence[str], commands: Collection[str], load: LoadCommand) -> list[str]:
    """The arguments with their command as the first one: options may stand before it, and ``audit`` may be left out.

    Args:
        args: of the command line.
        commands: the names of commands.
        load: gives a command by its name.

    Raises:
        UsageError: the first word that is no option is a misspelt command.
    """
    place = _find_word(args, commands, load)
    if place is None:
        return [AUDIT, *args]
    word, rest = args[place], [*args[:place], *args[place + 1 :]]
    if word in commands:
        return [word, *rest]
    if word == HELP and not Path(word).exists():
        return [*[name for name in rest if name in commands][:1], "--help"]
    if "." not in word and "/" not in word and not Path(word).exists():
        near = difflib.get_close_matches(word.lower(), commands, n=1, cutoff=CUTOFF)
        if near:
            why = "is neither a command nor a file"
            raise UsageError(word, why, hint=f"did you mean salve-audit {near[0]}?")
    return [AUDIT, *args]


def _find_word(args: Sequence[str], commands: Collection[str], load: LoadCommand) -> int | None:
    """Place of the first argument that is neither an option nor its value."""
    place = 0
    while place < len(args):
        if not args[place].startswith("-") or args[place] == "-":
            return place
        if args[place] == "--":
            return None
        place += 1 + _takes_next(args[place], commands, load)
    return None


def _takes_next(typed: str, commands: Collection[str], load: LoadCommand) -> bool:
    """True if an option takes the argument after it for its value; commands are asked in turn, the audit first."""
    if "=" in typed or (len(typed) > 2 and not typed.startswith("--")):
        return False
    for option in _find_options(typed, commands, load):
        return not (option.is_flag or option.count)
    return False


def _find_options(typed: str, commands: Collection[str], load: LoadCommand) -> Iterator[click.Option]:
    for name in commands:
        command = load(name)
        for parameter in [] if command is None else command.params:
            if isinstance(parameter, click.Option) and typed in (*parameter.opts, *parameter.secondary_opts):
                yield parameter


def as_typed(error: SalveError, args: Sequence[str]) -> str:
    """The message of an error; an option is named by the flag that stands on the command line.

    The library names options as keyword arguments, ``fail_under``; the command line has ``--fail-under``.
    """
    if not isinstance(error, UsageError):
        return str(error)
    typed = {_spell(arg): arg.partition("=")[0] for arg in args if arg.startswith("--")}
    named = typed.get(error.what, error.what)
    words = re.compile("|".join(rf"\b{key}\b" for key in typed if "_" in key) or "(?!)")
    why = words.sub(lambda found: typed[found[0]], error.why)
    return f"{named}: {why}" if why else named


def _spell(flag: str) -> str:
    """The keyword argument that a flag sets."""
    name = flag.partition("=")[0].removeprefix("--")
    plain = {"no-cache": "use_cache", "no-images": "images"}.get(name, name.removeprefix("no-"))
    return plain.replace("-", "_")
