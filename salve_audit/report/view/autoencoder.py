"""The section on the autoencoder: how much of the model it represents, and how stable its features are."""

from __future__ import annotations

from salve_audit.report.charts.frontier import FrontierPoint, draw_frontier
from salve_audit.report.numbers import count, percent, strength
from salve_audit.report.tables import Column, Table, Value, make_table
from salve_audit.report.view.page import Figure, Medium, Section
from salve_audit.results import AuditResult, SaeInfo


def build_autoencoder(result: AuditResult, medium: Medium) -> Section:
    """Frontier, chosen point, stability."""
    sae = result.sae
    kept = sae.accuracy_reconstructed / sae.accuracy_original if sae.accuracy_original else 0.0
    facts = [
        ("Variant", f"{sae.variant}, {count(sae.n_latents)} latents, sparsity {strength(sae.sparsity)}"),
        ("R² of the activations", f"{sae.r2:.4f}"),
        ("Active latents per picture (L0)", f"{sae.l0:.1f}"),
        ("Dead latents", count(sae.n_dead)),
        (
            "Accuracy with reconstructed activations",
            f"{percent(sae.accuracy_reconstructed)} of {percent(sae.accuracy_original)}, {percent(kept)} kept",
        ),
        ("KL of the logits", f"{strength(sae.logit_kl)} nats"),
    ]
    stability = sae.stability
    if stability is not None:
        facts += [
            ("Seeds compared", count(stability.n_seeds)),
            ("Mean |cosine| of matched features", f"{stability.matched_cosine:.3f}"),
            ("Features matched above 0.7", percent(stability.share_matched)),
            ("Subspace overlap", f"{stability.subspace_overlap:.3f}"),
        ]
    points = [FrontierPoint(p.variant, p.l0, p.r2, p.accuracy_kept, p.chosen) for p in sae.frontier]
    title = f"Frontier of {count(len(points))} trained autoencoders: R² and accuracy kept against active latents"
    figure = Figure(
        "figure-frontier",
        "Sparsity against fidelity of all autoencoders that were trained (validation part of the fit split)",
        (draw_frontier(points, title),) if points else (),
        "sae.frontier",
    )
    parts = {
        "facts": tuple(facts),
        "satisfied": sae.satisfied,
        "measured_stability": stability is not None,
        "figure": figure if points else None,
        "table": _frontier_table(sae, medium.table_rows) if points else None,
    }
    return Section("autoencoder", "Quality of the autoencoder", "autoencoder.html.j2", parts)


def _frontier_table(sae: SaeInfo, limit: int) -> Table:
    heads = ("Latents", "Sparsity", "L0", "R²", "Accuracy", "Kept", "KL, nats", "Mean |code|", "Dead")
    columns = [Column("Variant", "name"), *(Column(head) for head in heads), Column("Chosen", "text")]
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
            "chosen" if p.chosen else "",
        ]
        for p in sae.frontier
    ]
    return make_table("Trained autoencoders", columns, rows, limit, "sae.frontier")
