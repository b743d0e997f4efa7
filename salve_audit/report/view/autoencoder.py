"""The section on the autoencoder: how much of the model it represents, and how stable its features are."""

from __future__ import annotations

from collections.abc import Callable

from salve_audit.report.charts.frontier import FrontierPoint, draw_frontier
from salve_audit.report.language import plural, say
from salve_audit.report.numbers import count, percent, strength
from salve_audit.report.tables import Column, Missing, Table, Value, make_table
from salve_audit.report.view.findings import active, share_kept
from salve_audit.report.view.page import Figure, Medium, Section
from salve_audit.results import AuditResult, SaeFidelity, SaeInfo

_MOST_NAMED = 20
_FIDELITY: tuple[tuple[str, Callable[[SaeInfo | SaeFidelity], str]], ...] = (
    ("R² of the activations", lambda fidelity: f"{fidelity.r2:.4f}"),
    ("Accuracy, original activations", lambda fidelity: percent(fidelity.accuracy_original)),
    ("Accuracy, reconstructed activations", lambda fidelity: percent(fidelity.accuracy_reconstructed)),
    ("Share of the accuracy kept", lambda fidelity: percent(share_kept(fidelity))),
    ("KL of the logits, nats", lambda fidelity: strength(fidelity.logit_kl)),
)


def build_autoencoder(result: AuditResult, medium: Medium) -> Section:
    """Frontier, chosen point, stability."""
    sae = result.sae
    facts = [
        (
            say("Variant"),
            say(
                "{variant}, {n_latents} latents, sparsity {sparsity}",
                variant=sae.variant,
                n_latents=count(sae.n_latents),
                sparsity=strength(sae.sparsity),
            ),
        ),
        (say("Sparsity (L0)"), active(sae)),
        (say("Dead latents"), say("{n_dead} of {n_latents}", n_dead=count(sae.n_dead), n_latents=count(sae.n_latents))),
    ]
    stability = sae.stability
    if stability is not None:
        facts += [
            (say("Seeds compared"), count(stability.n_seeds)),
            (say("Mean |cosine| of matched features"), f"{stability.matched_cosine:.3f}"),
            (say("Features matched above 0.7"), percent(stability.share_matched)),
            (say("Subspace overlap"), f"{stability.subspace_overlap:.3f}"),
        ]
    points = [
        FrontierPoint(p.variant, p.l0, p.r2, p.accuracy_kept, p.chosen, p.n_latents, p.full) for p in sae.frontier
    ]
    title = say(
        "Frontier of {points} trained autoencoders: R² and accuracy kept against active latents",
        points=count(len(points)),
    )
    figure = Figure(
        "figure-frontier",
        say("Sparsity against fidelity of all autoencoders that were trained (validation part of the fit split)"),
        (draw_frontier(points, title),) if points else (),
        "sae.frontier",
    )
    parts = {
        "facts": tuple(facts),
        "fidelity": _fidelity_table(sae),
        "satisfied": sae.satisfied,
        "compared": _compare_variants(sae),
        "concepts": _describe_concepts(sae),
        "measured_stability": stability is not None,
        "figure": figure if points else None,
    }
    return Section("autoencoder", say("Quality of the autoencoder"), "autoencoder.html.j2", parts)


def _compare_variants(sae: SaeInfo) -> str:
    """A sentence on why this variant was chosen; empty where only one was trained."""
    finals = [point for point in sae.frontier if point.matched_cosine is not None]
    if len({point.variant for point in finals}) < 2:
        return ""
    texts = [
        say(
            "{variant} with {n_latents} latents (L0 {l0}, R² {r2}, {accuracy_kept} of the accuracy kept, mean "
            "|cosine| with the latents of other seeds {x})",
            variant=p.variant,
            n_latents=count(p.n_latents),
            l0=f"{p.l0:.1f}",
            r2=f"{p.r2:.3f}",
            accuracy_kept=percent(p.accuracy_kept),
            x=f"{p.matched_cosine or 0.0:.2f}",
        )
        for p in finals
    ]
    return say(
        "{finals} variants were each brought to the sparsest point that meets the goal, or nearest to it: {texts}. "
        "Of those that meet it, the one whose latents other seeds find again best is used, and the sparser one "
        "where two differ by less than 0.02.",
        finals=count(len(finals)),
        texts="; ".join(texts),
    )


def _describe_concepts(sae: SaeInfo) -> str:
    """A sentence on the attributes given to a supervised autoencoder; empty for other variants."""
    if not sae.concepts:
        return ""
    n, more = len(sae.concepts), len(sae.concepts) - _MOST_NAMED
    named = ", ".join(sae.concepts[:_MOST_NAMED]) + (say(" and {more} more", more=count(more)) if more > 0 else "")
    return say(
        "It knows {n} ({named}), which are features 0 to {x} and the same for every seed; the other {x2} were "
        "trained on what these leave over.",
        n=plural(n, "concept"),
        named=named,
        x=n - 1,
        x2=plural(sae.n_latents - n, "latent"),
    )


def _fidelity_table(sae: SaeInfo) -> Table:
    """Table of the accuracy that reconstructions keep, on images that chose the autoencoder and on others."""
    audit = sae.on_audit
    columns = [
        Column(say("Quantity"), "name"),
        Column(say("Held-out part of the fit split")),
        Column(say("Audit split")),
    ]
    rows: list[list[Value]] = []
    for name, show in _FIDELITY:
        rows.append([name, show(sae), Missing("not measured in this audit") if audit is None else show(audit)])
    return make_table(say("What reconstructed activations keep"), columns, rows, len(rows), "sae")
