"""Supervised autoencoders beside concept means, PCA and linear-l1: do codes tell concepts, and do concepts add up?

    python benchmarks/supervised.py ACTIVATIONS.npz ...    # fit_acts, fit_labels, audit_acts, audit_labels, head_*
    python benchmarks/supervised.py                        # the drawn worlds alone; needs scikit-learn

Codes: every concept gets one code. Supervised: its latent. Means: projection on (mean with it - mean without). PCA and
linear-l1: the component or latent with the best AUROC on the fit split, and its sign. Head: the model's own logit, for
classes. AUROC is the mean over concepts, on samples that nothing was fitted to. "R² c" is what least squares on the fit
split makes of the c codes alone, "R²" what the whole autoencoder reconstructs, with its L0. PCA "R²" has as many
components as linear-l1 has active latents. "linear-l1, L0 alike" is trained again with a smaller λ, found by halving,
that brings it to the L0 of supervised. Logistic probes: scikit-learn's `LogisticRegression`, one a concept, on
standardised activations, and on the principal components of these that hold 99 % of the variance; C from .001 to 100
by the log loss of five folds of the fit split; the code is the log odds.

Recombination: a network is trained on images with three cues, each likelier in some classes. From the fit split of
the autoencoders (not of the network) all images that show two of the cues together are removed, one pair after the
other. Predicted is the mean activation of unseen images of a class with both. Supervised adds up its concepts. The
others add up cells of the class: with one + with the other - with neither, as they are, and after PCA or linear-l1.
Errors count against the class's mean without such images: R² 0 is as good as that, below 0 is worse; the cosine is
that of the predicted and true distance from it. Resampled truths are noisier, so intervals of R² lie a little low.

Unseen pairs, told: from the same fit splits, all methods; the AUROC of each cue's code on held-out images, those with
both cues against those without this one, mean over the six ordered pairs. Probes predict no activations; this is what
they can be asked of cues together that they never saw together.

Intervals are 95 % bootstrap over the held-out samples; what was fitted stays as it is, so they lack the part of the fit
split. "against" is the paired difference to supervised.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from supervised_methods import Encode, Method, aurocs, make_methods, spread
from supervised_pairs import compare_detection, compare_recombination
from supervised_worlds import Subject, draw_subject, mixed_world, read_subject

from salve_audit.demo.training import one_thread
from salve_audit.demo.world import demo_world
from salve_audit.sae.metrics import explained_variance

N_RESAMPLES = 300


def linear_decoder(codes: np.ndarray, acts: np.ndarray) -> Encode:
    """Least squares from codes (and a constant) to activations."""
    design = np.column_stack([codes, np.ones(len(codes))]).astype(np.float64)
    weight = np.linalg.lstsq(design, acts, rcond=None)[0]
    return lambda some: np.column_stack([some, np.ones(len(some))]) @ weight


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("activations", nargs="*")
    options, began = parser.parse_args(), time.process_time()
    with one_thread():
        for path in options.activations:
            compare_codes(read_subject(path))
        compare_codes(draw_subject(demo_world(), 400, 200))
        mixed = draw_subject(mixed_world(), 600, 600)
        compare_codes(mixed)
        compare_recombination(mixed)
        compare_detection(mixed)
    print(f"{time.process_time() - began:.0f} s of CPU in this call")


if __name__ == "__main__":
    main()
