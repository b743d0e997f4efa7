"""Stage 3: Activations -> TrainedSae, a sparse autoencoder of the activations in front of the head.

Read in this order: `models` (what comes out), `parameters` and `losses` (what is trained, with a seed axis in front),
`training` (the loop), `products`, `kept` and `listed` (what makes it fast), `streaming` (samples that stay in their
file), `consolidation` (duplicates merged), `variants` (which of these make a variant), `canonical` (to
unit rows and the model's units), `metrics`, `tuning` (which sparsity), `stability` (do other seeds find the same),
`problem` and `stage` (all of it together, as `train_sae`), and `files`. Importing the package is light; what needs
torch is loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Matching": "stability",
    "SaeOutcome": "stage",
    "SaeSettings": "settings",
    "TrainedSae": "models",
    "load_metadata": "files",
    "load_sae": "files",
    "match_dictionaries": "stability",
    "save_sae": "files",
    "serialise_sae": "files",
    "train_sae": "stage",
}

__all__ = [
    "Matching",
    "SaeOutcome",
    "SaeSettings",
    "TrainedSae",
    "load_metadata",
    "load_sae",
    "match_dictionaries",
    "save_sae",
    "serialise_sae",
    "train_sae",
]

if TYPE_CHECKING:
    from salve_audit.sae.files import load_metadata, load_sae, save_sae, serialise_sae
    from salve_audit.sae.models import TrainedSae
    from salve_audit.sae.settings import SaeSettings
    from salve_audit.sae.stability import Matching, match_dictionaries
    from salve_audit.sae.stage import SaeOutcome, train_sae


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
