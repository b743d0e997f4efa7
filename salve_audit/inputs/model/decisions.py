"""The decisions about a model and its images, and the one about images that are stored on their side."""

from __future__ import annotations

import dataclasses

from salve_audit.inputs.data.decoding import read_orientation
from salve_audit.inputs.data.imageset import ImageSet
from salve_audit.inputs.model.classifier import ORIENTATION, Classifier
from salve_audit.results.decisions import Decision
from salve_audit.results.transform import STORED

LOOKED_AT = 64  # images
TORCHVISION = "torchvision's and timm's loaders ignore it"


def decide_orientation(classifier: Classifier, images: ImageSet) -> tuple[Decision, ...]:
    """The decision, where some of the first images are stored in another orientation than they are shown in."""
    paths = images.audit.paths[:: max(1, len(images.audit.paths) // LOOKED_AT)][:LOOKED_AT]
    n_turned = sum(_is_turned(images, key) for key in paths)
    if not n_turned:
        return ()
    orientation = classifier.transform.orientation
    said = next((decision for decision in classifier.decisions if decision.what == ORIENTATION), None)
    share = f"{n_turned} of {len(paths)} images looked at have one"
    if said is not None:
        return (dataclasses.replace(said, why=f"{said.why}; {share}"),)
    taken = "ignored, images are taken as they are stored" if orientation == STORED else "images are turned by it"
    return (Decision(ORIENTATION, taken, f"{share}; {TORCHVISION}, --orientation upright turns images by it"),)


def list_decisions(classifier: Classifier, images: ImageSet) -> tuple[Decision, ...]:
    """All decisions about a model and its images, in the order in which an image goes through them."""
    own = tuple(decision for decision in classifier.decisions if decision.what != ORIENTATION)
    return (*own, *decide_orientation(classifier, images), *images.decisions)


def _is_turned(images: ImageSet, key: str) -> bool:
    try:
        return read_orientation(images.reader.read(key)) != 1
    except Exception:  # what cannot be read is named by the pass
        return False
