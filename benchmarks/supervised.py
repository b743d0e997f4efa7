"""Supervised autoencoders beside concept means, PCA and linear-l1: do codes tell concepts, and do concepts add up?

    python benchmarks/supervised.py ACTIVATIONS.npz ...    # fit_acts, fit_labels, audit_acts, audit_labels, head_*
    python benchmarks/supervised.py                        # the drawn worlds alone (under a minute)

Codes: every concept gets one code. Supervised: its latent. Means: projection on (mean with it - mean without). PCA and
linear-l1: the component or latent with the best AUROC on the fit split, and its sign. Head: the model's own logit, for
classes. AUROC is the mean over concepts, on samples that nothing was fitted to. "R² c" is what least squares on the fit
split makes of the c codes alone, "R²" what the whole autoencoder reconstructs, with its L0. PCA "R²" has as many
components as linear-l1 has active latents. "linear-l1, L0 alike" is trained
again with a smaller λ, found by halving, that brings it to the L0 of supervised.

Recombination: a network is trained on images with three cues, each likelier in some classes. From the fit split of
the autoencoders (not of the network) all images that show two of the cues together are removed, one pair after the
other. Predicted is the mean activation of unseen images of a class with both. Supervised adds up its concepts. The
others add up cells of the class: with one + with the other - with neither, as they are, and after PCA or linear-l1.
Errors count against the class's mean without such images: R² 0 is as good as that, below 0 is worse; the cosine is
that of the predicted and true distance from it. Resampled truths are noisier, so intervals of R² lie a little low.

Intervals are 95 % bootstrap over the held-out samples; what was fitted stays as it is, so they lack the part of the fit
split. "against" is the paired difference to supervised.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata
from supervised_worlds import CUES, SHARES, Part, Subject, draw_subject, mixed_world, read_subject

from salve_audit.demo.world import demo_world
from salve_audit.sae.metrics import count_active, explained_variance
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.normalisation import fit_normalisation
from salve_audit.sae.normalisation import normalise as normalise_acts
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.sae.supervised import split_off_concepts
from salve_audit.sae.supervised_concepts import Concepts

N_RESAMPLES = 300
N_HALVINGS = 5
Encode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Method:
    """c codes of samples, and whole reconstructions with their L0 where there are any."""

    name: str
    encode: Encode
    reconstruct: Encode | None = None
    l0: float | None = None


def best_directions(codes: np.ndarray, concepts: Concepts) -> tuple[np.ndarray, np.ndarray]:
    """(column, sign) with the largest AUROC for each concept."""
    values = aurocs(codes, concepts.present)  # (c, columns)
    columns = np.abs(values - 0.5).argmax(axis=1)
    return columns, np.sign(values[np.arange(len(columns)), columns] - 0.5)


def aurocs(codes: np.ndarray, present: np.ndarray) -> np.ndarray:
    """(c, columns): every column of codes as a detector of every concept."""
    ranks, shown = rankdata(codes, axis=0), present.astype(float)
    n, n_shown = len(codes), shown.sum(axis=0)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (shown.T @ ranks - n_shown * (n_shown + 1) / 2) / (n_shown * (n - n_shown))


def make_methods(subject: Subject) -> list[Method]:
    fit, mean = subject.fit, subject.fit.acts.mean(axis=0)
    shown = fit.concepts.present
    gaps = np.stack([fit.acts[present].mean(axis=0) - fit.acts[~present].mean(axis=0) for present in shown.T])
    basis = np.linalg.svd(fit.acts - mean, full_matrices=False)[2]
    saes = train_autoencoders(subject)
    l0 = {name: count_active(sae.encode(subject.held.acts))[0] for name, sae in saes.items()}
    assert saes["supervised"].concepts[: len(gaps)] == fit.concepts.names, "a concept faded"
    rank = round(l0["linear-l1"])
    columns, signs = best_directions((fit.acts - mean) @ basis.T, fit.concepts)
    known = saes.pop("supervised")
    return [
        Method(
            "supervised",
            lambda a: known.encode(a)[:, : len(gaps)],
            lambda a: known.decode(known.encode(a)),
            l0["supervised"],
        ),
        Method("means", lambda a: (a - mean) @ gaps.T),
        Method(
            "PCA",
            lambda a: (a - mean) @ basis[columns].T * signs,
            lambda a: mean + (a - mean) @ basis[:rank].T @ basis[:rank],
            rank,
        ),
        *(replace(pick_latents(name, sae, fit), l0=l0[name]) for name, sae in saes.items()),
    ]


def train_autoencoders(subject: Subject) -> dict[str, TrainedSae]:
    """Both variants as auto-training leaves them, and linear-l1 at a λ with the L0 of supervised."""
    fit, outcomes = subject.fit, {}
    for name in ("supervised", "linear-l1"):
        settings, start = SaeSettings(variant=name, n_seeds=1), time.perf_counter()
        outcomes[name] = train_sae(fit.acts, fit.labels, subject.head, settings, fit.concepts)
        print(f"  {name} trained in {time.perf_counter() - start:.1f} s")
    low, high = outcomes["linear-l1"].info.sparsity / 8, outcomes["linear-l1"].info.sparsity
    for _ in range(N_HALVINGS):
        settings = SaeSettings(variant="linear-l1", n_seeds=1, sparsity=math.sqrt(low * high))
        outcomes["linear-l1, L0 alike"] = sae = train_sae(fit.acts, fit.labels, subject.head, settings)
        denser = sae.info.l0 > outcomes["supervised"].info.l0
        low, high = (settings.sparsity, high) if denser else (low, settings.sparsity)
    return {name: outcome.sae for name, outcome in outcomes.items()}


def pick_latents(name: str, sae: TrainedSae, fit: Part) -> Method:
    """Pick the latents of an unsupervised autoencoder that tell each concept best on the fit split."""
    latents, senses = best_directions(sae.encode(fit.acts), fit.concepts)
    return Method(name, lambda a: sae.encode(a)[:, latents] * senses, lambda a: sae.decode(sae.encode(a)))


def linear_decoder(codes: np.ndarray, acts: np.ndarray) -> Encode:
    """Least squares from codes (and a constant) to activations."""
    design = np.column_stack([codes, np.ones(len(codes))]).astype(np.float64)
    weight = np.linalg.lstsq(design, acts, rcond=None)[0]
    return lambda some: np.column_stack([some, np.ones(len(some))]) @ weight


def spread(values: Sequence[float]) -> str:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return f"[{low:.3f}, {high:.3f}]"


def compare_codes(subject: Subject) -> None:
    """One table: AUROC and R² by method."""
    held = subject.held
    present = held.concepts.present
    print(f"\n{subject.name}: {len(subject.fit.acts)} to fit, {len(held.acts)} held out, {present.shape[1]} concepts")
    methods = make_methods(subject)
    rng = np.random.default_rng(0)
    resamples = [rng.integers(len(held.acts), size=len(held.acts)) for _ in range(N_RESAMPLES)]
    rows = {method.name: describe_method(method, subject, resamples) for method in methods}
    n_classes = len(np.unique(subject.fit.labels))
    if present.shape[1] == n_classes:
        logits = held.acts @ subject.head.weight.T + subject.head.bias
        rows["head (reference)"] = (*summarise(logits, present, resamples), "", "", "")
    print(f"  {'':20}{'AUROC':>7} {'':16}{'against':>17}{'worst':>8}  {'R² c':>6}{'R²':>8}{'':17}{'L0':>7}")
    base = rows["supervised"][1]
    for name, (auroc, draws, worst, r2_c, r2, l0) in rows.items():
        against = "" if name == "supervised" else spread(draws - base)
        print(f"  {name:20}{auroc:7.3f} {spread(draws)}{against:>18}{worst:8.3f}  {r2_c:>6}{r2:>25}{l0:>7}")


def summarise(codes: np.ndarray, present: np.ndarray, resamples: list[np.ndarray]) -> tuple[float, np.ndarray, float]:
    """(mean AUROC over concepts, its resamples, the worst concept's)."""
    own = np.diag(aurocs(codes, present))
    draws = [np.nanmean(np.diag(aurocs(codes[rows], present[rows]))) for rows in resamples]
    return float(np.nanmean(own)), np.array(draws), float(np.nanmin(own))


def describe_method(method: Method, subject: Subject, resamples: list[np.ndarray]) -> tuple:
    held, fit = subject.held, subject.fit
    codes = method.encode(held.acts)
    from_codes = linear_decoder(method.encode(fit.acts), fit.acts)(codes)
    r2_c, r2, l0 = f"{explained_variance(held.acts, from_codes):.3f}", "", ""
    if method.reconstruct is not None:
        recon = method.reconstruct(held.acts)
        draws = [explained_variance(held.acts[rows], recon[rows]) for rows in resamples[:100]]
        r2, l0 = f"{explained_variance(held.acts, recon):.3f} {spread(draws)}", f"{method.l0:.1f}"
    return (*summarise(codes, held.concepts.present, resamples), r2_c, r2, l0)


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


def recombine(subject: Subject, pair: tuple[str, str]) -> list[Cell]:
    """Predictions for every class, from a fit split without images that show both cues."""
    fit, held = subject.fit, subject.held
    first, other = (fit.concepts.names.index(name) for name in pair)
    rows = np.flatnonzero(~(fit.concepts.present[:, first] & fit.concepts.present[:, other]))
    acts, labels = fit.acts[rows], fit.labels[rows]
    concepts = Concepts(fit.concepts.names, fit.concepts.present[rows])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("activations", nargs="*")
    for path in parser.parse_args().activations:
        compare_codes(read_subject(path))
    compare_codes(draw_subject(demo_world(), 400, 200))
    mixed = draw_subject(mixed_world(), 600, 600)
    compare_codes(mixed)
    compare_recombination(mixed)


if __name__ == "__main__":
    main()
