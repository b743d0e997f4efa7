"""Two cues together that a fit never saw: the mean activation that methods predict, and whether codes tell each cue."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from supervised_methods import aurocs, make_methods, spread
from supervised_worlds import CUES, SHARES, Part, Subject

from salve_audit.sae.metrics import count_active
from salve_audit.sae.normalisation import fit_normalisation
from salve_audit.sae.normalisation import normalise as normalise_acts
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.sae.supervised import split_off_concepts
from salve_audit.sae.supervised_concepts import Concepts

N_RESAMPLES = 300


@dataclass(frozen=True)
class Cell:
    """Unseen images of one class with both cues: their activations, the reference, and the predictions."""

    name: str
    acts: np.ndarray
    reference: np.ndarray
    predicted: dict[str, np.ndarray]


def compare_recombination(subject: Subject) -> None:
    cells = [cell for pair in itertools.combinations(CUES, 2) for cell in recombine(subject, pair)]
    rng = np.random.default_rng(0)
    points = score(cells, None)
    draws = [score(cells, rng) for _ in range(N_RESAMPLES)]
    n = sum(len(cell.acts) for cell in cells)
    print(f"\nrecombination in {subject.name}: {len(cells)} cells, {n} held-out images")
    print(f"  {'':24}{'R²':>8}{'':18}{'against':>17}{'cosine':>9}")
    for name, (r2, cosine) in points.items():
        many = np.array([draw[name] for draw in draws])
        against = many[:, 0] - np.array([draw["supervised"][0] for draw in draws])
        versus = "" if name == "supervised" else spread(against)
        print(f"  {name:24}{r2:8.3f} {spread(many[:, 0]):17}{versus:>17}{cosine:9.3f} {spread(many[:, 1])}")


def leave_out(part: Part, first: int, other: int) -> Part:
    """The part without samples that have both concepts."""
    rows = np.flatnonzero(~(part.concepts.present[:, first] & part.concepts.present[:, other]))
    return Part(part.acts[rows], part.labels[rows], Concepts(part.concepts.names, part.concepts.present[rows]))


def recombine(subject: Subject, pair: tuple[str, str]) -> list[Cell]:
    """Predictions for every class, from a fit split without images that show both cues."""
    fit, held = subject.fit, subject.held
    first, other = (fit.concepts.names.index(name) for name in pair)
    part = leave_out(fit, first, other)
    acts, labels, concepts = part.acts, part.labels, part.concepts
    normalisation = fit_normalisation(acts, np.arange(len(acts)))
    block, _ = split_off_concepts(
        normalise_acts(acts, np.arange(len(acts)), normalisation, "cpu"), concepts, normalisation
    )
    assert block.names == concepts.names, "a concept faded"
    sae = train_sae(acts, labels, subject.head, SaeSettings(variant="linear-l1", n_seeds=1)).sae
    basis = np.linalg.svd(acts - acts.mean(axis=0), full_matrices=False)[2][: round(count_active(sae.encode(acts))[0])]
    cells = []
    for label in range(len(SHARES)):
        own, shown = labels == label, concepts.present
        means = [
            acts[own & (shown[:, first] == i) & (shown[:, other] == j)].mean(axis=0)
            for i, j in ((1, 0), (0, 1), (0, 0))
        ]
        added = means[0] + means[1] - means[2]
        unseen = (held.labels == label) & held.concepts.present[:, first] & held.concepts.present[:, other]
        present = held.concepts.present[unseen].mean(axis=0)
        centre = acts.mean(axis=0)
        predicted = {
            "supervised": normalisation.mean + normalisation.scale * (present - block.rates) @ block.effects,
            "cell means added": added,
            "the same after PCA": centre + (added - centre) @ basis.T @ basis,
            "the same after linear-l1": sae.decode(sae.encode(added[None].astype(np.float32)))[0],
        }
        cells.append(Cell(f"{label} {pair}", held.acts[unseen], acts[own].mean(axis=0), predicted))
    return cells


def score(cells: Sequence[Cell], rng: np.random.Generator | None) -> dict[str, tuple[float, float]]:
    """Method -> (R² over all cells, mean cosine); with `rng`, of resampled images."""
    true = [cell.acts[rng.integers(len(cell.acts), size=len(cell.acts))] if rng else cell.acts for cell in cells]
    aims = [acts.mean(axis=0) - cell.reference for acts, cell in zip(true, cells, strict=True)]
    scores = {}
    for name in cells[0].predicted:
        steps = [cell.predicted[name] - cell.reference for cell in cells]
        errors = sum(float(np.square(step - aim).sum()) for step, aim in zip(steps, aims, strict=True))
        cosines = [s @ a / (np.linalg.norm(s) * np.linalg.norm(a)) for s, a in zip(steps, aims, strict=True)]
        scores[name] = (1 - errors / sum(float(np.square(aim).sum()) for aim in aims), float(np.mean(cosines)))
    return scores


def compare_detection(subject: Subject) -> None:
    """One table: AUROC of the codes of two cues where both are there, fitted without such images."""
    held, codes = subject.held, {}
    ordered = [
        (subject.held.concepts.names.index(a), held.concepts.names.index(b)) for a, b in itertools.permutations(CUES, 2)
    ]
    for first, other in ordered:
        if first < other:
            fitted = make_methods(replace(subject, fit=leave_out(subject.fit, first, other)))
            codes[first, other] = codes[other, first] = {method.name: method.encode(held.acts) for method in fitted}
    rng, n = np.random.default_rng(0), len(held.acts)
    resamples = [np.arange(n), *(rng.integers(n, size=n) for _ in range(N_RESAMPLES))]
    shown = held.concepts.present
    print(f"\nunseen pairs told in {subject.name}: {len(ordered)} ordered pairs")
    print(f"  {'':20}{'AUROC':>7} {'':16}{'against':>17}{'worst':>8}")
    table = {}
    for name in codes[ordered[0]]:
        table[name] = np.array(
            [[tell(codes[pair][name], shown, pair, rows) for pair in ordered] for rows in resamples]
        )  # (1 + resamples, pairs)
    for name, values in table.items():
        means = values.mean(1)
        versus = "" if name == "supervised" else spread(means[1:] - table["supervised"].mean(1)[1:])
        print(f"  {name:20}{means[0]:7.3f} {spread(means[1:])}{versus:>18}{values[0].min():8.3f}")


def tell(codes: np.ndarray, shown: np.ndarray, pair: tuple[int, int], rows: np.ndarray) -> float:
    """AUROC of the first's code among `rows` that have both, or not the first."""
    first, other = pair
    asked = rows[shown[rows, other] | ~shown[rows, first]]
    return float(aurocs(codes[asked, first : first + 1], shown[asked, first : first + 1])[0, 0])
