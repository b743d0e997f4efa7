"""Hugging Face folders of any family, loaded by transformers' own classes where it is installed.

No code of the folder is run.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from salve_audit.errors import CheckpointError
from salve_audit.inputs.reasons import summarise_error

INSTALL_HINT = "pip install 'salve-audit[hf]' loads it with transformers' own class"


class HubClassifier(nn.Module):
    """A network of transformers that returns its logits alone, and takes red first whatever `model` takes."""

    def __init__(self, model: nn.Module, is_flipped: bool = False) -> None:
        super().__init__()
        self.model, self.is_flipped = model, is_flipped

    def forward(self, images: Tensor) -> Tensor:
        """(n, k) logits."""
        logits: Tensor = self.model(pixel_values=images.flip(1) if self.is_flipped else images).logits
        return logits


def has_transformers() -> bool:
    """True where transformers is installed."""
    try:
        metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return False
    return True


def describe_family(config: Mapping[str, Any]) -> str:
    """The class and the family that config.json names, for messages."""
    named = config.get("architectures")
    own = str(named[0]) if isinstance(named, list) and named else "a network"
    return f"{own} (model_type {config.get('model_type')!r})"


def is_classifier(config: Mapping[str, Any]) -> bool:
    """True for a folder whose class is for image classification, or where config.json does not say a class."""
    named = config.get("architectures")
    names = [str(name) for name in named] if isinstance(named, list) else []
    return not names or any("ForImageClassification" in name for name in names)


def load_hub_classifier(
    folder: Path, config: Mapping[str, Any], is_flipped: bool = False
) -> tuple[nn.Module, str, str]:
    """The network in `folder`, its class's name, and what else determines it; `is_flipped`: it takes blue first.

    Raises:
        CheckpointError: transformers is missing, does not know the family, or the weights are not all there.
    """
    if not has_transformers():
        why = f"is {describe_family(config)}, which is not among the families that are read without transformers"
        raise CheckpointError(str(folder), why, hint=INSTALL_HINT)
    try:
        with _quietly():
            from transformers import AutoModelForImageClassification

            model, info = AutoModelForImageClassification.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False, output_loading_info=True
            )
    except Exception as error:  # the library raises whatever config.json leads it into
        why = f"is {describe_family(config)}, which transformers cannot load ({summarise_error(error)})"
        raise CheckpointError(str(folder), why) from error
    missing = sorted(map(str, [*info.get("missing_keys", ()), *info.get("mismatched_keys", ())]))
    if missing:
        why = f"is {describe_family(config)} without all of its weights: missing {missing[0]!r}"
        why += f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise CheckpointError(str(folder), why, hint="save the fine-tuned classifier, not its backbone")
    version = metadata.version("transformers")
    return (
        HubClassifier(model.float(), is_flipped),
        type(model).__name__,
        f"transformers {version} {type(model).__name__} {model.config!r}{' blue first' if is_flipped else ''}",
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the library's warnings and bars, and with torch's random state left as it was."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
