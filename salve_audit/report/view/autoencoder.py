"""The section on the autoencoder: how much of the model it represents, and how stable its features are."""

from __future__ import annotations

from collections.abc import Callable

from salve_audit.report.charts.frontier import FrontierPoint, draw_frontier
from salve_audit.report.numbers import count, percent, plural, strength
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
        ("Variant", f"{sae.variant}, {count(sae.n_latents)} latents, sparsity {strength(sae.sparsity)}"),
        ("Sparsity (L0)", active(sae)),
        ("Dead latents", f"{count(sae.n_dead)} of {count(sae.n_latents)}"),
    ]
    stability = sae.stability
    if stability is not None:
        facts += [
            ("Seeds compared", count(stability.n_seeds)),
            ("Mean |cosine| of matched features", f"{stability.matched_cosine:.3f}"),
            ("Features matched above 0.7", percent(stability.share_matched)),
            ("Subspace overlap", f"{stability.subspace_overlap:.3f}"),
        ]
    points = [
        FrontierPoint(p.variant, p.l0, p.r2, p.accuracy_kept, p.chosen, p.n_latents, p.full) for p in sae.frontier
    ]
    title = f"Frontier of {count(len(points))} trained autoencoders: R² and accuracy kept against active latents"
    figure = Figure(
        "figure-frontier",
        "Sparsity against fidelity of all autoencoders that were trained (validation part of the fit split)",
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
        "table": _frontier_table(sae, medium.table_rows) if points else None,
    }
    return Section("autoencoder", "Quality of the autoencoder", "autoencoder.html.j2", parts)


def _compare_variants(sae: SaeInfo) -> str:
    """A sentence on why this variant was chosen; empty where only one was trained."""
    finals = [point for point in sae.frontier if point.matched_cosine is not None]
    if len({point.variant for point in finals}) < 2:
        return ""
    texts = [
        f"{p.variant} with {count(p.n_latents)} latents (L0 {p.l0:.1f}, R² {p.r2:.3f}, {percent(p.accuracy_kept)} of "
        f"the accuracy kept, mean |cosine| with the latents of other seeds {p.matched_cosine or 0.0:.2f})"
        for p in finals
    ]
    return (
        f"{count(len(finals))} variants were each brought to the sparsest point that meets the goal, or nearest to it: "
        f"{'; '.join(texts)}. Of those that meet it, the one whose latents other seeds find again best is used, and "
        "the sparser one where two differ by less than 0.02."
    )


def _describe_concepts(sae: SaeInfo) -> str:
    """A sentence on the attributes given to a supervised autoencoder; empty for other variants."""
    if not sae.concepts:
        return ""
    n, more = len(sae.concepts), len(sae.concepts) - _MOST_NAMED
    named = ", ".join(sae.concepts[:_MOST_NAMED]) + (f" and {count(more)} more" if more > 0 else "")
    return (
        f"It knows {plural(n, 'concept')} ({named}), which are features 0 to {n - 1} and the same for every seed; the "
        f"other {plural(sae.n_latents - n, 'latent')} were trained on what these leave over."
    )


def _fidelity_table(sae: SaeInfo) -> Table:
    """Table of the accuracy that reconstructions keep, on images that chose the autoencoder and on others."""
    audit = sae.on_audit
    columns = [Column("Quantity", "name"), Column("Held-out part of the fit split"), Column("Audit split")]
    rows: list[list[Value]] = []
    for name, show in _FIDELITY:
        rows.append([name, show(sae), Missing("not measured in this audit") if audit is None else show(audit)])
    return make_table("What reconstructed activations keep", columns, rows, len(rows), "sae")


def _frontier_table(sae: SaeInfo, limit: int) -> Table:
    heads = ("Latents", "Sparsity", "L0", "R²", "Accuracy", "Kept", "KL, nats", "Mean |code|", "Dead", "|cos| of seeds")
    columns = [Column("Variant", "name"), *(Column(head) for head in heads), Column("Trained", "text")]
    rows: list[list[Value]] = [
        [
            p.variant,
            count(p.n_latents),
            strength(p.sparsity),
            f"{p.l0:.1f}",
            f"{p.r2:.4f}",
            percent(p.accuracy),
            percent(p.accuracy_kept),
            strength(p.logit_kl),
            strength(p.mean_abs_code),
            count(p.n_dead),
            "" if p.matched_cosine is None else f"{p.matched_cosine:.3f}",
            "in full, chosen" if p.chosen else "in full" if p.full else "briefly",
        ]
        for p in sae.frontier
    ]
    return make_table("Trained autoencoders", columns, rows, limit, "sae.frontier")
