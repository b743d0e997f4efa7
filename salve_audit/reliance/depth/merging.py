"""Joins pieces of one picture that are halves of the same thing, which the search had to take out one after another.

Two halves of one thing share what varies from picture to picture, its colour, phase or size, so that they are more
alike than nearly any two first pieces of different pictures of the class. Two different things are not.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float

from salve_audit.reliance.depth.pieces import Evidence

ALIKE = 90  # percentile of the likeness of first pieces between pictures of the class


def merge_alike(evidence: Evidence) -> Evidence:
    """The same evidence with such pieces joined: one region, and the margin without it where that was measured."""
    labels = evidence.labels.numpy()
    merged = _copy(evidence)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        traits = evidence.traits.numpy()[rows].astype(np.float64)
        units = traits / np.linalg.norm(traits, axis=2, keepdims=True).clip(1e-12)  # NaN stays
        least = _typical_likeness(units[:, 0])
        for row, unit in zip(rows.tolist(), units, strict=True):
            _merge_row(evidence, merged, row, _owners(unit, least))
    return merged


def _typical_likeness(firsts: Float[np.ndarray, "r d"]) -> float:
    """Infinite, so that nothing is joined, below three pictures that have a piece."""
    known = firsts[np.isfinite(firsts).all(1)]
    if len(known) < 3:
        return float("inf")
    return float(np.percentile((known @ known.T)[~np.eye(len(known), dtype=bool)], ALIKE))


def _owners(units: Float[np.ndarray, "j d"], least: float) -> list[int]:
    """For each piece of a picture, the number that it has after joining."""
    firsts: list[int] = []  # the piece that each number began with
    owners: list[int] = []
    for piece, unit in enumerate(units):
        if not np.isfinite(unit).all():
            break
        likeness = [float(units[first] @ unit) for first in firsts]
        if likeness and max(likeness) >= least:
            owners.append(int(np.argmax(likeness)))
        else:
            owners.append(len(firsts))
            firsts.append(piece)
    return owners


def _merge_row(old: Evidence, new: Evidence, row: int, owners: list[int]) -> None:
    if owners == list(range(len(owners))):
        return
    new.regions[row], new.alone[row] = False, torch.nan
    new.together[row], new.traits[row] = torch.nan, torch.nan
    for piece, owner in enumerate(owners):
        if not new.regions[row, owner].any():
            new.alone[row, owner], new.traits[row, owner] = old.alone[row, piece], old.traits[row, piece]
        new.regions[row, owner] |= old.regions[row, piece]
        new.together[row, max(owners[: piece + 1])] = old.together[row, piece]
        if not any(owners[: piece + 1]):  # all there is so far is one thing
            new.alone[row, 0] = old.together[row, piece]


def _copy(evidence: Evidence) -> Evidence:
    return dataclasses.replace(
        evidence,
        regions=evidence.regions.clone(),
        alone=evidence.alone.clone(),
        together=evidence.together.clone(),
        traits=evidence.traits.clone(),
    )
