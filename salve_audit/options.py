"""Options as annotated fields of a dataclass, each described once.

A field ``seed: Annotated[int, Option("Seed of the split.", RUN, least=0)] = 0`` is an option: its type, default and
`Option` are all that is said of it. The checks of values, the flags of the command line, the keys of a TOML file and
the table in the documentation are derived from them. Importing this module loads neither numpy nor torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import logging
import math
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from salve_audit.errors import UsageError

log = logging.getLogger(__name__)
Owner = TypeVar("Owner")

ARGUMENT = "argument"  # a positional argument of the command
FLAG = "flag"  # a flag of the command line and a key of a TOML file
LIBRARY = "library"  # only a caller of the library sets it

TABLE_HEAD = "| flag | key and type | default | in audit.json | meaning |"
_TYPE_NAMES = {str: "str", Path: "Path", int: "int", float: "int or float", bool: "bool"}


@dataclass(frozen=True)
class ValueKind:
    """The values that a field takes, read from its annotation.

    Attributes:
        types: of the value, or of the items of a list.
        optional: None is allowed.
        listed: the value is a tuple of such items; a list stands for a tuple.
    """

    types: tuple[type, ...]
    optional: bool = False
    listed: bool = False

    @property
    def words(self) -> str:
        """The expected type as an error message names it."""
        names = " or ".join(_TYPE_NAMES[kind] for kind in self.types)
        return "a list of strings" if self.listed else names

    @property
    def in_file(self) -> ValueKind:
        """The type of a value in a TOML file, where paths are strings and there is no None."""
        return ValueKind(tuple(kind for kind in self.types if kind is not Path), listed=self.listed)

    def describe_mismatch(self, value: object) -> str | None:
        """The expected and the given type where they differ; None: the value has the right type."""
        if value is None and self.optional:
            return None
        if not self.listed:
            return None if self._holds(value) else f"expected {self.words}, got {type(value).__name__}"
        if not isinstance(value, (list, tuple)):
            return f"expected {self.words}, got {type(value).__name__}"
        return None if all(self._holds(item) for item in value) else f"expected {self.words}"

    def _holds(self, value: object) -> bool:
        allowed = (*self.types, int) if float in self.types else self.types
        return isinstance(value, allowed) and (bool in self.types or not isinstance(value, bool))


@dataclass(frozen=True)
class OldSpelling:
    """The name of an option in the release before, which is still accepted with a warning.

    Attributes:
        key: the old key; its flag has hyphens in place of the underscores.
        only: the reason why a single value is left, where the old spelling took a list; None: it took the same values.
        empty: the word that stood for the empty list on the command line.
    """

    key: str
    only: str | None = None
    empty: str = ""

    @property
    def flag(self) -> str:
        """The old flag of the command line."""
        return _flag(self.key)

    def convert(self, value: Any, name: str) -> Any:
        """The value of the new option; `name` is the old spelling as an error message cites it.

        Raises:
            UsageError: the old list names several values and one is left.
        """
        if self.only is None:
            return value
        if len(value) > 1:
            raise UsageError(name, f"{self.only}, but {len(value)} are named: {', '.join(value)}")
        return value[0] if value else None


@dataclass(frozen=True)
class Option:
    """All that is said of an option beside its name, type and default, which its field declares.

    Attributes:
        help: a sentence for ``--help`` and the documentation.
        section: the heading under which both list it.
        metavar: the word that stands for the value; None: the type's.
        choices: the allowed values, or items of a list; empty: any.
        least: the smallest allowed number.
        most: the largest allowed number.
        unset: what None stands for, in words.
        provenance: it changes what is measured, and is recorded in audit.json.
        place: where it is set: `FLAG`, `ARGUMENT` or `LIBRARY`.
        negative: the flag that turns it off, where it is on by default.
        empty: the word that stands for the empty list on the command line.
        old: its name in the release before.
    """

    help: str
    section: str
    metavar: str | None = None
    choices: Collection[str] = ()
    least: int | None = None
    most: int | None = None
    unset: str = ""
    provenance: bool = True
    place: str = FLAG
    negative: str | None = None
    empty: str = ""
    old: OldSpelling | None = None


@dataclass(frozen=True)
class DeclaredOption:
    """An option together with what its field says.

    Attributes:
        name: of the field, which is the key in a TOML file.
        kind: of its values.
        default: the field's default; None also for a field without one.
        about: its description.
    """

    name: str
    kind: ValueKind
    default: Any
    about: Option

    @property
    def flag(self) -> str:
        """The flag on the command line; for an option that is on by default, the one that turns it off."""
        return self.about.negative or _flag(self.name)

    @property
    def flags(self) -> tuple[str, ...]:
        """All flags of the option: of a switch, the one that turns it on and the one that turns it off."""
        if self.kind.types != (bool,):
            return (self.flag,)
        return _flag(self.name), self.about.negative or "--no-" + _flag(self.name).removeprefix("--")

    @property
    def default_words(self) -> str:
        """The default as help and documentation show it; empty for a switch and where nothing is to be said."""
        if self.default is None:
            return self.about.unset
        if isinstance(self.default, tuple):
            return "all" if self.default == tuple(self.about.choices) else ",".join(self.default)
        return "" if isinstance(self.default, bool) else str(self.default)

    def check(self, value: Any) -> None:
        """Type, choices and range of a value.

        Raises:
            UsageError: one of them is wrong; names the option.
        """
        mismatch = self.kind.describe_mismatch(value)
        if mismatch is not None:
            is_single = self.kind.listed and isinstance(value, str)
            raise UsageError(self.name, mismatch, hint=f"write [{value!r}]" if is_single else None)
        if value is None:
            return
        if isinstance(value, float) and self.about.least is not None and not self._is_bounded(value):
            raise UsageError(self.name, f"expected a finite number, got {value}")
        choices, least, most = self.about.choices, self.about.least, self.about.most
        for item in value if self.kind.listed else (value,):
            if choices and item not in choices:
                raise UsageError(self.name, f"{item!r} is not one of {', '.join(choices)}")
        if least is not None and value < least:
            raise UsageError(self.name, f"{value} is below {least}")
        if most is not None and value > most:
            raise UsageError(self.name, f"{value} is above {most}")

    def _is_bounded(self, value: float) -> bool:
        """False for NaN, and for infinity where audit.json, which cannot hold it, records the value."""
        return math.isfinite(value) or (math.isinf(value) and not self.about.provenance)


@functools.cache
def declared_options(owner: type) -> Mapping[str, DeclaredOption]:
    """The options of a dataclass by name, in the order of its fields.

    Every field is annotated ``Annotated[type, Option(...)]``; the type is one of str, Path, int, float, bool, a union
    of them, or a tuple of strings, with or without None.
    """
    hints = typing.get_type_hints(owner, include_extras=True)
    options = {}
    for field in dataclasses.fields(owner):
        annotation, about = typing.get_args(hints[field.name])
        default = None if field.default is dataclasses.MISSING else field.default
        options[field.name] = DeclaredOption(field.name, _read_kind(annotation), default, about)
    return types.MappingProxyType(options)


def flag_options(owner: type) -> Mapping[str, DeclaredOption]:
    """The options that are flags of the command line and keys of a TOML file, by name."""
    return {name: option for name, option in declared_options(owner).items() if option.about.place == FLAG}


def check_options(owner: type, config: object) -> None:
    """Checks every option of an instance of the dataclass by itself; lists become tuples, numpy's numbers Python's.

    Raises:
        UsageError: a value has the wrong type, is none of the choices or out of range; names the option.
    """
    for name, option in declared_options(owner).items():
        given = getattr(config, name)
        value = _without_numpy(given)
        option.check(value)
        if isinstance(value, list):
            value = tuple(value)
        if value is not given:
            object.__setattr__(config, name, value)


def _without_numpy(value: Any) -> Any:
    """A scalar of numpy as Python's own; this module does not load numpy."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value


def name_unknown(owner: type[Owner]) -> type[Owner]:
    """Lets a dataclass of options refuse keywords that are none, and a missing one, as it refuses wrong values."""
    generated = owner.__init__
    required = [each.name for each in dataclasses.fields(owner) if each.default is dataclasses.MISSING]  # type: ignore[arg-type]

    @functools.wraps(generated)
    def initialise(self: Owner, *values: Any, **options: Any) -> None:
        known = declared_options(owner)  # type: ignore[arg-type]
        for key in options:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=3)
                raise UsageError(key, "is no option", hint=f"options: {', '.join(near or known)}")
        missing = next((name for name in required[len(values) :] if name not in options), None)
        if missing is not None:
            raise UsageError(missing, "is missing")
        generated(self, *values, **options)

    owner.__init__ = initialise  # type: ignore[method-assign, assignment]
    return owner


def read_table(owner: type, table: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Keyword arguments of the dataclass from a TOML table; warns of old spellings.

    Args:
        owner: the dataclass that declares the options.
        table: keys are the flags without the hyphens in front; underscores do, too.
        source: names the table in messages.

    Raises:
        UsageError: a key is unknown or given in two spellings, or a value is wrong; names the source and the key.
    """
    options, keys = flag_options(owner), keys_of(owner)
    renamed = {option.about.old.key: option for option in options.values() if option.about.old is not None}
    settings: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("_", "-")
        option = keys.get(name) or renamed.get(name.replace("-", "_"))
        if option is None:
            raise UsageError(source, f"unknown option {key!r}", hint=_near_keys(name, keys))
        if option.name in settings:
            raise UsageError(source, f"{option.name!r} is given twice, the second time as {key!r}")
        old = None if name in keys else option.about.old
        value = _read_value(option, old, value, key, source)
        settings[option.name] = not value if f"--{name}" in option.flags[1:] else value
    return settings


def keys_of(owner: type) -> Mapping[str, DeclaredOption]:
    """The options by the keys of a TOML file, which are the flags without the hyphens in front."""
    options = flag_options(owner).values()
    return {flag.removeprefix("--"): option for option in options for flag in option.flags}


def _near_keys(name: str, keys: Collection[str]) -> str:
    near = difflib.get_close_matches(name, keys, n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else "known: " + ", ".join(sorted(keys))


def _read_value(option: DeclaredOption, old: OldSpelling | None, value: Any, key: str, source: str) -> Any:
    kind = option.kind.in_file if old is None or old.only is None else ValueKind((str,), listed=True)
    mismatch = kind.describe_mismatch(value)
    if mismatch is not None:
        raise UsageError(source, f"{mismatch} in {key!r}")
    if old is not None:
        log.warning("%s: %s", source, describe_renaming(key, option.name))
        value = old.convert(value, f"{source}: {key}")
    try:
        option.check(value)
    except UsageError as error:
        raise UsageError(source, f"{error.why} in {key!r}", error.hint) from None
    return tuple(value) if isinstance(value, list) else value


def describe_renaming(old: str, new: str) -> str:
    """The warning about an old spelling."""
    return f"{old} is now {new}; the old spelling goes in the next release"


def render_options(owner: type, sections: Sequence[str]) -> str:
    """The options of a dataclass as Markdown, one table per section, in this order of sections."""
    lines: list[str] = []
    for section in sections:
        lines += ["", f"## {section}", "", TABLE_HEAD, "|---|---|---|---|---|"]
        lines += [_render_row(option) for option in flag_options(owner).values() if option.about.section == section]
    return "\n".join(lines) + "\n"


def _render_row(option: DeclaredOption) -> str:
    about = option.about
    choices = f": {', '.join(about.choices)}" if about.choices else ""
    key = f"`{option.name}`, {option.kind.in_file.words}{choices}"
    default = str(option.default).lower() if isinstance(option.default, bool) else option.default_words
    recorded = "yes" if about.provenance else "no"
    flags = [" ".join(filter(None, (flag, about.metavar))).replace("|", "\\|") for flag in option.flags]
    return f"| {', '.join(f'`{flag}`' for flag in flags)} | {key} | {default} | {recorded} | {about.help} |"


def _read_kind(annotation: Any) -> ValueKind:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    members = typing.get_args(annotation) if is_union else (annotation,)
    named = [member for member in members if member is not types.NoneType]
    items = [typing.get_args(member)[0] for member in named if typing.get_origin(member) is tuple]
    assert not items or (items == [str] and len(named) == 1), f"{annotation}: only strings are listed"
    return ValueKind(tuple(items or named), types.NoneType in members, bool(items))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
