"""Policy files: a TOML table becomes a `Policy`, and an error names the path of the wrong key.

The table is the whole file, its ``[gate]``, or ``[tool.salve-audit.gate]`` of a pyproject.toml.
"""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salve_audit.errors import UsageError
from salve_audit.gate.policy import COMMAND_LINE, FAIL, PASS, SKIP, WARN, Exemption, Override, Policy, Setting, tighten
from salve_audit.gate.rules import (
    ACCURACY,
    BY_NAME,
    ERROR,
    KINDS,
    MISMATCHES,
    SHORTCUT,
    SWITCH,
    UNREVIEWED,
    WARNING,
    RuleKind,
    check_limit,
    describe_outside,
    type_name,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT, TABLE = "pyproject.toml", "tool.salve-audit.gate"
MOST_BYTES = 1 << 20
WORDS = {"on_undecided": (WARN, FAIL, PASS), "on_thin": (WARN, FAIL, SKIP), "on_unreviewed": (WARN, FAIL, PASS)}
SHARES = ("confidence", "strong", "shortcut_limit", "max_skipped_share")
OPTIONS = (
    *WORDS,
    *SHARES,
    "min_judged",
    "allow_missing",
    "allow_mismatch",
    "require_autoencoder",
    "review",
    "baseline",
)
PARTS = ("classes", "exceptions")
_HEADER, _INNER = re.compile(r"^\[+(.*?)\]+\s*(#.*)?$"), r"\1"


def load_policy(path: str | Path) -> Policy:
    """The policy in a TOML file.

    Raises:
        UsageError: the file cannot be read, has no policy, or has a wrong key; names file and path of the key.
    """
    path = Path(path)
    text = _read_text(path)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(str(path), f"not TOML ({error})") from error
    table, prefix = _find_table(path, content)
    return read_policy(table, str(path), _Places(find_lines(text), prefix), file=str(path))


@dataclass(frozen=True)
class _Places:
    """Lines of keys in a policy file, by their paths below `prefix`."""

    lines: Mapping[tuple[str, ...], int] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    def line(self, path: tuple[str, ...]) -> int | None:
        for end in range(len(path), 0, -1):
            line = self.lines.get(self.prefix + path[:end])
            if line is not None:
                return line
        return None


def read_policy(table: Mapping[str, Any], source: str, places: _Places | None = None, file: str = "") -> Policy:
    """The policy in a plain table; paths in it are relative to the folder of `file`.

    Raises:
        UsageError: a key is unknown, or a value has the wrong type or is out of range; names source and path.
    """
    reader = _Reader(source, places or _Places())
    own = {key: value for key, value in table.items() if key != COMMAND_LINE}
    policy = reader.read(own, Path(file).parent, file)
    added = table.get(COMMAND_LINE, {})
    if not isinstance(added, Mapping):
        raise reader.error("expected a table", (COMMAND_LINE,))
    limits = {name: check_limit(name, value) for name, value in added.items()}
    return tighten(policy, limits)


@dataclass(frozen=True)
class _Reader:
    source: str
    places: _Places

    def error(self, why: str, path: tuple[str, ...], hint: str | None = None) -> UsageError:
        line = self.places.line(path)
        at = f" (line {line})" if line is not None else ""
        return UsageError(self.source, f"{why} in {'.'.join(path)!r}{at}", hint=hint)

    def read(self, table: Mapping[str, Any], folder: Path, file: str) -> Policy:
        self._check_spellings(table, ())
        settings, options = [], {}
        for key, value in table.items():
            name = key.replace("-", "_")
            if name in KINDS:
                settings += self._read_rule(KINDS[name], value, (key,))
            elif name in OPTIONS:
                options[name] = self._read_option(name, value, (key,))
            elif name not in PARTS:
                raise self._unknown(key, (*KINDS, *OPTIONS, *PARTS), (key,))
        for name in ("review", "baseline"):
            if name in options:
                options[name] = folder / options[name]
        return Policy(
            settings=tuple(sorted(settings, key=_place)),
            overrides=self._read_overrides(table.get("classes", {})),
            exemptions=self._read_exemptions(table.get("exceptions", [])),
            review_line=self.places.line(("review",)),
            source=self.source,
            file=file,
            table=_keep_order(_plain(table)),
            **options,
        )

    def _check_spellings(self, table: Mapping[str, Any], path: tuple[str, ...]) -> None:
        """A key that stands there twice, with dashes and with underscores, has two values."""
        seen: dict[str, str] = {}
        for key in table:
            name = key.replace("-", "_")
            if name in seen:
                line = self.places.line((*path, seen[name]))
                first = f" (line {line})" if line is not None else ""
                raise self.error(f"{seen[name]!r}{first} is given again", (*path, key))
            seen[name] = key

    def _unknown(self, key: str, known: tuple[str, ...], path: tuple[str, ...]) -> UsageError:
        return self.error(f"unknown key {key!r}", path, hint="known: " + ", ".join(sorted(known)))

    def _read_option(self, name: str, value: Any, path: tuple[str, ...]) -> Any:
        if name in WORDS:
            if value not in WORDS[name]:
                raise self.error(f"expected {', '.join(WORDS[name])}, got {value!r}", path)
            return value
        if name == "require_autoencoder":
            return self._expect(value, bool, "true or false", path)
        if name in ("review", "baseline"):
            return self._expect(value, str, "a path", path)
        if name == "allow_missing":
            names = self._expect(value, list, "a list of names", path)
            return tuple(self._expect(item, str, "a name", path) for item in names)
        if name == "allow_mismatch":
            words = self._expect(value, list, "a list of words", path)
            for word in words:
                if word not in MISMATCHES:
                    raise self.error(f"{word!r} is not one of {', '.join(MISMATCHES)}", path)
            return tuple(words)
        if name == "min_judged":
            return None if value == "all" else self._read_least(value, path)
        if name == "strong" and value == 1:
            raise self.error("1 is no limit: nothing lies above it, so nothing would have to be reviewed", path)
        if name == "confidence":
            return self._number(value, path, 0.5, 0.9999)
        return self._number(value, path, 0, 1)

    def _expect(self, value: Any, kind: type, words: str, path: tuple[str, ...]) -> Any:
        if not isinstance(value, kind):
            raise self.error(f"expected {words}, got {type_name(value)}", path)
        return value

    def _read_least(self, value: Any, path: tuple[str, ...]) -> float:
        least = self._number(value, path, 0, math.inf)
        if isinstance(value, float) and not 0 < value < 1:
            raise self.error(f'expected "all", a whole number of classes or a share below 1, got {value}', path)
        return least

    def _number(self, value: Any, path: tuple[str, ...], least: float, most: float) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.error(f"expected a number, got {type_name(value)}", path)
        if not (math.isfinite(value) and least <= value <= most):
            words = f"between {least:g} and {most:g}" if math.isfinite(most) else f"a number from {least:g} on"
            raise self.error(f"{value} is not {words}", path)
        return float(value)

    def _read_rule(self, kind: RuleKind, value: Any, path: tuple[str, ...]) -> list[Setting]:
        """A rule's settings: one, or one by name."""
        if kind.value != BY_NAME or not isinstance(value, dict) or "limit" in value:
            return [self._read_setting(kind, value, path, "")]
        severity = self._read_severity(value, path)
        names = {name: entry for name, entry in value.items() if name != "severity"}
        settings = []
        for name, entry in names.items():
            if kind.names and name not in kind.names:
                raise self._unknown(name, kind.names, (*path, name))
            settings.append(self._read_setting(kind, entry, (*path, name), name, severity))
        if not settings:
            raise self.error("expected a limit or names with limits", path)
        return settings

    def _read_setting(
        self, kind: RuleKind, value: Any, path: tuple[str, ...], name: str, severity: str = ERROR
    ) -> Setting:
        if isinstance(value, dict):
            unknown = sorted(set(value) - {"limit", "severity"})
            if unknown:
                raise self._unknown(unknown[0], ("limit", "severity"), (*path, unknown[0]))
            severity = self._read_severity(value, path)
            value = value.get("limit", True if kind.value == SWITCH else None)
        if kind.value == BY_NAME and not name and kind.names and value is not False:
            raise self.error("expected a table of limits by measure", path, hint="names: " + ", ".join(kind.names))
        limit = self._read_limit(kind, value, path)
        return Setting(kind, limit, severity, name, self.places.line(path))

    def _read_limit(self, kind: RuleKind, value: Any, path: tuple[str, ...]) -> float | None:
        if value is False:
            return None
        if kind.value == SWITCH:
            self._expect(value, bool, SWITCH, path)
            return 1.0
        reason = describe_outside(kind, value)
        if reason is not None:
            raise self.error(reason, path)
        return float(value)

    def _read_severity(self, value: Mapping[str, Any], path: tuple[str, ...]) -> str:
        severity = value.get("severity", ERROR)
        if severity not in (ERROR, WARNING):
            raise self.error(f"expected {ERROR} or {WARNING}, got {severity!r}", (*path, "severity"))
        return str(severity)

    def _read_overrides(self, value: Any) -> tuple[Override, ...]:
        if isinstance(value, list) and all(isinstance(part, dict) and set(part) == {"name", "rules"} for part in value):
            value = {part["name"]: part["rules"] for part in value}  # as audit.json has it, which sorts keys
        table = self._expect(value, dict, "a table of classes", ("classes",))
        overrides = []
        for pattern, rules in table.items():
            path, settings = ("classes", pattern), []
            self._check_spellings(self._expect(rules, dict, "a table of rules", path), path)
            for key, entry in rules.items():
                kind = KINDS.get(key.replace("-", "_"))
                if kind is None or kind.key == "max_fragile_share":
                    raise self._unknown(key, tuple(set(KINDS) - {"max_fragile_share"}), (*path, key))
                settings += self._read_rule(kind, entry, (*path, key))
            overrides.append(Override(pattern, tuple(settings)))
        return tuple(overrides)

    def _read_exemptions(self, value: Any) -> tuple[Exemption, ...]:
        entries = self._expect(value, list, "a list of tables [[exceptions]]", ("exceptions",))
        return tuple(self._read_exemption(entry, f"exceptions[{i}]") for i, entry in enumerate(entries))

    def _read_exemption(self, value: Any, at: str) -> Exemption:
        known = ("class", "rule", "reason", "until")
        entry = self._expect(value, dict, "a table", (at,))
        for key in entry:
            if key not in known:
                raise self._unknown(key, known, (at, key))
        for key in known:
            if key not in entry:
                raise self.error(f"missing key {key!r}", (at,))
        texts = {key: self._expect(entry[key], str, "a text", (at, key)).strip() for key in ("class", "rule", "reason")}
        if not texts["reason"]:
            raise self.error("expected a reason", (at, "reason"))
        rule = texts["rule"].replace("-", "_")
        self._check_exempt(rule, (at, "rule"))
        return Exemption(
            texts["class"],
            rule,
            texts["reason"],
            self._read_day(entry["until"], (at, "until")),
            self.places.line((at,)),
        )

    def _check_exempt(self, rule: str, path: tuple[str, ...]) -> None:
        key, dot, name = rule.partition(".")
        if rule == "*" or key in (SHORTCUT.key, UNREVIEWED.key):
            return
        if key not in KINDS:
            raise self._unknown(rule, (*KINDS, SHORTCUT.key, UNREVIEWED.key, "*"), path)
        kind = KINDS[key]
        if kind is ACCURACY:
            raise self.error(f"{key} has no exceptions: below it the exit code is 2, which nothing masks", path)
        if dot and (kind.value != BY_NAME or (kind.names and name not in kind.names)):
            known = tuple(f"{key}.{part}" for part in kind.names) or (key,)
            raise self._unknown(rule, known, path)

    def _read_day(self, value: Any, path: tuple[str, ...]) -> str:
        try:
            day = value if isinstance(value, datetime.date) else datetime.date.fromisoformat(value)
        except (TypeError, ValueError):
            raise self.error(f"expected a date such as 2027-01-31, got {value!r}", path) from None
        return day.isoformat()[:10]


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(str(path), "is too large for a policy")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(str(path), reason or "cannot be read") from error


def _find_table(path: Path, content: dict[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    if path.name == PROJECT:
        prefix: tuple[str, ...] = ("tool", "salve-audit", "gate")
    else:
        prefix = ("gate",) if "gate" in content else ()
    table: Any = content
    for key in prefix:
        table = table.get(key) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        raise UsageError(str(path), f"has no table [{'.'.join(prefix)}]")
    return table, prefix


def find_lines(text: str) -> dict[tuple[str, ...], int]:
    """Line of every key and table header in a TOML text, by path; of arrays of tables ``name[0]``, ``name[1]``, ..."""
    lines: dict[tuple[str, ...], int] = {}
    counts: dict[tuple[str, ...], int] = {}
    here: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            path = _path_of(f"{_HEADER.sub(_INNER, stripped)} = 0") or here
            if stripped.startswith("[["):
                counts[path] = counts.get(path, -1) + 1
                path = (*path[:-1], f"{path[-1]}[{counts[path]}]")
            here = path
            lines.setdefault(here, number)
        elif "=" in stripped and not stripped.startswith("#"):
            own = _path_of(f"{stripped.partition('=')[0]} = 0")
            if own is not None:
                lines.setdefault((*here, *own), number)
    return lines


def _path_of(assignment: str) -> tuple[str, ...] | None:
    """The dotted key of ``key = 0`` as TOML reads it; None: it is none."""
    try:
        table: Any = tomllib.loads(assignment)
    except tomllib.TOMLDecodeError:
        return None
    path = []
    while isinstance(table, dict):
        ((key, table),) = table.items()
        path.append(key)
    return tuple(path)


def _place(setting: Setting) -> tuple[int, str]:
    """Settings are judged and listed in one order, whatever that of the file is."""
    return list(KINDS).index(setting.kind.key), setting.name


def _keep_order(table: dict[str, Any]) -> dict[str, Any]:
    """The table with overrides as a list: later patterns beat earlier ones, and audit.json sorts keys."""
    classes = table.get("classes")
    if not isinstance(classes, dict):
        return table
    return {**table, "classes": [{"name": name, "rules": rules} for name, rules in classes.items()]}


def _plain(value: Any) -> Any:
    """The table with dates as texts, as audit.json holds it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, (datetime.date, datetime.time)) else value
