"""A checkpoint's names and shapes against the index: which architectures have exactly these, and with what settings."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from salve_audit.inputs.model.inference.index import Entry, Index, SizeRule
from salve_audit.inputs.model.inference.measure import TORCHVISION, build_shapes, family_of
from salve_audit.inputs.model.inference.signature import Shapes, hash_names, hash_shapes, mask_dims, sketch_shapes

# tried where the tensors differ from the default size's but no single side says which size it is
TYPICAL_SIZES = (32, 64, 96, 112, 128, 144, 160, 192, 224, 240, 256, 288, 320, 336, 384, 448, 512)
N_VERIFIED = 16  # networks built to find one that fits, best first
N_NEAREST = 3
N_NEAR = 4
# variants of an architecture whose differences leave no trace in the shapes; the plain one is taken
LATE_PREFIXES = ("tf_", "legacy_", "gluon_", "test_", TORCHVISION)


@dataclass(frozen=True)
class Fit:
    """An architecture that has exactly a checkpoint's tensors.

    Attributes:
        entry: of the index.
        n_classes, n_chans: read off the shapes.
        size: side of the images where the shapes say another than the architecture's own, else None.
    """

    entry: Entry
    n_classes: int
    n_chans: int
    size: int | None

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def kwargs(self) -> dict[str, Any]:
        """Arguments that build it."""
        family = family_of(self.name)
        kwargs = {**self.entry.kwargs, "num_classes": self.n_classes}
        if family.chans is not None and self.n_chans != 3:
            kwargs[family.chans] = self.n_chans
        if self.size is not None:
            kwargs[family.size] = self.size
        return kwargs


def find_fits(index: Index, shapes: Shapes, said: str = "") -> tuple[Fit, ...]:
    """Architectures with exactly these tensors, the one to take first.

    Networks that differ in nothing but sizes of images are distinguished by the shapes, and named once; of those that
    share all shapes, the one that `said` (the file's name, say) contains is first, else the plainest.

    Args:
        index: of architectures.
        shapes: of all that is learnt, see `read_shapes`.
        said: text in which an architecture's name is a hint.
    """
    fits = [fit for entry in index.by_names.get(hash_names(shapes), ()) for fit in _fit(entry, shapes)]
    fits.sort(key=lambda fit: _rank(fit, said))
    fit_of: dict[str, Fit] = {}
    n_built = 0
    for fit in fits:
        name = strip_size(fit.name)
        if name in fit_of:
            continue
        if fit.size is None and index.is_current:
            fit_of[name] = fit  # equal hashes of the same timm need no check; loading is strict besides
        elif n_built < N_VERIFIED:
            n_built += 1
            if _is_exact(fit, shapes):
                fit_of[name] = fit
    return tuple(fit_of.values())


def strip_size(name: str) -> str:
    """The name without a size of images at its end: names that differ in it alone are one architecture."""
    return re.sub(r"_\d{2,3}$", "", name)


def fit_named(index: Index, name: str, shapes: Shapes) -> Fit | None:
    """The settings under which the architecture `name` has exactly these tensors, or None."""
    for entry in index.by_names.get(hash_names(shapes), ()):
        if entry.name == name:
            for fit in _fit(entry, shapes):
                if (fit.size is None and index.is_current) or _is_exact(fit, shapes):
                    return fit
    return None


def find_entry(index: Index, name: str) -> Entry:
    """The first entry of the architecture `name`, which is in the index."""
    return next(entry for entry in index.entries if entry.name == name)


def find_nearest(index: Index, shapes: Shapes) -> tuple[str, int, int] | None:
    """The architecture that shares most tensors: its name, how many fit, how many it has; None where few do."""
    own = sketch_shapes(shapes)
    likeness: dict[str, tuple[int, Entry]] = {}
    for entry in index.entries:
        both = sorted({*own, *entry.sketch})[: len(own)]
        shared = len({*both} & {*own} & {*entry.sketch})
        if shared > likeness.get(entry.name, (-1, entry))[0]:
            likeness[entry.name] = (shared, entry)
    best = sorted(likeness, key=lambda name: (-likeness[name][0], *_plainness(name)))[:N_NEAREST]
    counted = [(name, *_count_fitting(likeness[name][1], shapes)) for name in best]
    name, n_fit, n_own = max(counted, key=lambda counts: counts[1])
    return (name, n_fit, n_own) if n_fit >= len(shapes) / 2 else None


def _fit(entry: Entry, shapes: Shapes) -> list[Fit]:
    """The settings under which `entry` may have these tensors: none, one, or one for each size to be tried."""
    if hash_shapes(mask_dims(shapes, entry.classes, entry.chans, entry.sizes)) != entry.fixed_hash:
        return []
    n_classes = {shapes[name][dim] for name, dims in entry.classes.items() for dim in dims}
    if len(n_classes) != 1:
        return []
    n_chans = next((shapes[name][dims[0]] for name, dims in entry.chans.items()), 3 * entry.chan_unit)
    if n_chans % max(1, entry.chan_unit):
        return []
    settings = (entry, n_classes.pop(), n_chans // max(1, entry.chan_unit))
    if hash_shapes(mask_dims(shapes, entry.classes, entry.chans)) == entry.default_hash:
        return [Fit(*settings, None)]
    sizes: tuple[int, ...] = TYPICAL_SIZES
    if entry.rule is not None:
        sizes = _solve_size(entry.rule, shapes[entry.rule.tensor])
        # windows that are rounded to whole ones leave the curve between the sizes that were measured
        sizes += tuple(sorted(TYPICAL_SIZES, key=lambda size: abs(size - sizes[0])))[:N_NEAR] if sizes else ()
    return [Fit(*settings, size) for size in sizes]


def _solve_size(rule: SizeRule, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The size at which the rule's quadratic has the side of `shape`; empty where no whole size has."""
    (s, _, _), (low, middle, high), side = rule.sizes, rule.values, shape[rule.dim]
    # through values at s, 2s and 3s: side = low + first * t + second * t * (t - 1) / 2 with t = size / s - 1
    first, second = middle - low, high - 2 * middle + low
    a, b, c = second / 2, first - second / 2, low - side
    if a == 0:
        roots = [-c / b]
    else:
        inside = b * b - 4 * a * c
        roots = [(-b + math.sqrt(inside)) / (2 * a)] if inside >= 0 else []
    sizes = [round(s * (root + 1)) for root in roots]
    return tuple(size for size in sizes if size > 0)


def _is_exact(fit: Fit, shapes: Shapes) -> bool:
    return build_shapes(fit.name, **fit.kwargs) == dict(shapes)


def rank_fits(fits: Sequence[Fit], said: str) -> list[Fit]:
    """Fits of different architectures, the one to take first; see `find_fits`."""
    fit_of: dict[str, Fit] = {}
    for fit in sorted(fits, key=lambda fit: _rank(fit, said)):
        fit_of.setdefault(strip_size(fit.name), fit)
    return list(fit_of.values())


def _rank(fit: Fit, said: str) -> tuple[Any, ...]:
    """Own size first, then what the file is called, then as it is built by default, then the plainest name."""
    is_said = fit.name.removeprefix(TORCHVISION).lower() in said.lower()
    return (fit.size is not None, -len(fit.name) if is_said else 0, bool(fit.entry.kwargs), *_plainness(fit.name))


def _plainness(name: str) -> tuple[Any, ...]:
    return (name.startswith(LATE_PREFIXES), len(name), name)


def _count_fitting(entry: Entry, shapes: Shapes) -> tuple[int, int]:
    """Numbers of tensors that fit the architecture, whatever its classes, channels and size, and of all its own."""
    wild = (entry.classes, entry.chans, entry.sizes)
    own = mask_dims(build_shapes(entry.name, **entry.kwargs) or {}, *wild)
    given = mask_dims(shapes, *wild)
    return sum(own.get(key) == shape for key, shape in given.items()), len(own)
