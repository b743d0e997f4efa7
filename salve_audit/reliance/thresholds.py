"""Critical suppression thresholds of one feature on the samples of one class: analytical, numerical, flip, empirical.

Every weight W_kj is scaled by ``max(0, 1 - α c_j)`` (SALVE, arXiv 2512.15938, with the exact roots that its linear
formula approximates). Every logit is piecewise linear in α, so no grid and no iteration is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from salve_audit.errors import ArrayError
from salve_audit.reliance.crossings import first_at_most_half
from salve_audit.reliance.margins import Rivals, SortedCoupling, find_margin_events, list_rivals, sort_coupling

CROSSED, ERASED, NEVER, NOT_APPLICABLE = "crossed", "erased", "never", "not_applicable"
SAME = 1e-12  # relative distance below which a root is the last breakpoint


@dataclass(frozen=True)
class Thresholds:
    """Thresholds in units of α; multiply by ``coupling.max()`` for α̂. NaN: not applicable; inf: never.

    Attributes:
        analytical: (n,) ``z_i(0) / Σ_j W_ij c_j a_j``; needs a positive logit (without bias) and a positive sum.
        numerical: (n,) smallest α with z_i(α) = 0; needs a positive logit.
        flip: (n,) smallest α at which a rival's logit reaches the target's; needs an initially correct sample.
        status: (n,) of "crossed", "erased" (z_i reaches 0 only when every weight is gone), "never", "not_applicable".
        empirical: smallest α at which at most half of the samples are classified as the target.
        correct: (n,) classified as the target at α = 0; ties count as wrong.

    >>> import salve_audit
    >>> salve_audit.thresholds([[2.0]], [[1.0], [0.5]], None, [0.0], target=0).correct.tolist()
    [True]
    """

    analytical: Float[np.ndarray, " n"]
    numerical: Float[np.ndarray, " n"]
    flip: Float[np.ndarray, " n"]
    status: np.ndarray  # of str, (n,)
    empirical: float
    correct: npt.NDArray[np.bool_]


def thresholds(
    acts: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None,
    coupling: npt.ArrayLike,
    target: int,
) -> Thresholds:
    """Thresholds of every sample of class `target` when the feature with this coupling is suppressed.

    Args:
        acts: (n, d) activations of the class's samples, any float type (tensors on the CPU too).
        weight: (k, d) of the final linear layer.
        bias: (k,) or None.
        coupling: (d,) nonnegative, ``abs(dictionary[l])``.
        target: class index i in 0..k-1.

    Raises:
        ArrayError: shapes do not fit, a value is not finite, a coupling is negative, or the target is out of range;
            it is a ValueError, too.

    >>> import salve_audit
    >>> found = salve_audit.thresholds([[2.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], None, [1.0, 0.0], target=0)
    >>> found.flip.tolist(), found.status.tolist()
    ([0.5], ['crossed'])
    """
    case = _validated(acts, weight, bias, coupling, target)
    return thresholds_against(
        case.acts, case.weight[target], list_rivals(case.weight, case.bias, target), case.coupling
    )


def thresholds_against(
    acts: Float[np.ndarray, "n d"], row: Float[np.ndarray, " d"], rivals: Rivals, coupling: Float[np.ndarray, " d"]
) -> Thresholds:
    """`thresholds` of valid float64 arrays; a class's weights and its rivals serve any number of couplings."""
    top = float(coupling.max(initial=0.0))
    order = sort_coupling(coupling)
    analytical, numerical, status = _own_logit_thresholds(acts, row, order)
    events = find_margin_events(acts, rivals, order)
    unit = top if top > 0 else 1.0  # without any coupling every threshold is 0, inf or nan, whatever the unit
    return Thresholds(
        analytical=analytical / unit,
        numerical=numerical / unit,
        flip=events.flip / unit,
        status=status,
        empirical=first_at_most_half(events) / unit,
        correct=events.correct,
    )


@dataclass(frozen=True)
class _Case:
    acts: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    coupling: np.ndarray


def _validated(
    acts: npt.ArrayLike,
    weight: npt.ArrayLike,
    bias: npt.ArrayLike | None,
    coupling: npt.ArrayLike,
    target: int,
) -> _Case:
    a, w, c = _to_array("acts", acts), _to_array("weight", weight), _to_array("coupling", coupling)
    if a.ndim != 2 or w.ndim != 2 or a.shape[1] != w.shape[1] or c.shape != (w.shape[1],):
        shapes = f"{a.shape}, {w.shape}, {c.shape}"
        raise ArrayError("thresholds", f"expected acts (n, d), weight (k, d), coupling (d,), got {shapes}")
    b = np.zeros(len(w)) if bias is None else _to_array("bias", bias)
    if b.shape != (len(w),):
        raise ArrayError("bias", f"expected ({len(w)},), got {b.shape}")
    given: Any = target
    if not isinstance(given, Integral) or not 0 <= target < len(w):
        raise ArrayError("target", f"{target!r} is not in 0..{len(w) - 1}")
    for name, value in {"acts": a, "weight": w, "bias": b, "coupling": c}.items():
        if not np.isfinite(value).all():
            raise ArrayError(name, "has values that are not finite")
    if (c < 0).any():
        raise ArrayError("coupling", f"must not be negative, got {c.min()}")
    return _Case(a, w, b, c)


def _to_array(name: str, values: npt.ArrayLike) -> np.ndarray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArrayError(name, f"expected an array of numbers, got {type(values).__name__} ({error})") from None


def _own_logit_thresholds(
    acts: Float[np.ndarray, "n d"], row: Float[np.ndarray, " d"], order: SortedCoupling
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"], np.ndarray]:
    """Analytical and numerical thresholds in α̂, and the status of the latter."""
    n, m = len(acts), order.n_coupled
    backwards = order.order[::-1]  # suffix sums as running sums: exact zero when nothing is left
    terms = acts[:, backwards] * row[backwards]  # (n, d)
    active0 = np.cumsum(terms, axis=1)[:, ::-1]  # (n, d): sum over coordinates from j on
    terms *= order.relative[::-1]
    active1 = np.cumsum(terms, axis=1)[:, ::-1]
    logit = active0[:, 0] if terms.shape[1] else np.zeros(n)
    removal = active1[:, 0] if terms.shape[1] else np.zeros(n)
    applicable = logit > 0
    defined = applicable & (removal > 0)
    analytical = np.full(n, np.nan)
    analytical[defined] = logit[defined] / removal[defined]
    numerical = _first_root(active0, active1, order)
    numerical = np.where(applicable, numerical, np.nan)
    status = np.full(n, CROSSED, dtype=f"<U{len(NOT_APPLICABLE)}")
    if m and m == len(row):
        status[numerical >= order.breakpoints[-1] * (1 - SAME)] = ERASED
    status[np.isinf(numerical)] = NEVER
    status[~applicable] = NOT_APPLICABLE
    return analytical, numerical, status


def _first_root(
    active0: Float[np.ndarray, "n d"], active1: Float[np.ndarray, "n d"], order: SortedCoupling
) -> Float[np.ndarray, " n"]:
    """Smallest α̂ with S0 - α̂ S1 = 0 on its own segment, inf where there is none (for samples positive at 0)."""
    n, m = len(active0), order.n_coupled
    root = np.full(n, np.inf)
    if m == 0 or n == 0:
        return root
    value = np.zeros((n, m))  # at each breakpoint, from the coordinates beyond it
    beyond = slice(1, min(m + 1, active0.shape[1]))
    width = beyond.stop - 1
    np.multiply(active1[:, beyond], -order.breakpoints[:width], out=value[:, :width])
    value[:, :width] += active0[:, beyond]
    reached = value <= 0
    segment = reached.argmax(1)
    rows = np.flatnonzero(reached[np.arange(n), segment])
    at = segment[rows]
    s0, s1 = active0[rows, at], active1[rows, at]
    quotient = np.divide(s0, s1, out=np.full(len(rows), np.inf), where=s1 > 0)
    left = np.where(at > 0, order.breakpoints[at - 1], 0.0)
    root[rows] = np.clip(quotient, left, order.breakpoints[at])
    return root
