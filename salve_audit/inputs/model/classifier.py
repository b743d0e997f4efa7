"""A checkpoint made runnable: the network, its settings and where they came from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from salve_audit.inputs.labels.matching import UNKNOWN_ORDER, ClassOrder
from salve_audit.inputs.model.head.reader import HeadReader
from salve_audit.results.decisions import Decision
from salve_audit.results.transform import TransformSpec

ORIENTATION = "EXIF orientation"


@dataclass(frozen=True)
class Classifier:
    """A network in eval mode on the CPU, float32, parameters frozen; never changed by the audit.

    Attributes:
        model: the network.
        architecture: timm name, or ``FILE.py:FUNCTION``.
        format: what the file is, in words, for instance ``timm checkpoint``.
        path: the checkpoint file.
        sha256: of the checkpoint file.
        head_name: dotted path of the final linear layer (found by itself or given), not yet verified; several averaged
            layers are separated by commas.
        transform: how images are prepared.
        class_names: the checkpoint's own label names in output order, or None.
        trusted_code: code named by the user was run to build it.
        notes: what the reader of a report should know, for instance which prefix was stripped.
        build_key: what besides the weights determines the network (arguments, hash of the user's source).
        head_reader: the kind of head that was found; None: a plain linear layer.
        weights_key: dotted path of the weights in the file; empty where it is the state_dict itself.
        kwargs: the arguments that the architecture was built with.
        decisions: readings of the file that were chosen between.
        class_order: how the training script numbered class folders.
    """

    model: nn.Module
    architecture: str
    format: str
    path: Path
    sha256: str
    head_name: str
    transform: TransformSpec
    class_names: tuple[str, ...] | None
    trusted_code: bool
    notes: tuple[str, ...]
    build_key: str = ""
    head_reader: HeadReader | None = None
    weights_key: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()
    class_order: ClassOrder = UNKNOWN_ORDER

    def on(self, device: torch.device) -> Classifier:
        """This classifier on the CPU; on another device one with a copy of the network there."""
        if device.type == "cpu":
            return self
        return replace(self, model=copy.deepcopy(self.model).to(device))

    def with_orientation(self, orientation: str, why: str) -> Classifier:
        """This classifier with images as they are stored, or turned upright by their EXIF orientation."""
        spec = replace(self.transform, orientation=orientation)
        others = tuple(decision for decision in self.decisions if decision.what != ORIENTATION)
        return replace(self, transform=spec, decisions=(*others, Decision(ORIENTATION, orientation, why)))

    @property
    def reader(self) -> HeadReader:
        """The reader of the head's activations and weights; by default a plain linear layer."""
        reader = self.head_reader
        if reader is not None and reader.name == self.head_name:
            return reader
        return HeadReader("linear", (self.head_name,))

    @property
    def n_outputs(self) -> int:
        """Number of classes: outputs of the head, two where a single one decides between two classes."""
        return self.reader.count_classes(self.model)

    @property
    def head(self) -> nn.Linear:
        """The final linear layer, where the head is a plain one."""
        module = self.model.get_submodule(self.head_name)
        assert isinstance(module, nn.Linear), f"{self.head_name} is a {type(module).__name__}"
        return module
