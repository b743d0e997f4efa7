"""How many directions a concept needs: tried on pictures, by runs of the network with the concept taken out.

A cue that looks the same wherever it lies needs one or two directions; one that covers many positions, each with
something else in it, needs more. Too few leave the class what it was; too many take from other classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from salve_audit.activations.spread import spread_rows
from salve_audit.inputs.classifier import Classifier
from salve_audit.inputs.head import LinearHead
from salve_audit.reliance.depth.assess import ConceptFinding
from salve_audit.reliance.depth.evidence import Evidence
from salve_audit.reliance.depth.network import hard_margin
from salve_audit.reliance.depth.probing import watch_network
from salve_audit.reliance.depth.projection import ConceptProjection
from salve_audit.spatial.readers import FoldableLayer

RANKS = (1, 2, 4, 8, 16)
OWN, OTHERS = 16, 28  # pictures of the concept, and of other classes
ENOUGH = 0.9  # of the pictures that turn wrong without their pieces
COST = 2.0  # of a picture of another class that turns wrong, against one of its own too few or too many
BATCH = 16

Load = Callable[[Int[np.ndarray, " r"]], Float[Tensor, "r c h w"]]  # pictures of rows of the evidence, prepared


@dataclass(frozen=True)
class RankTrials:
    """A network and pictures to try projections on.

    Attributes:
        classifier: on its device.
        place: where they are projected.
        head: as audited.
        evidence: with what taking pieces out of the pictures does.
        load: gives pictures of the evidence by their rows.
    """

    classifier: Classifier
    place: FoldableLayer
    head: LinearHead | None
    evidence: Evidence
    load: Load

    def choose(
        self, concept: ConceptFinding, fit: Callable[[int], ConceptProjection | None]
    ) -> ConceptProjection | None:
        """The projection of the rank that comes nearest to taking the pieces out of the pictures, at least cost.

        More directions are tried only until enough pictures turn wrong.
        """
        best, least = None, float("inf")
        shown = spread_rows(np.arange(len(concept.pictures)), OWN)
        rows, labels = concept.pictures[shown], self.evidence.labels.cpu().numpy()
        aim = float(self.evidence.flips.cpu().numpy()[rows, concept.pieces[shown]].mean())
        others = np.flatnonzero((labels != concept.label) & self.evidence.correct.cpu().numpy())
        others = spread_rows(others, OTHERS)
        for rank in RANKS:
            made = fit(rank)
            if made is None or (best is not None and made.rank == best.rank):
                break
            turned = float(self._turn(made, rows).mean())
            lost = float(self._turn(made, others).mean()) if len(others) else 0.0
            score = abs(turned - aim) + COST * lost
            if score < least:
                best, least = made, score
            if turned >= ENOUGH * aim:
                break
        return best

    def _turn(self, projection: ConceptProjection, rows: Int[np.ndarray, " r"]) -> Bool[np.ndarray, " r"]:
        """Which of these pictures are wrong with the concept taken out."""
        model, parts = self.classifier.model, []
        device = next(model.parameters()).device
        changed = self.place.changing(model, projection.matrix(1.0))
        with torch.no_grad(), changed, watch_network(self.classifier, self.place.layer, self.head) as probe:
            for start in range(0, len(rows), BATCH):
                some = rows[start : start + BATCH]
                logits = probe(self.load(some).to(device)).logits.cpu()
                parts.append(hard_margin(logits, self.evidence.labels[torch.from_numpy(some)].cpu()) <= 0)
        return np.asarray(torch.cat(parts).numpy())
