"""What to do about a finding: a table of rules, each with how to check it and the line that guards it from now on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from salve_audit.report import commands
from salve_audit.report.conclusions import SHORTCUT, Conclusion, Conclusions, Doubt, Group, images_to_decide
from salve_audit.report.language import say
from salve_audit.report.numbers import count, names, percent
from salve_audit.report.sentences import MOST_IMAGES, REGION, class_sentence, factor_name, is_shown_by_removal_alone
from salve_audit.results import FeatureInfo

RELIANCE_KEY = "fail_over_reliance"
# Words in the name of a global factor -> what to do in training. A factor with none of them is varied at random.
REMEDIES = {
    "border": "Crop and shift at random in training, or mask the border",
    "colour": "Vary hue, saturation and brightness at random in training",
    "grey": "Vary hue, saturation and brightness at random in training",
    "sharp": "Blur and sharpen at random in training",
    "blur": "Blur and sharpen at random in training",
    "noise": "Add noise at random in training, and re-encode all classes alike",
    "spectrum": "Blur, sharpen and add noise at random in training",
    "compress": "Save the images of all classes with the same encoder and quality",
    "jpeg": "Save the images of all classes with the same encoder and quality",
    "mean": "Equalise lighting over the classes: crop, flip and shift at random in training",
    "background": "Exchange backgrounds between classes in training, or collect the class in other places",
}
BY_WHAT_IT_LACKS = "Find out whether the class is known by what its images lack. If so, this is no shortcut."
# Measured by benchmarks/repair.py
EDIT_IS_NO_REPAIR = (
    "An edit is no repair: other images are no longer taken for the class, but its own that need the shortcut are lost."
)
ANY_FACTOR = "Vary it at random in training, alike for all classes"


@dataclass(frozen=True)
class Advice:
    """One recommendation.

    Attributes:
        class_name: the class that it concerns; "": the audit as a whole.
        evidence: what was found.
        action: what to do.
        command: the command for it, or for looking closer; "": there is none.
        check: how to see that it worked.
        gate: the line of the settings that guards it.
        weight: where it stands among the others, the smallest first.
        then: the command that follows once this is decided; "": there is none.
        shared: the action without what differs from class to class and the evidence says as well; "": nothing does.
    """

    class_name: str
    evidence: str
    action: str
    command: str
    check: str
    gate: str
    weight: int
    then: str = ""
    shared: str = ""

    @property
    def brief(self) -> str:
        """The action's first sentence, for the first page."""
        return self.action.split(". ")[0].rstrip(".") + "."


@dataclass(frozen=True)
class Rule:
    """Advice on every class that a finding concerns."""

    applies: Callable[[Conclusion], bool]
    advise: Callable[[Conclusion, Conclusions], Advice]


def recommend(conclusions: Conclusions) -> tuple[Advice, ...]:
    """All advice, the most urgent first; a class gets that of the first rule that concerns it."""
    advice = [*_of_classes(conclusions), *_of_audit(conclusions)]
    return tuple(sorted(advice, key=lambda each: each.weight))


def group_alike(advice: Iterable[Advice]) -> tuple[tuple[Advice, ...], ...]:
    """Advice that asks for the same of several classes, together; the order is that of the first of each."""
    groups: dict[tuple[str, ...], list[Advice]] = {}
    for each in advice:
        groups.setdefault((each.action, each.command, each.check, each.gate), []).append(each)
    return tuple(tuple(group) for group in groups.values())


def _of_classes(conclusions: Conclusions) -> Iterator[Advice]:
    yield from filter(None, (advise_class(conclusion, conclusions) for conclusion in conclusions.ranked))


def advise_class(conclusion: Conclusion, conclusions: Conclusions) -> Advice | None:
    """What to do about one class; None: nothing."""
    rule = next((rule for rule in RULES if rule.applies(conclusion)), None)
    return None if rule is None else rule.advise(conclusion, conclusions)


def _region(conclusion: Conclusion, conclusions: Conclusions) -> Advice:
    concept = conclusion.concept
    what_edits_do = [say(EDIT_IS_NO_REPAIR)] if concept is not None and concept.removal is not None else []
    closer = commands.explain_any(conclusions.result)
    if concept is not None and concept.images:
        closer = commands.explain(conclusions.result, concept.images[0].path)
    texts = {
        "seen": "Decide whether the outlined thing is the object itself or a shortcut. If a shortcut, collect images "
        "of the class without it and of other classes with it, and fit the last layer again or retrain.",
        "unseen": "Find out from images of the class whether the thing is the object itself or a shortcut. If a "
        "shortcut, collect images of the class without it and of other classes with it, and fit the last layer again "
        "or retrain.",
        SHORTCUT: "Collect images of the class without the shortcut and of other classes with it. Fit the last layer "
        "again or retrain.",
    }
    key = SHORTCUT if conclusion.review == SHORTCUT else "seen" if concept is not None and concept.images else "unseen"
    return Advice(
        conclusion.name,
        class_sentence(conclusion, conclusions.threshold),
        " ".join((say(texts[key]), *what_edits_do)),
        {SHORTCUT: commands.rerun(conclusions.result), "seen": commands.review(), "unseen": closer}[key],
        _check(conclusions),
        commands.gate_line(RELIANCE_KEY, conclusions.threshold),
        0,
        closer if key == "seen" else "",
    )


def _factor(conclusion: Conclusion, conclusions: Conclusions) -> Advice:
    kind = conclusion.reliance.kind or "" if conclusion.reliance is not None else ""
    words = f"{factor_name(conclusion)} {kind}".lower()
    remedy = next((text for word, text in REMEDIES.items() if word in words), ANY_FACTOR)
    action = say(remedy) + ". " + say("Then retrain.")
    if is_shown_by_removal_alone(conclusion):
        action = say(BY_WHAT_IT_LACKS) + " " + say("If not:") + " " + action
    return Advice(
        conclusion.name,
        class_sentence(conclusion, conclusions.threshold),
        action,
        commands.rerun(conclusions.result),
        _check(conclusions),
        commands.gate_line(RELIANCE_KEY, conclusions.threshold),
        0,
    )


def _check(conclusions: Conclusions) -> str:
    return say(
        "Audit the new model: the whole interval below {limit}, and the class as accurate as before.",
        limit=percent(conclusions.threshold, 100),
    )


def _by_chance(conclusion: Conclusion, conclusions: Conclusions) -> Advice:
    return Advice(
        conclusion.name,
        class_sentence(conclusion, conclusions.threshold),
        say("Erase random patches in training: the class flips with whatever is removed."),
        commands.rerun(conclusions.result),
        say("Loss by chance falls in the next audit."),
        "",
        2,
    )


def _by_occlusion(conclusion: Conclusion, conclusions: Conclusions) -> Advice:
    concept = conclusion.concept
    path = concept.images[0].path if concept is not None and concept.images else ""
    return Advice(
        conclusion.name,
        class_sentence(conclusion, conclusions.threshold),
        say("Look at the images in its card: two ways of removing the same regions disagree."),
        commands.explain(conclusions.result, path) if path else "",
        say("Both ways agree on most images."),
        "",
        1,
    )


def _by_interval(conclusion: Conclusion, conclusions: Conclusions) -> Advice:
    reliance = conclusion.reliance
    n = None if reliance is None else images_to_decide(reliance, conclusions.threshold)
    more = least = say("Add audit images of this class.")
    if n is not None and reliance is not None and n <= MOST_IMAGES:
        more = say("Add audit images of this class: about {n} would decide it.", n=count(max(n, reliance.n + 1)))
    return Advice(
        conclusion.name,
        class_sentence(conclusion, conclusions.threshold),
        more,
        commands.rerun(conclusions.result),
        say("The interval no longer contains {limit}.", limit=percent(conclusions.threshold, 100)),
        "",
        1,
        shared=least,
    )


def _too_few(conclusion: Conclusion, conclusions: Conclusions) -> Advice:
    return Advice(
        conclusion.name,
        class_sentence(conclusion, conclusions.threshold),
        say("Collect at least 30 audit images that the model gets right."),
        commands.rerun(conclusions.result),
        say("The class is judged in the next audit."),
        "",
        3,
    )


def _wrong_from_the_start(conclusion: Conclusion, conclusions: Conclusions) -> Advice:
    info = conclusion.info
    return Advice(
        conclusion.name,
        say("{share} of its images are right before any edit.", share=percent(info.accuracy, info.n)),
        say("Check its labels, or train further, before asking what it depends on."),
        commands.rerun(conclusions.result),
        say("More than half of its images are right."),
        "",
        2,
    )


def _breaks_policy(conclusion: Conclusion, conclusions: Conclusions) -> Advice:
    rule = next(rule for rule in conclusions.result.verdict.rules
                if rule.class_name == conclusion.name and rule.outcome == "fail")  # fmt: skip
    return Advice(
        conclusion.name,
        class_sentence(conclusion, conclusions.threshold),
        say(
            "It breaks the limit “{rule}”. Retrain, or accept it with a limit of its own.",
            rule=say(rule.rule).replace("alpha_hat", "α̂"),
        ),
        commands.rerun(conclusions.result),
        say("The gate passes."),
        "",
        1,
    )


def _is_on_region(conclusion: Conclusion) -> bool:
    reliance = conclusion.reliance
    return conclusion.group is Group.DEPENDS and reliance is not None and reliance.kind in (REGION, None)


RULES = (
    Rule(_is_on_region, _region),
    Rule(lambda c: c.group is Group.DEPENDS, _factor),
    Rule(lambda c: c.doubt is Doubt.OCCLUSION, _by_occlusion),
    Rule(lambda c: c.doubt is Doubt.CHANCE, _by_chance),
    Rule(lambda c: c.doubt is Doubt.INTERVAL, _by_interval),
    Rule(lambda c: c.outcome == "fail", _breaks_policy),
    Rule(lambda c: "wrong from the start" in c.info.flags and c.info.n > 0, _wrong_from_the_start),
    Rule(lambda c: c.group is Group.TOO_FEW, _too_few),
)


def _of_audit(conclusions: Conclusions) -> Iterator[Advice]:
    result = conclusions.result
    if not conclusions.is_measured:
        yield _measure(conclusions)
    elif not conclusions.of(Group.DEPENDS, Group.UNDECIDED, Group.ACCEPTED) and conclusions.n_judged:
        yield _keep_it_so(conclusions)
    if not result.sae.satisfied:
        yield Advice(
            "",
            say("The autoencoder misses its goal."),
            say("Read nothing into single features. More images to fit, or more latents, may help."),
            commands.rerun(result),
            say("It keeps 99 % of the accuracy at R² 0.9."),
            "",
            4,
        )
    for feature in [feature for feature in result.features if feature.entangled][:3]:
        yield _entangled(feature)


def _measure(conclusions: Conclusions) -> Advice:
    result = conclusions.result
    action = say("Audit the network on images, so that image reliance is measured.")
    evidence = say("Only edit sensitivity at the head was measured, which does not rank what classes depend on.")
    return Advice("", evidence, action, commands.rerun(result), say("Page 1 names what the classes depend on."), "", 1)


def _keep_it_so(conclusions: Conclusions) -> Advice:
    judged = conclusions.of(Group.NOT_FOUND)
    highest = max(each.reliance.high for each in judged if each.reliance is not None)
    limit = commands.rounded_up(highest)
    return Advice(
        "",
        say("No class loses more than {share} with any one thing, intervals included.", share=percent(highest, 100)),
        say("Keep it so: judge every new model under this limit."),
        commands.gate(RELIANCE_KEY, limit),
        say("Exit code 0."),
        commands.gate_line(RELIANCE_KEY, limit),
        1,
    )


def _entangled(feature: FeatureInfo) -> Advice:
    text = "Suppressing feature {index} moves classes in opposite directions: {names}."
    return Advice(
        "",
        say(text, index=feature.index, names=names(feature.affected, 4)),
        say("Don't edit feature {index} for one class alone.", index=feature.index),
        "",
        say("Other classes keep their accuracy after an edit."),
        "",
        5,
    )
