"""timm's names of architectures as people write them: with the tag of weights, a hub's prefix, or outdated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import timm
from timm.data.config import resolve_data_config
from timm.models import get_deprecated_models

HUB = re.compile(r"^(?:hf[-_]hub:)?timm/", re.IGNORECASE)
N_TAGS = 8


@dataclass(frozen=True)
class TimmName:
    """A name of timm, taken apart.

    Attributes:
        architecture: the plain name, which determines all tensors.
        tag: of the weights that the training began with; it determines how images are prepared. Empty: not said.
    """

    architecture: str
    tag: str = ""

    @property
    def full(self) -> str:
        """``resnet18.tv_in1k``."""
        return f"{self.architecture}.{self.tag}" if self.tag else self.architecture

    @property
    def has_known_tag(self) -> bool:
        """False for a tag that the installed timm does not have."""
        return not self.tag or self.tag in list_tags(self.architecture)


def read_timm_name(name: str) -> TimmName | None:
    """`name` without a hub's prefix, an outdated one as timm calls it today; None where timm has no such network."""
    bare = HUB.sub("", name)
    current = get_deprecated_models().get(bare) or bare
    architecture, _, tag = current.partition(".")
    is_plain = ":" not in current and "/" not in current
    return TimmName(architecture, tag) if is_plain and timm.is_model(architecture) else None


def list_tags(architecture: str) -> list[str]:
    """Tags of the weights that timm has for the architecture."""
    names = timm.models.get_arch_pretrained_cfgs(architecture)
    return [name.partition(".")[2] for name in names if "." in name]


def show_tags(architecture: str) -> str:
    """The first of them, as they are typed."""
    tags = list_tags(architecture)
    return ", ".join(f"{architecture}.{tag}" for tag in tags[:N_TAGS]) + (", ..." if len(tags) > N_TAGS else "")


def tagged_transform(name: TimmName) -> dict[str, Any]:
    """How timm prepares images for the weights of that tag, under the names that `TransformSpec` has."""
    cfg = timm.get_pretrained_cfg(name.full)
    known = {} if cfg is None else cfg.to_dict()  # type: ignore[no-untyped-call]
    return dict(resolve_data_config({}, pretrained_cfg=known))  # type: ignore[no-untyped-call]
