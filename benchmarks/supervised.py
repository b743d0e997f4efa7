"""Supervised autoencoders beside concept means, PCA and linear-l1: do codes tell concepts, and do concepts add up?

    python benchmarks/supervised.py ACTIVATIONS.npz ...    # fit_acts, fit_labels, audit_acts, audit_labels, head_*
    python benchmarks/supervised.py                        # the drawn worlds alone (under a minute)

Codes: every concept gets one code. Supervised: its latent. Means: projection on (mean with it - mean without). PCA and
linear-l1: the component or latent with the best AUROC on the fit split, and its sign. Head: the model's own logit, for
classes. AUROC is the mean over concepts, on samples that nothing was fitted to. "R² c" is what least squares on the fit
split makes of the c codes alone, "R²" what the whole autoencoder reconstructs, with its L0. PCA "R²" has as many
components as linear-l1 has active latents.

Recombination: a network is trained on pictures with three cues, each likelier in some classes. From the fit split of
the autoencoders (not of the network) all pictures that show two of the cues together are taken out, one pair after the
other. Predicted is the mean activation of unseen pictures of a class with both. Supervised adds up its concepts. The
others add up cells of the class: with one + with the other - with neither, as they are, and after PCA or linear-l1.
Errors count against the class's mean without such pictures: R² 0 is as good as that, below 0 is worse; the cosine is
that of the predicted and true distance from it.

Intervals are 95 % bootstrap over the held-out samples; what was fitted stays as it is, so they lack the part of the fit
split. "against" is the paired difference to supervised.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata

from salve_audit.demo.pictures import DrawnSplit, draw, draw_split
from salve_audit.demo.training import Recipe, normalise, one_thread, train_network
from salve_audit.demo.world import Cue, Planted, PlantedClassSpec, World, demo_world
from salve_audit.inputs.head import LinearHead
from salve_audit.sae.metrics import count_active, explained_variance
from salve_audit.sae.normalisation import fit_normalisation
from salve_audit.sae.normalisation import normalise as normalise_acts
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.sae.supervised import split_off_concepts
from salve_audit.sae.supervised_concepts import Concepts, class_concepts

N_RESAMPLES = 300
Encode = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Part:
    """Samples with all that is known of them: acts (n, d), labels (n,), concepts (n, c)."""

    acts: np.ndarray
    labels: np.ndarray
    concepts: Concepts


@dataclass(frozen=True)
class Subject:
    name: str
    fit: Part
    held: Part
    head: LinearHead


@dataclass(frozen=True)
class Method:
    """c codes of samples, and whole reconstructions where there are any; `names` is how AUROC rows are averaged."""

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
    gaps = np.stack([fit.acts[one].mean(axis=0) - fit.acts[~one].mean(axis=0) for one in shown.T])
    basis = np.linalg.svd(fit.acts - mean, full_matrices=False)[2]
    saes = {}
    for name in ("supervised", "linear-l1"):
        settings, start = SaeSettings(variant=name, n_seeds=1), time.perf_counter()
        saes[name] = train_sae(fit.acts, fit.labels, subject.head, settings, fit.concepts).sae
        print(f"  {name} trained in {time.perf_counter() - start:.1f} s")
    l0 = {name: count_active(one.encode(subject.held.acts))[0] for name, one in saes.items()}
    assert saes["supervised"].concepts[: len(gaps)] == fit.concepts.names, "a concept faded"
    rank = round(l0["linear-l1"])
    columns, signs = best_directions((fit.acts - mean) @ basis.T, fit.concepts)
    latents, senses = best_directions(saes["linear-l1"].encode(fit.acts), fit.concepts)

    def whole(name: str) -> Encode:
        return lambda acts: saes[name].decode(saes[name].encode(acts))

    return [
        Method(
            "supervised", lambda a: saes["supervised"].encode(a)[:, : len(gaps)], whole("supervised"), l0["supervised"]
        ),
        Method("means", lambda a: (a - mean) @ gaps.T),
        Method(
            "PCA",
            lambda a: (a - mean) @ basis[columns].T * signs,
            lambda a: mean + (a - mean) @ basis[:rank].T @ basis[:rank],
            rank,
        ),
        Method(
            "linear-l1", lambda a: saes["linear-l1"].encode(a)[:, latents] * senses, whole("linear-l1"), l0["linear-l1"]
        ),
    ]


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
    rows = {one.name: describe_method(one, subject, resamples) for one in methods}
    n_classes = len(np.unique(subject.fit.labels))
    if present.shape[1] == n_classes:
        logits = held.acts @ subject.head.weight.T + subject.head.bias
        rows["head (reference)"] = (*summarise(logits, present, resamples), "", "", "")
    print(f"  {'':18}{'AUROC':>7} {'':16}{'against':>17}{'worst':>8}  {'R² c':>6}{'R²':>8}{'':17}{'L0':>7}")
    base = rows["supervised"][1]
    for name, (auroc, draws, worst, r2_c, r2, l0) in rows.items():
        against = "" if name == "supervised" else spread(draws - base)
        print(f"  {name:18}{auroc:7.3f} {spread(draws)}{against:>18}{worst:8.3f}  {r2_c:>6}{r2:>25}{l0:>7}")


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


CUES = ("disk", "flag", "ring")
SHARES = {"a": (0.8, 0.8, 0.2), "b": (0.8, 0.2, 0.8), "c": (0.2, 0.8, 0.8), "d": (0.3, 0.3, 0.3)}


def mixed_world() -> World:
    """Four classes that differ only in how often they show three cues: every combination occurs in each."""
    known = {one.name: one for one in demo_world().cues}
    cues: tuple[Cue, ...] = tuple(known[name] for name in CUES)
    classes = tuple(
        PlantedClassSpec(name, tuple(Planted(cue, share) for cue, share in zip(CUES, shares, strict=True)))
        for name, shares in SHARES.items()
    )
    return World("mixed", 48, cues, classes)


def draw_subject(world: World, n_train: int, n_val: int) -> Subject:
    """A world's pictures, the demo's network trained on them, and its activations; cues are attributes."""
    start = time.perf_counter()
    splits = {name: draw_split(world, name, n, 0) for name, n in (("train", n_train), ("val", n_val))}
    model = train_network(splits["train"].pixels, splits["train"].labels, Recipe(), 0)
    layer = model.get_classifier()
    head = LinearHead(layer.weight.detach().numpy(), layer.bias.detach().numpy(), "fc")
    parts = [describe_part(world, one, model) for one in splits.values()]
    kept = parts[0].concepts.at(np.arange(len(parts[0].labels))).names
    parts = [Part(one.acts, one.labels, choose_concepts(one.concepts, kept)) for one in parts]
    right = (parts[1].acts @ head.weight.T + head.bias).argmax(1) == parts[1].labels
    print(f"\nworld {world.name!r}: {time.perf_counter() - start:.1f} s to draw and train, accuracy {right.mean():.3f}")
    return Subject(f"world {world.name!r}", parts[0], parts[1], head)


def describe_part(world: World, drawn: DrawnSplit, model: torch.nn.Module) -> Part:
    with torch.inference_mode(), one_thread():
        pixels = torch.from_numpy(drawn.pixels)
        pooled = [model.forward_features(normalise(some)).mean((2, 3)) for some in pixels.split(256)]
    names = tuple(one.name for one in world.cues)
    shown = np.array([[name in draw(world, key).masks for name in names] for key in drawn.keys])
    concepts = class_concepts(drawn.labels, world.class_names).beside(Concepts(names, shown))
    return Part(torch.cat(pooled).numpy(), drawn.labels, concepts)


def choose_concepts(concepts: Concepts, kept: Sequence[str]) -> Concepts:
    """The concepts that the fit split tells apart, twins under their common name."""
    columns = [concepts.names.index(name.split(" = ")[0]) for name in kept]
    return Concepts(tuple(kept), concepts.present[:, columns])


@dataclass(frozen=True)
class Cell:
    """Unseen pictures of one class with both cues: their activations, the reference, and the predictions."""

    name: str
    acts: np.ndarray
    seen: np.ndarray
    predicted: dict[str, np.ndarray]


def compare_recombination(subject: Subject) -> None:
    cells = [cell for pair in itertools.combinations(CUES, 2) for cell in recombine(subject, pair)]
    rng = np.random.default_rng(0)
    points = score(cells, None)
    draws = [score(cells, rng) for _ in range(N_RESAMPLES)]
    n = sum(len(one.acts) for one in cells)
    print(f"\nrecombination in {subject.name}: {len(cells)} cells, {n} held-out pictures")
    print(f"  {'':24}{'R²':>8}{'':18}{'against':>17}{'cosine':>9}")
    for name, (r2, cosine) in points.items():
        many = np.array([one[name] for one in draws])
        against = many[:, 0] - np.array([one["supervised"][0] for one in draws])
        versus = "" if name == "supervised" else spread(against)
        print(f"  {name:24}{r2:8.3f} {spread(many[:, 0]):17}{versus:>17}{cosine:9.3f} {spread(many[:, 1])}")


def recombine(subject: Subject, pair: tuple[str, str]) -> list[Cell]:
    """Predictions for every class, from a fit split without pictures that show both cues."""
    fit, held = subject.fit, subject.held
    one, other = (fit.concepts.names.index(name) for name in pair)
    rows = np.flatnonzero(~(fit.concepts.present[:, one] & fit.concepts.present[:, other]))
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
            acts[own & (shown[:, one] == i) & (shown[:, other] == j)].mean(axis=0) for i, j in ((1, 0), (0, 1), (0, 0))
        ]
        added = means[0] + means[1] - means[2]
        unseen = (held.labels == label) & held.concepts.present[:, one] & held.concepts.present[:, other]
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
    """Method -> (R² over all cells, mean cosine); with `rng`, of resampled pictures."""
    true = [one.acts[rng.integers(len(one.acts), size=len(one.acts))] if rng else one.acts for one in cells]
    aims = [acts.mean(axis=0) - one.seen for acts, one in zip(true, cells, strict=True)]
    found = {}
    for name in cells[0].predicted:
        steps = [one.predicted[name] - one.seen for one in cells]
        errors = sum(float(np.square(step - aim).sum()) for step, aim in zip(steps, aims, strict=True))
        cosines = [s @ a / (np.linalg.norm(s) * np.linalg.norm(a)) for s, a in zip(steps, aims, strict=True)]
        found[name] = (1 - errors / sum(float(np.square(aim).sum()) for aim in aims), float(np.mean(cosines)))
    return found


def read_subject(path: str) -> Subject:
    with np.load(path) as file:
        fit, held = (
            Part(file[f"{part}_acts"], file[f"{part}_labels"], class_concepts(file[f"{part}_labels"]))
            for part in ("fit", "audit")
        )
        head = LinearHead(file["head_weight"], file["head_bias"], "fc")
    return Subject(path, fit, held, head)


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
