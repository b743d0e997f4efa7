"""The methods that `supervised.py` compares: codes of concepts, each fitted to one part of the samples alone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from supervised_worlds import Part, Subject

from salve_audit.sae.metrics import count_active
from salve_audit.sae.models import TrainedSae
from salve_audit.sae.settings import SaeSettings
from salve_audit.sae.stage import train_sae
from salve_audit.sae.supervised_concepts import Concepts

N_HALVINGS = 5
PENALTIES, N_FOLDS, HELD_VARIANCE = (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0), 5, 0.99
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
        fit_probes("logistic", fit),
        fit_probes("logistic on PCA", fit, PCA(HELD_VARIANCE, svd_solver="full")),
    ]


def fit_probes(name: str, fit: Part, *steps: PCA) -> Method:
    """A logistic probe for each concept, on standardised activations, after `steps`."""
    probes = []
    for present in fit.concepts.present.T:
        line = make_pipeline(StandardScaler(), *steps, LogisticRegression(max_iter=1000))
        search = GridSearchCV(line, {"logisticregression__C": PENALTIES}, scoring="neg_log_loss", cv=N_FOLDS)
        probes.append(search.fit(fit.acts, present))
    return Method(name, lambda a: np.column_stack([probe.decision_function(a) for probe in probes]))


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


def spread(values: Sequence[float]) -> str:
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return f"[{low:.3f}, {high:.3f}]"
