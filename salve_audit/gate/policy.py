"""A policy: rules with limits, severities, overrides by class, exceptions, and what undecided classes do.

A policy is read from a TOML table (`salve_audit.gate.policy_file`), or made of the flags of the command line.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from salve_audit.gate.names import name_some
from salve_audit.gate.rules import ERROR, SHORTHANDS, SWITCH, RuleKind

WARN, FAIL, PASS, SKIP = "warn", "fail", "pass", "skip"
STRONG = 0.2  # drop of accuracy from which a dependence has to be reviewed
SHORTCUT_LIMIT = 0.05  # drop of accuracy without a shortcut that is still taken for none
MAX_SKIPPED = 0.05
CONFIDENCE = 0.95
MOST_NAMED = 4  # names that share a limit
COMMAND_LINE = "command_line"  # key of the table in audit.json that holds what flags added


@dataclass(frozen=True)
class Setting:
    """A rule with its limit.

    Attributes:
        kind: the rule.
        limit: None: the rule is off, as an override may say; 1.0 for a switch.
        severity: ``error`` or ``warning``.
        name: of a global factor or a measure, where the rule is by name; empty: all of them, or not by name.
        line: of the policy file; None: not read from one.
        identity: of what a review speaks of; empty: the key says it.
    """

    kind: RuleKind
    limit: float | None
    severity: str = ERROR
    name: str = ""
    line: int | None = None
    identity: str = ""

    @property
    def key(self) -> str:
        """The path of the setting in the policy, without that of its class."""
        return f"{self.kind.key}.{self.name}" if self.name else self.kind.key

    @property
    def words(self) -> str:
        """The rule in words."""
        return f"{self.kind.words} {self.name}" if self.name else self.kind.words.rstrip(":")


def fits(pattern: str, class_name: str) -> bool:
    """True where a pattern is the name itself, which may have brackets, or a glob that matches it."""
    return class_name == pattern or fnmatch.fnmatchcase(class_name, pattern)


@dataclass(frozen=True)
class Override:
    """Settings of the classes whose name is, or matches, `pattern`; an exact name beats patterns."""

    pattern: str
    settings: tuple[Setting, ...]

    def matches(self, class_name: str) -> bool:
        """True where the override is for this class."""
        return fits(self.pattern, class_name)


@dataclass(frozen=True)
class Exemption:
    """A violation that is accepted until a day.

    Attributes:
        class_name: name or glob of the classes; empty: of the rules on the audit as a whole, which no glob covers.
        rule: key of the rule, ``max_drop`` or ``max_drop.accuracy``; ``*``: every rule.
        reason: why, in the words of who accepted it.
        until: the last day on which it holds, ISO 8601.
        line: of the policy file.
    """

    class_name: str
    rule: str
    reason: str
    until: str
    line: int | None = None

    def covers(self, class_name: str, key: str) -> bool:
        """True where the exemption is for this rule of this class."""
        named = self.rule in ("*", key, key.partition(".")[0])
        return named and (fits(self.class_name, class_name) if class_name else not self.class_name)

    def concerns(self, setting: Setting) -> bool:
        """True where the setting's rule is, or has among its names, the one that is exempted."""
        key, _, name = self.rule.partition(".")
        return self.rule == "*" or (key == setting.kind.key and name in ("", setting.name or name))


@dataclass(frozen=True)
class Policy:
    """What an audit has to hold.

    Attributes:
        settings: rules for every class.
        overrides: of classes by name or glob.
        exemptions: accepted violations.
        confidence: of the intervals that decide.
        on_undecided: what a class does whose interval contains the limit: ``warn``, ``fail`` or ``pass``.
        on_thin: what a class does of which there are too few images: ``warn``, ``fail`` or ``skip``.
        on_unreviewed: what a strong dependence does that the review does not name: ``warn``, ``fail`` or ``pass``.
        strong: drop of accuracy from which a dependence has to be reviewed.
        shortcut_limit: drop of accuracy without a reviewed shortcut that is allowed.
        min_judged: classes that every rule has to judge: a number, a share below 1, or None: all that are not thin.
        allow_missing: names or globs of classes that may have no audit images.
        max_skipped_share: of images that could not be read.
        require_autoencoder: rules that rest on the autoencoder need one that meets its own goal.
        review: the review file; None: none.
        review_line: of the policy file.
        baseline: an earlier audit; None: none.
        allow_mismatch: what audit and baseline need not share.
        source: where it comes from, in words, with the path as the user gave it.
        file: the policy file as the user gave it; empty: flags alone.
        table: the plain table that it was read from, for audit.json.
    """

    settings: tuple[Setting, ...] = ()
    overrides: tuple[Override, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    confidence: float = CONFIDENCE
    on_undecided: str = WARN
    on_thin: str = WARN
    on_unreviewed: str = WARN
    strong: float = STRONG
    shortcut_limit: float = SHORTCUT_LIMIT
    min_judged: float | None = None
    allow_missing: tuple[str, ...] = ()
    max_skipped_share: float = MAX_SKIPPED
    require_autoencoder: bool = True
    review: Path | None = None
    review_line: int | None = None
    baseline: Path | None = None
    allow_mismatch: tuple[str, ...] = ()
    source: str = ""
    file: str = ""
    table: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """True where the policy asks for nothing."""
        return not self.settings and not self.overrides and self.review is None

    @property
    def words(self) -> str | None:
        """The rules in a line; None: there is none."""
        rules = [
            words for key in dict.fromkeys(part.kind.key for part in self.settings) for words in self._words_of(key)
        ]
        rules += [f"{len(self.overrides)} overrides of classes"] * bool(self.overrides)
        rules += ["reviewed dependence"] * (self.review is not None)
        return "; ".join(rules) or None

    def _words_of(self, key: str) -> Iterator[str]:
        """A rule in words, its names by their limits."""
        names: dict[float, list[str]] = {}
        for setting in self.settings:
            if setting.kind.key != key or setting.limit is None:
                continue
            if setting.name:
                names.setdefault(setting.limit, []).append(setting.name)
            else:
                yield setting.words if setting.kind.value == SWITCH else f"{setting.words} {_number(setting.limit)}"
        if names:
            words = next(setting.kind.words for setting in self.settings if setting.kind.key == key)
            yield f"{words} " + ", ".join(
                f"{name_some(part, MOST_NAMED)} {_number(limit)}" for limit, part in names.items()
            )

    @property
    def in_image(self) -> bool:
        """True where some rule needs image reliance."""
        return self.review is not None or any(_needs_image(setting) for setting in self.all_settings)

    @property
    def all_settings(self) -> Iterator[Setting]:
        """Settings for every class, then those of overrides."""
        yield from self.settings
        for override in self.overrides:
            yield from override.settings

    def settings_of(self, class_name: str) -> tuple[Setting, ...]:
        """The settings that hold for a class: patterns in their order, then an exact name."""
        settings = [setting for setting in self.settings if not setting.kind.of_audit]
        fitting = [override for override in self.overrides if override.matches(class_name)]
        for override in sorted(fitting, key=lambda override: override.pattern == class_name):
            replaced = {setting.kind for setting in override.settings if not setting.name}  # for all names at once
            keys = {setting.key for setting in override.settings}
            kept = [part for part in settings if part.kind not in replaced and part.key not in keys]
            settings = [*kept, *override.settings]
        return tuple(settings)

    def of_audit(self) -> dict[str, Setting]:
        """The settings that judge the audit as a whole, by key."""
        return {setting.key: setting for setting in self.settings if setting.kind.of_audit}

    def may_miss(self, class_name: str) -> bool:
        """True for a class that may have no audit images."""
        return any(fits(pattern, class_name) for pattern in self.allow_missing)


def _needs_image(setting: Setting) -> bool:
    return setting.limit is not None and (setting.kind.in_image or setting.name in ("image_reliance", "redundancy"))


def _number(limit: float) -> str:
    return f"{limit:g}"


def tighten(policy: Policy, limits: Mapping[str, float]) -> Policy:
    """The policy with limits of the command line: of two limits on one measure the stricter holds.

    A limit of the command line never loosens what a policy asks for; for that, another policy has to be named.

    Args:
        policy: of a file, saved with an audit, or an empty one.
        limits: checked limits by the names of their options, without those that were not given.
    """
    if not limits:
        return policy
    given = tuple(Setting(SHORTHANDS[name], limit) for name, limit in limits.items())
    return dataclasses.replace(add_rules(policy, given, "the command line"), table=_table(policy, limits))


def add_rules(policy: Policy, given: Sequence[Setting], source: str) -> Policy:
    """The policy with further rules for every class: of two limits on one measure the stricter holds.

    Args:
        policy: as in `tighten`.
        given: the rules.
        source: of them, in words.
    """
    if not given:
        return policy
    keys = dict.fromkeys(setting.key for setting in (*policy.settings, *given))
    merged = [part for key in keys for part in _stricter(_find(policy.settings, key), _find(given, key))]
    overrides = tuple(
        Override(part.pattern, tuple(new for old in part.settings for new in _stricter(old, _find(given, old.key))))
        for part in policy.overrides
    )
    source = f"{policy.source} and {source}" if policy.source else source
    return dataclasses.replace(policy, settings=tuple(merged), overrides=overrides, source=source)


def _find(settings: Sequence[Setting], key: str) -> Setting | None:
    """The setting of a key, which for a name may be that of all names."""
    kind, _, name = key.partition(".")
    of_all = (dataclasses.replace(part, name=name) for part in settings if part.key == kind)
    return next((part for part in settings if part.key == key), None) or next(of_all, None)


def _table(policy: Policy, limits: Mapping[str, float]) -> dict[str, Any]:
    """The policy's own table, and apart from it what the command line added, so that both can be read again."""
    return {**policy.table, COMMAND_LINE: {**policy.table.get(COMMAND_LINE, {}), **limits}}


def _stricter(own: Setting | None, given: Setting | None) -> tuple[Setting, ...]:
    """The stricter of two settings; both where the policy's own warns before the given one fails."""
    if own is None or given is None or own.limit is None or given.limit is None:
        settings = [setting for setting in (own, given) if setting is not None]
        return tuple(setting for setting in settings if setting.limit is not None)[:1] or tuple(settings[:1])
    tightened = given.limit > own.limit if own.kind.at_least else given.limit < own.limit
    if own.severity == ERROR:
        return (given,) if tightened else (own,)
    return (given,) if tightened or given.limit == own.limit else (own, given)
