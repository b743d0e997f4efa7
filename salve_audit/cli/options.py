"""Flags of an audit, derived from `AuditConfig`: flag beats --config file beats [tool.salve-audit] beats default."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from salve_audit.config import DEFAULT_OUT, SECTIONS, AuditConfig
from salve_audit.errors import UsageError
from salve_audit.options import DeclaredOption, OldSpelling, describe_renaming, flag_options
from salve_audit.settings import read_settings

log = logging.getLogger(__name__)

OTHERS = "Other options"
EDITED, REVIEWED = "What is edited", "What is said"
AS_AUDITED = "as for the audit"  # default of commands that take up a saved audit


class CommaList(click.ParamType):  # type: ignore[type-arg]  # older clicks cannot be subscripted
    """A comma-separated list out of fixed words."""

    name = "list"

    def __init__(self, words: Collection[str]) -> None:
        self.words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        chosen = tuple(word.strip() for word in value.split(",") if word.strip())
        for word in chosen:
            if word not in self.words:
                near = difflib.get_close_matches(word, self.words, n=1)
                meant = f"; did you mean {near[0]}?" if near else ""
                self.fail(f"{word!r} is not one of {', '.join(self.words)}{meant}", param, ctx)
        return chosen

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The words that are not yet in the list."""
        *before, last = incomplete.split(",")
        return [
            CompletionItem(",".join([*before, word]))
            for word in self.words
            if word.startswith(last) and word not in before
        ]


class Names(click.ParamType):  # type: ignore[type-arg]
    """A comma-separated list of any names; one word stands for the empty list."""

    name = "names"

    def __init__(self, empty: str) -> None:
        self.empty = empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip()) if value != self.empty else ()


class SectionedOption(click.Option):
    """A flag that ``--help`` lists under a heading."""

    def __init__(self, *declarations: Any, section: str = OTHERS, **settings: Any) -> None:
        super().__init__(*declarations, **settings)
        self.section = section


class SectionedCommand(click.Command):
    """A command whose ``--help`` lists flags under the headings of their sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections in their order, in each the shortest flags first."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in (EDITED, REVIEWED, *SECTIONS, OTHERS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections[getattr(parameter, "section", OTHERS)].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(sorted(records, key=lambda record: len(record[0])))


def own_option(section: str, *declarations: Any, **settings: Any) -> Callable[..., Any]:
    """A flag of one command alone, under the heading of a section."""
    return click.option(*declarations, cls=SectionedOption, section=section, **settings)


def config_option(name: str, parameter: str | None = None, **changes: Any) -> Callable[..., Any]:
    """The flag of a field of `AuditConfig`; of a switch, both flags.

    Args:
        name: of the field.
        parameter: name of the command's parameter, where it is not the field's.
        changes: settings of `click.option` that differ from the derived ones.
    """
    option = flag_options(AuditConfig)[name]
    settings: dict[str, Any] = {
        "help": _help(option, option.default_words),
        "metavar": option.about.metavar,
        **_values(option),
    }
    settings |= {"default": None, "section": option.about.section, "cls": SectionedOption, **changes}
    return click.option("/".join(option.flags), parameter or name, **settings)


def shared_option(name: str, *, unset: str | None = None, **changes: Any) -> Callable[..., Any]:
    """The flag of a field of `AuditConfig` for a command other than the audit: default and checks are the field's.

    Args:
        name: of the field.
        unset: words for the default in the help, where the command has another than the audit.
        changes: settings of `click.option` that differ from the derived ones.
    """
    option = flag_options(AuditConfig)[name]

    def check(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        option.check(value)
        return value

    help_text = _help(option, option.default_words if unset is None else unset)
    return config_option(name, **{"default": option.default, "callback": check, "help": help_text, **changes})


def audit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All flags of an audit, and the hidden old spellings of those that were renamed."""
    command = verbosity_options(command)
    path = click.Path(path_type=Path)
    command = click.option(
        "--config", type=path, metavar="FILE", help="TOML file with these options, keys as flags: no-images = true."
    )(command)
    for name, option in reversed(list(flag_options(AuditConfig).items())):
        if option.about.old is not None:
            command = _old_option(option, option.about.old)(command)
        command = config_option(name)(command)
    return command


def options_of(options: Sequence[Callable[..., Any]]) -> Callable[..., Any]:
    """A decorator that gives a command these options, in this order, and those of every command behind them."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = verbosity_options(command)
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def verbosity_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--quiet and -v."""
    command = click.option("-v", "--verbose", count=True, help="Say more; tracebacks of errors.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Only results, warnings and errors.")(command)


def build_config(model: str, data: str | None, flags: dict[str, Any]) -> AuditConfig:
    """The configuration from flags, files and defaults; warns of old spellings.

    Raises:
        UsageError: a file has an unknown key, or a value is wrong; names the file, and the key or the flag.
    """
    settings = read_settings(flags.get("config"))
    for name, option in flag_options(AuditConfig).items():
        value = flags.get(name)
        old = option.about.old
        if old is not None and flags.get(old.key) is not None:
            if value is not None:
                raise UsageError(old.flag, f"is the old spelling of {option.flag}, which is given, too")
            log.warning("%s", describe_renaming(old.flag, option.flag))
            settings[name] = old.convert(flags[old.key], old.flag)
        elif value is not None:
            settings[name] = value
    settings.setdefault("out", DEFAULT_OUT)
    return AuditConfig(model=model, data=data, **settings)


def _old_option(option: DeclaredOption, old: OldSpelling) -> Callable[..., Any]:
    values = _values(option)
    if option.kind.listed or old.only is not None:
        values = {"type": Names(old.empty)}
    return click.option(old.flag, hidden=True, default=None, **values)


def _values(option: DeclaredOption) -> dict[str, Any]:
    """The type of a flag's value, as settings of `click.option`."""
    kind, choices = option.kind, option.about.choices
    if kind.types == (bool,):
        return {"is_flag": True}
    if kind.listed:
        return {"type": CommaList(choices) if choices else Names(option.about.empty)}
    if choices:
        return {"type": click.Choice(tuple(choices))}
    return {"type": click.Path() if Path in kind.types else kind.in_file.types[0]}  # shells complete paths


def _help(option: DeclaredOption, default: str) -> str:
    about = option.about
    named = about.metavar is None or all(choice in about.metavar for choice in about.choices)
    listed = "" if named else f" Out of {', '.join(about.choices)}."
    return about.help + listed + (f"  [default: {default}]" if default else "")
