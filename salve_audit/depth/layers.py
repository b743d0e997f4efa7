"""The layers at which concepts are looked at: those that the user names, or the network's first block."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from salve_audit.activations.pictures import first_pictures
from salve_audit.config import AuditConfig
from salve_audit.errors import DataError
from salve_audit.inputs.classifier import Classifier
from salve_audit.spatial import CutNetwork, SpatialLayer, find_spatial_layers, trace_layers
from salve_audit.spatial.blocks import first_block
from salve_audit.subject import Subject

TRACED = 4  # pictures that layers are found on


def check_depth_layers(config: AuditConfig, subject: Subject) -> None:
    """Before the long stages: can concepts be looked at in the layers that the user named?

    Raises:
        LayerError: not in one of them; names similar ones.
        DataError: no picture can be read.
    """
    classifier, images = subject.classifier, subject.images
    if not config.depth_layers or classifier is None or images is None:
        return
    pictures = first_pictures(images.pictures, images.audit.paths, classifier.transform, TRACED)
    if not len(pictures):
        raise DataError(str(images.root), "no picture to audit can be read")
    choose_depth_layers(classifier, pictures, config.depth_layers)


def choose_depth_layers(
    classifier: Classifier, images: Float[Tensor, "n c h w"], names: Sequence[str]
) -> tuple[SpatialLayer, ...]:
    """The named layers, proven on a few pictures; without names the first block.

    Raises:
        LayerError: a named one is no spatial layer, the network cannot be cut there, or it has no spatial layer.
    """
    path = str(classifier.path)
    if not names:
        return (first_block(classifier.model, find_spatial_layers(classifier, images)),)
    known = tuple(name for name, _ in classifier.model.named_modules())
    traced = trace_layers(classifier, images)
    layers = tuple(traced.find(name, path, known) for name in dict.fromkeys(names))
    for layer in layers:
        with CutNetwork(classifier.model, layer, classifier.reader, path) as cut:
            cut.prove(images)
    return layers
