"""Sentences and labels that text, page and figure share."""

from __future__ import annotations

from salve_audit.explain.findings import Decomposition, EditFinding, Explanation, FeaturePart, Flip, Piece, Pieces
from salve_audit.report.numbers import percent, plural, strength

SUM = (
    "The logit is exactly the sum of these parts: what each feature writes along the class's row of the final layer, "
    "the decoder's bias, what the autoencoder does not reproduce, and the layer's own bias."
)


def name_feature(part: FeaturePart) -> str:
    """``feature 7 (fur)``."""
    return f"feature {part.feature}" + (f" ({part.concept})" if part.concept else "")


def signed(value: float) -> str:
    """Two decimals, always with its sign."""
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else '−'}{text}"


def show_share(one: Decomposition, part: float) -> str:
    """A part as a share of the logit; empty where that makes no sense."""
    value = one.share(part)
    return "" if value is None else percent(value).replace("-", "−")


def describe_flip(flip: Flip) -> str:
    """``1.24 → ship``; ``never``."""
    return "never" if flip.alpha_hat is None else f"{strength(flip.alpha_hat)} → {flip.to}"


def list_parts(one: Decomposition) -> list[tuple[str, float]]:
    """The parts besides the listed features, which complete the sum."""
    return [
        (plural(one.n_rest, "other feature"), one.rest),
        ("decoder's bias", one.decoder_bias),
        ("not reproduced by the autoencoder", one.error),
        ("bias of the final layer", one.head_bias),
    ]


def conclude(found: Explanation) -> str:
    """The finding in one sentence."""
    first, second = found.scores[0], found.scores[1]
    lead = f"{first.name} ({percent(first.probability)}), then {second.name} ({percent(second.probability)})"
    features = found.decomposition.features
    carried = [one for one in features if one.flip.alpha_hat is not None]
    if not carried:
        return f"{lead}. Suppressing any single one of the listed features does not change that."
    weakest = min(carried, key=lambda one: one.flip.alpha_hat or 0.0)
    return (
        f"{lead}. What changes that with the least is {name_feature(weakest)}: suppressed at "
        f"α̂ {strength(weakest.flip.alpha_hat)}, the model says {weakest.flip.to}."
    )


def name_piece(piece: Piece, number: int) -> str:
    """``piece 1 (concept 4)``."""
    return f"piece {number}" + (f" (concept {piece.concept})" if piece.concept is not None else "")


def describe_piece(piece: Piece, own: str) -> str:
    """What the model says without it."""
    kept = f"{own} {percent(piece.own_probability)}"
    if piece.predicted == own:
        return f"without it still {kept}"
    return f"without it {piece.predicted} {percent(piece.probability)}, {kept}"


def conclude_pieces(pieces: Pieces, own: str) -> str:
    """How much the prediction rests on one place, in a sentence."""
    n = len(pieces.found)
    if not n:
        return f"No place was found in the picture that speaks for {own}."
    decisive = [one for one in pieces.found if one.predicted != own]
    if decisive:
        return f"One piece is enough: without it the prediction is no longer {own}."
    if pieces.redundancy is not None:
        return f"No single piece found decides it; {pieces.redundancy} together do."
    return f"{own} is still predicted with {plural(n, 'piece')} taken out."


def conclude_edit(edit: EditFinding) -> str:
    """What the edit did, in one sentence."""
    now, was = edit.after[0], edit.predicted
    left = next(one for one in edit.after if one.index == was.index)
    if edit.flipped:
        return (
            f"The prediction becomes {now.name} ({percent(now.probability)}); "
            f"{was.name} goes from {percent(was.probability)} to {percent(left.probability)}."
        )
    return f"Still {now.name}: {percent(was.probability)} before, {percent(now.probability)} after."
