"""The stage of deep edits: is it wanted, is there a network, and what it is given."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from salve_audit.activations import choose_device, choose_workers
from salve_audit.config import AuditConfig
from salve_audit.interventions import ComparisonInputs
from salve_audit.interventions.deep.comparison import DeepInputs, compare_deep_edits
from salve_audit.results import DeepComparison
from salve_audit.subject import Subject

NEEDED = ("salve", "steering")  # without these on all pictures there is nothing to set deep edits beside


def edit_deeply(
    config: AuditConfig, subject: Subject, compared: ComparisonInputs, encoder: Float[np.ndarray, "m d"]
) -> DeepComparison | None:
    """None where deep edits are not wanted, or what they stand beside is not compared.

    Args:
        config: of the audit.
        subject: network and pictures.
        compared: what the edits of the head were compared on.
        encoder: (m, d), the autoencoder's rows.
    """
    if config.deep_edits == "off" or not {*NEEDED} <= {*config.interventions}:
        return None
    if subject.classifier is None or subject.images is None:
        return DeepComparison("", "arrays hold no network")
    device = choose_device(config.device)
    inputs = DeepInputs(
        classifier=subject.classifier,
        images=subject.images,
        audit=subject.activations.audit,
        compared=compared,
        encoder=encoder,
        seed=config.seed,
        device=device,
        workers=choose_workers(config.workers, device),
    )
    return compare_deep_edits(inputs)
