"""The judgement: an audit under a policy becomes the one Verdict that all outputs read."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from salve_audit.gate.deciding import describe_second_looks, offer_more
from salve_audit.gate.estimates import Decision, Estimate, at_confidence, decide, finite, unjudged
from salve_audit.gate.measures import (
    Dependence,
    estimate_drop,
    find_dependences,
    measure,
    measure_share,
    why_no_reliance,
)
from salve_audit.gate.names import name_some
from salve_audit.gate.policy import FAIL, SKIP, WARN, Exemption, Policy, Setting
from salve_audit.gate.review import SHORTCUT as ENTRY_SHORTCUT
from salve_audit.gate.review import Review, ReviewedClass, review_class
from salve_audit.gate.rules import ACCURACY, DROP, ERROR, FACTOR, FRAGILE_SHARE, REDUNDANCY, SHORTCUT, UNREVIEWED
from salve_audit.gate.trust import find_problems, find_strangers
from salve_audit.results import AuditResult, ClassReliance, Rule, Verdict
from salve_audit.results.reviewable import OBJECT, REGION, fingerprint
from salve_audit.results.verdict import NO_VERDICT

Losses = Mapping[tuple[str, str], tuple[Estimate, Decision]]  # by class (empty: all) and measure


@dataclass(frozen=True)
class Given:
    """What a judgement needs beside the audit and the policy.

    Attributes:
        review: the review file of the policy.
        losses: against the baseline, already decided: see `salve_audit.gate.baseline`.
        problems: reasons found before the judgement for which nothing can be said.
        notes: what else a reader should know.
        today: the day on which exceptions are looked at.
    """

    review: Review | None = None
    losses: Losses = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    today: datetime.date | None = None


def today() -> datetime.date:
    """The day of the judgement, or the one that reproducible builds ask for."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.datetime.now(datetime.timezone.utc)
    return (datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc) if epoch.isdigit() else now).date()


def judge(result: AuditResult, policy: Policy, given: Given | None = None) -> Verdict:
    """The verdict on an audit: violated where a whole interval lies beyond a limit, and never passed by accident.

    Whatever makes the numbers untrustworthy (see `salve_audit.gate.trust`), and rules that could judge too few classes,
    become `problems`: then the verdict is neither passed nor failed, and the exit code is 2.
    """
    given = given or Given()
    if policy.is_empty and not given.problems:
        return replace(NO_VERDICT, notes=given.notes)
    judgement = _Judgement(result, policy, given)
    rules = judgement.judge_all()
    problems = (*given.problems, *find_problems(result, policy, given.today or today()), *judgement.problems)
    problems += find_strangers(result, given.review)
    if not rules:
        problems = (*problems, "no rule of the policy concerns a class of the audit: nothing was evaluated")
    failed = any(rule.effect == "fail" for rule in rules)
    looks = describe_second_looks(rules, result, policy.confidence)
    return Verdict(
        passed=None if problems else not failed,
        policy=policy.words,
        rules=rules,
        problems=tuple(dict.fromkeys(problems)),
        notes=(*given.notes, *judgement.notes, *([looks] if looks is not None else [])),
        source=policy.source,
        policy_file=policy.file,
        table=policy.table,
    )


class _Judgement:
    """One judgement: rules as they are decided, and what came up on the way."""

    def __init__(self, result: AuditResult, policy: Policy, given: Given) -> None:
        self.result, self.policy, self.given = result, policy, given
        self.classes = [class_info for class_info in result.classes if class_info.n > 0]
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.screened: set[tuple[str, str]] = set()  # classes and keys of checks on what was screened alone

    def judge_all(self) -> tuple[Rule, ...]:
        rules = [rule for class_info in self.classes for rule in self._judge_class(class_info)]
        rules = self._mark_unjudged(rules)
        of_audit = self.policy.of_audit()
        if FRAGILE_SHARE.key in of_audit:
            rules = self._judge_share(rules, of_audit[FRAGILE_SHARE.key])
        return (*rules, *self._judge_audit(of_audit))

    def _judge_class(self, class_info: ClassReliance) -> Iterator[Rule]:
        reviewed = self._review(class_info)
        for setting in _expanded(self.policy.settings_of(class_info.name), class_info):
            if setting.limit is None:
                continue
            if setting.kind is DROP:
                estimate, decision = self.given.losses.get((class_info.name, setting.name), _NO_BASELINE)
            else:
                estimate = measure(setting, self.result, class_info, reviewed.accepted)
                estimate = at_confidence(estimate, self.policy.confidence)
                decision = decide(estimate, setting.limit, setting.kind.at_least)
            decision = offer_more(decision, setting, class_info)
            rule = self._rule(setting, class_info.name, estimate, decision, masks=setting.kind is ACCURACY)
            if estimate.screened:
                self.screened.add((class_info.name, setting.key))
            if setting.kind is ACCURACY and rule.effect == "fail":
                self.problems.append(_words_of(rule))
            yield self._accept(rule, setting, class_info, reviewed)
        yield from self._judge_review(class_info, reviewed)

    def _rule(
        self, setting: Setting, class_name: str, estimate: Estimate, decision: Decision, masks: bool = False
    ) -> Rule:
        """The check; `masks`: its failure is exit code 2, from which no exception exempts."""
        assert setting.limit is not None, "a rule that is off judges nothing"
        exemption = None if masks else self._exempts(class_name, setting.key)
        effect, why = self._effect(setting, exemption, estimate, decision)
        return Rule(
            rule=setting.words,
            class_name=class_name,
            value=finite(estimate.value),
            low=finite(estimate.low),
            high=finite(estimate.high),
            limit=setting.limit,
            outcome=decision.outcome,
            effect=effect,
            key=setting.key,
            why=why,
            n=estimate.n or None,
            n_needed=decision.n_needed,
            line=setting.line,
            identity=setting.identity,
        )

    def _effect(
        self, setting: Setting, exemption: Exemption | None, estimate: Estimate, decision: Decision
    ) -> tuple[str, str]:
        """What an outcome does, and why."""
        outcome, why = decision.outcome, decision.why
        if outcome == "pass":
            return "pass", why
        if outcome == "thin" and estimate.screened:
            is_weak = estimate.value <= (setting.limit or 0)  # that is how the measure saves its time
            word = SKIP if is_weak or self.policy.on_thin == SKIP else WARN
        elif outcome == "thin":
            word = self.policy.on_thin if estimate.thin else "unjudged"
        else:
            word = FAIL if outcome == "fail" else self.policy.on_undecided
        if word == FAIL:
            if exemption is not None:
                return "exempt", _say_exempt(exemption)
            return ("fail" if setting.severity == ERROR else "warn"), why
        effects = {WARN: "warn", SKIP: "skip", "pass": "pass", "unjudged": "unjudged"}
        return effects[word], why

    def _accept(self, rule: Rule, setting: Setting, class_info: ClassReliance, reviewed: ReviewedClass) -> Rule:
        """The rule, exempt where what breaks it is what the review accepts: a factor, or the strongest dependence."""
        if rule.outcome not in ("fail", "undecided") or not reviewed.accepted:
            return rule
        accepted = None
        if setting.kind is FACTOR:
            named = (part for part in reviewed.accepted if part.concept is None and part.kind == setting.name)
            accepted = next(named, None)
        elif setting.kind is REDUNDANCY or (setting.kind is DROP and setting.name == "redundancy"):
            strongest = find_dependences(self.result, class_info)[0]
            accepted = strongest if strongest in reviewed.accepted else None
        if accepted is None:
            return rule
        return replace(rule, effect="exempt", why=f"the review accepts what it depends on ({accepted.name})")

    def _exempts(self, class_name: str, key: str) -> Exemption | None:
        day = (self.given.today or today()).isoformat()
        valid = (part for part in self.policy.exemptions if part.until >= day)
        return next((part for part in valid if part.covers(class_name, key)), None)

    def _mark_unjudged(self, rules: Sequence[Rule]) -> list[Rule]:
        """Rules that could not be judged for another reason than too few images are errors where too many are.

        Every rule has to judge all of its classes that are not thin, or `min_judged` of them, and at least one; one
        that found a factor too weak to be examined has looked at it.
        """
        marked = {group_of(rule): "warn" for rule in rules}
        rules_of: dict[str, dict[str, str]] = {}  # by the reason that they share; with how many classes each judged
        for key in marked:
            own = [rule for rule in rules if group_of(rule) == key]
            judged = sum(rule.outcome != "thin" or (rule.class_name, key) in self.screened for rule in own)
            blamed = [rule for rule in own if rule.effect == "unjudged"]
            needed = self._count_needed(len(own), judged + len(blamed))
            if judged >= max(1, needed):
                continue
            marked[key] = "error"
            rules_of.setdefault(_say_reasons(own), {})[own[0].rule] = _say_judged(judged, max(1, needed))
        for reasons, said in rules_of.items():
            counts = next(iter(said.values())) if len(set(said.values())) == 1 else "too few classes could be judged"
            self.problems.append(f"{name_some(list(said), 3, '; ')}: {counts}{reasons}")
        return [replace(rule, effect=marked[group_of(rule)]) if rule.effect == "unjudged" else rule for rule in rules]

    def _count_needed(self, n: int, n_not_thin: int) -> int:
        least = self.policy.min_judged
        if least is None:
            return n_not_thin
        return round(least * n + 0.499) if least < 1 else int(least)

    def _judge_share(self, rules: list[Rule], setting: Setting) -> list[Rule]:
        """With a limit on the share of fragile classes, a single violation is a warning, and the share decides."""
        if setting.limit is None:
            return rules
        judged = {rule.class_name for rule in rules if rule.outcome != "thin"}
        fragile = {rule.class_name for rule in rules if rule.effect == "fail"}
        doubtful = fragile | {rule.class_name for rule in rules if rule.outcome == "undecided"}
        estimate = unjudged("no class could be judged")
        if judged:
            share, most = len(fragile) / len(judged), len(doubtful & judged | fragile) / len(judged)
            estimate = Estimate(share, share, most, len(judged))
        decision = decide(estimate, setting.limit, at_least=False)
        if decision.outcome == "undecided":
            decision = Decision("undecided", "undecided classes would take the share beyond the limit")
        softened = [replace(rule, effect="warn") if rule.effect == "fail" else rule for rule in rules]
        return [*softened, self._blame(self._rule(setting, "", estimate, decision))]

    def _judge_audit(self, settings: Mapping[str, Setting]) -> Iterator[Rule]:
        """Accuracy over all images: below the limit, or beyond the loss against the baseline, nothing is trusted."""
        setting = settings.get(ACCURACY.key)
        if setting is not None and setting.limit is not None:
            n, hits = self.result.counts
            estimate = measure_share(hits, n, self.policy.confidence)
            yield self._audit_rule(setting, estimate, decide(estimate, setting.limit, at_least=True))
        loss = self.given.losses.get(("", "accuracy"))
        drop = next((part for part in self.policy.settings if part.kind is DROP and part.name == "accuracy"), None)
        if loss is not None and drop is not None and drop.limit is not None:
            yield self._audit_rule(drop, *loss)

    def _audit_rule(self, setting: Setting, estimate: Estimate, decision: Decision) -> Rule:
        rule = self._rule(setting, "", estimate, decision, masks=True)
        if rule.effect == "fail":
            self.problems.append(_words_of(rule))
        return self._blame(rule)

    def _blame(self, rule: Rule) -> Rule:
        """A rule on the whole audit that could not be judged is an error."""
        if rule.effect != "unjudged":
            return rule
        self.problems.append(f"{rule.rule}: {rule.why}")
        return replace(rule, effect="error")

    def _review(self, class_info: ClassReliance) -> ReviewedClass:
        if self.given.review is None or class_info.image_reliance is None:
            return ReviewedClass()
        return review_class(self.given.review, self.result, class_info, self.policy.strong)

    def _judge_review(self, class_info: ClassReliance, reviewed: ReviewedClass) -> Iterator[Rule]:
        """Shortcuts beyond their limit fail; strong dependences that nobody has looked at do what the policy says."""
        if self.given.review is None or class_info.image_reliance is None:
            return  # the latter is a problem of the audit: see salve_audit.gate.trust
        self._ask_for_unseen(class_info, reviewed)
        absent = why_no_reliance(self.result, class_info)
        for entry, dependence in reviewed.shortcuts:
            limit = self.policy.shortcut_limit if entry.limit is None else entry.limit
            name, line = entry.name or dependence.name, self.policy.review_line
            setting = Setting(SHORTCUT, limit, name=name, line=line, identity=f"{entry.kind} {entry.fingerprint}")
            estimate = absent or estimate_drop(dependence, class_info.image_reliance)
            estimate = at_confidence(estimate, self.policy.confidence)
            decision = offer_more(decide(estimate, limit, at_least=False), setting, class_info)
            yield self._rule(setting, class_info.name, estimate, decision)
        unreviewed = reviewed.unreviewed if absent is None else ()
        if not unreviewed:
            nothing = absent or Estimate(n=class_info.image_reliance.n)
            decision = Decision("pass") if absent is None else decide(absent, self.policy.strong, at_least=False)
            setting = Setting(UNREVIEWED, self.policy.strong, line=self.policy.review_line)
            yield self._rule(setting, class_info.name, nothing, decision)
        for dependence in unreviewed:
            yield self._judge_unreviewed(class_info, dependence)
            self.notes.append(_describe_unreviewed(self.result, class_info.name, dependence))

    def _judge_unreviewed(self, class_info: ClassReliance, dependence: Dependence) -> Rule:
        line, identity = self.policy.review_line, _identify(self.result, dependence)
        setting = Setting(UNREVIEWED, self.policy.strong, name=dependence.name, line=line, identity=identity)
        estimate = estimate_drop(dependence, class_info.image_reliance)
        rule = self._rule(setting, class_info.name, estimate, Decision("undecided", _UNSEEN))
        exemption = self._exempts(class_info.name, UNREVIEWED.key) if self.policy.on_unreviewed == FAIL else None
        if exemption is not None:
            return replace(rule, effect="exempt", why=_say_exempt(exemption))
        return replace(rule, effect=self.policy.on_unreviewed)

    def _ask_for_unseen(self, class_info: ClassReliance, reviewed: ReviewedClass) -> None:
        """Shortcuts of the review that the audit has no counterpart of: factors were not measured, concepts not found.

        A factor that was not measured is nothing that a verdict may pass over. A concept may be gone, or look
        otherwise to this network: whatever the class depends on now has to be looked at.
        """
        assert self.given.review is not None, "there is a review"
        met = [entry for entry, _ in reviewed.shortcuts]
        for entry in self.given.review.entries:
            if entry.class_name != class_info.name or entry.verdict != ENTRY_SHORTCUT or entry in met:
                continue
            said = f"the review calls {entry.name} of {entry.class_name} a shortcut, and"
            if entry.kind != REGION:
                self.problems.append(f"{said} the factor {entry.kind!r} was not measured")
            else:
                self.notes.append(f"{said} no concept of this audit is the same: it is gone, or looks otherwise now")


_NO_BASELINE = (
    unjudged("there is no baseline to compare with"),
    Decision("thin", "there is no baseline to compare with"),
)
_UNSEEN = "strong, and the review file does not name it"


def _say_exempt(exemption: Exemption) -> str:
    return f"accepted until {exemption.until}: {exemption.reason}"


def group_of(rule: Rule) -> str:
    """The rules that have to judge enough classes between them: of one key, or all that a review makes."""
    return "review" if rule.key.partition(".")[0] in (SHORTCUT.key, UNREVIEWED.key) else rule.key


def _expanded(settings: Iterable[Setting], class_info: ClassReliance) -> Iterator[Setting]:
    """The settings, with a limit on every global factor as one setting per factor that was removed."""
    settings = tuple(settings)
    named = {setting.name for setting in settings if setting.kind is FACTOR}
    for setting in settings:
        if setting.kind is not FACTOR or setting.name:
            yield setting
            continue
        reliance = class_info.image_reliance
        factors = (
            []
            if reliance is None
            else [part.name for part in reliance.factors if part.is_removed and part.kind != OBJECT]
        )
        for name in factors:
            if name not in named:
                yield replace(setting, name=name)
        if not factors:
            yield setting


def _words_of(rule: Rule) -> str:
    who = f"class {rule.class_name!r}" if rule.class_name else "the audit"
    value = "not reached" if rule.value is None else f"{rule.value:.3g}"
    return f"{who} has {value} where the policy asks for {rule.rule} {rule.limit:g}: nothing about it can be trusted"


def _say_judged(judged: int, needed: int) -> str:
    if judged == 0:
        return "no class could be judged"
    return f"{judged} class{'es' * (judged > 1)} could be judged, {needed} are needed"


def _say_reasons(rules: Sequence[Rule]) -> str:
    """The first classes that a rule did not judge, with their reasons."""
    missing = [rule for rule in rules if rule.outcome == "thin"]
    first = "; ".join(f"{rule.class_name}: {rule.why}" for rule in missing[:3])
    more = f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
    return f" ({first}{more})" if missing else f", and the rule concerns {len(rules)}"


def _identify(result: AuditResult, dependence: Dependence) -> str:
    """Kind and fingerprint of a concept, or the factor: its number is another one in another audit."""
    if dependence.concept is None:
        return dependence.kind
    return f"{REGION} {fingerprint(next(part for part in result.concepts if part.index == dependence.concept))}"


def _describe_unreviewed(result: AuditResult, class_name: str, dependence: Dependence) -> str:
    """Where the crop of a dependence is to be seen."""
    place = f"{class_name} depends on {dependence.name} ({dependence.drop:.2f}), which nobody has reviewed"
    if dependence.concept is None:
        return place
    concept = next(concept for concept in result.concepts if concept.index == dependence.concept)
    return (
        f"{place}: seen in {concept.images[0].path}, concept {concept.index} of the report" if concept.images else place
    )
