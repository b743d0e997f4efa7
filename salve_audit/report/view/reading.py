"""How to read the report: one worked example, five words, and what the numbers do not say."""

from __future__ import annotations

from salve_audit.report.charts.curves import draw_curve_legend
from salve_audit.report.conclusions import Conclusion, Conclusions
from salve_audit.report.language import say
from salve_audit.report.numbers import count, name, percent, percent_interval
from salve_audit.report.sentences import REGION, thing
from salve_audit.report.tables import Shown
from salve_audit.report.view.card_images import answer_inserted, answer_without
from salve_audit.report.view.cards import choose_carded
from salve_audit.report.view.demo import sentence_on_truth
from salve_audit.report.view.page import Medium, Section
from salve_audit.report.view.thumbnails import show
from salve_audit.results import Concept, ConceptImage, Seeing

_EXAMPLE = 104  # CSS pixels
WORDS = (
    (
        "Image reliance",
        "The share of a class's images that the model gets wrong once one thing is removed from each of them and the "
        "network is run again: the largest over all things that were tried.",
    ),
    (
        "Thing",
        "A concept (regions of the image that the network reads alike) or a global factor of the image, such as its "
        "border or its colours.",
    ),
    ("By chance", "What removing other places of the same size costs. Only a loss beyond it counts."),
    ("95 % interval", "The range that the number would have in 95 of 100 audits of other images of the same kind."),
    (
        "α̂ flip",
        "How much of one feature has to be suppressed in the final layer until half of a class's correct predictions "
        "change. It says how easily a class is edited away, not what it depends on in the image.",
    ),
)


def build_reading(conclusions: Conclusions, medium: Medium) -> Section:
    """The second page."""
    has_curves = any(each.info.curve.alpha_hat for each in choose_carded(conclusions, medium))
    example = _example(conclusions)
    result = conclusions.result
    parts = {
        "example": example,
        "words": [(say(word), say(meaning)) for word, meaning in WORDS],
        "limits": [say(text) for text in _limits(conclusions)],
        "legend": draw_curve_legend() if has_curves else None,
        "truth": sentence_on_truth(result.demo) if result.demo is not None else "",
    }
    return Section("reading", say("How to read it"), "reading.html.j2", parts)


def _limits(conclusions: Conclusions) -> list[str]:
    texts = [
        "A class that depends on one thing may depend on the right one: the network alone can't tell an object from a "
        "shortcut. A person has to look.",
        "“Not found” is not “absent”: only regions and the factors that were tried can be found.",
        "Intervals are over images. On networks with known truth, image reliance is off by about 0.2 on average, and "
        "by more for some classes.",
        "Filling a thing in is not the same as its never having been there.",
        "A small α̂ is no proof of a shortcut, and a large one none of robustness.",
    ]
    return (
        texts
        if conclusions.is_measured
        else [texts[-1], "What the classes depend on in their images was not measured."]
    )


def _example(conclusions: Conclusions) -> dict[str, object] | None:
    """The class that depends most on something that can be shown, step by step; None where there is no image."""
    for conclusion in conclusions.ranked:
        concept = conclusion.concept
        if concept is None or not concept.images or not conclusion.is_beyond_chance:
            continue
        steps = _steps(conclusion, conclusions.result.seeing)
        return {"class_name": conclusion.name, "steps": steps, "sentence": _sum_up(conclusion)}
    return None


def _steps(conclusion: Conclusion, seeing: Seeing | None) -> list[tuple[Shown, str]]:
    concept = conclusion.concept
    assert concept is not None, "examples are of a concept"
    image = max(concept.images, key=lambda each: (each.flipped, _is_taken(each, concept)))
    words = {"class_name": concept.class_name, "index": concept.index}
    own = name(concept.class_name)
    steps = []
    kept = image.image or (seeing.images.get(image.path) if seeing is not None else None)
    if concept.kind != REGION:
        kept = kept or image.outlined
    if kept is not None:
        steps.append((show(kept, say("An image of {class_name}", **words), _EXAMPLE),
                      say("An audit image of {class_name}.", class_name=own)))  # fmt: skip
    if concept.kind == REGION:
        text = say("The network's evidence for {class_name} is found and outlined: {thing}.",
                   class_name=own, thing=thing(conclusion))  # fmt: skip
        steps.append(
            (show(image.outlined, say("The same image with concept {index} outlined", **words), _EXAMPLE), text)
        )
    answer = say("Without {thing} the network runs again: the prediction {answer}.", thing=thing(conclusion),
                 answer=answer_without(image, concept))  # fmt: skip
    steps.append((show(image.without, say("The same image without it", **words), _EXAMPLE), answer))
    if image.inserted is not None:
        put_in = say("Put into an image of another class: {answer}.", answer=answer_inserted(image))
        steps.append((show(image.inserted.image, say("An image of another class with it"), _EXAMPLE), put_in))
    return steps


def _is_taken(image: ConceptImage, concept: Concept) -> bool:
    """Tells whether another image becomes the class with the concept put into it."""
    return image.inserted is not None and image.inserted.predicted == concept.class_name


def _sum_up(conclusion: Conclusion) -> str:
    reliance, concept = conclusion.reliance, conclusion.concept
    assert reliance is not None, "examples are measured"
    assert concept is not None, "examples are of a concept"
    seen = ""
    if concept.kind == REGION:
        seen = say("It was found in {n} of {total} images. ", n=count(concept.n_images), total=count(reliance.n))
    return seen + say(
        "Over all images of {class_name}, {share} are lost without it ({interval} %): that is its image reliance.",
        class_name=name(conclusion.name),
        share=percent(reliance.reliance, reliance.n),
        interval=percent_interval(reliance.low, reliance.high, reliance.n),
    )
