"""The network cut at one layer: one pass up to there, then the rest of it as often as wanted, with other outputs.

The rest is the network's own forward pass with the modules that finished before the layer giving back what they gave
in the pass, so that no architecture needs to be known. What the rest does not read is found by a test: NaN is put in
its place, and the head's inputs stay what they were.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salve_audit.errors import LayerError
from salve_audit.inputs.model.head.reader import HeadReader
from salve_audit.inputs.model.head.trace import as_logits, watch_inputs
from salve_audit.inputs.model.head.verification import VERIFIED_WITHIN
from salve_audit.inputs.reasons import summarise_error
from salve_audit.spatial.layers import SpatialLayer
from salve_audit.spatial.memo import Calls, Recorder, blank_rows, giving_back, pick_rows, run_up_to, shrink

IMAGES = ""  # stands for the images themselves among the names of modules
PLANNED = 2  # images of the test of what is needed
OTHER_LAYER = "name another layer with --saliency-layer or --evidence-layer"


@dataclass(frozen=True)
class TailPass:
    """Acts (r, d) and logits (r, k) that the rest of the network computes from outputs of the layer."""

    acts: Float[Tensor, "r d"]
    logits: Float[Tensor, "r k"]


@dataclass(frozen=True)
class CutPass:
    """One pass of images.

    Attributes:
        output: of the layer, as the network holds it (b, ...).
        acts: (b, d) the head's inputs.
        logits: (b, k) what the network returns.
        before: by module, what it gave back before the layer, where the rest of the network needs it.
    """

    output: Float[Tensor, "b ..."]
    acts: Float[Tensor, "b d"]
    logits: Float[Tensor, "b k"]
    before: Calls

    def __len__(self) -> int:
        return len(self.output)


@dataclass(frozen=True)
class _Plan:
    """Modules that the rest reads, and stand-ins for those that it does not: templates of `PLANNED` images."""

    needed: frozenset[str]
    templates: Calls
    solid: bool


class CutNetwork:
    """A private copy of a network, cut at `layer`; the network itself is not touched.

    Args:
        model: in eval mode, on any device.
        layer: of `find_spatial_layers`.
        reader: how the head's inputs are read, ``classifier.reader``.
        path: for messages.
    """

    def __init__(self, model: nn.Module, layer: SpatialLayer, reader: HeadReader, path: str = "model") -> None:
        self.layer, self.reader, self._path = layer, reader, path
        self._model = copy.deepcopy(model).eval().requires_grad_(False)
        for module in self._model.modules():
            if getattr(module, "inplace", False) is True:
                module.inplace = False  # type: ignore[assignment]  # its input is needed for gradients
        self._plan: _Plan | None = None

    def __enter__(self) -> CutNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self._model = nn.Identity()  # frees the copy

    def at(self, layer: SpatialLayer) -> CutNetwork:
        """This copy of the network, cut at another layer."""
        other = copy.copy(self)
        other.layer, other._plan = layer, None
        return other

    def is_bottleneck(self, images: Float[Tensor, "b c h w"]) -> bool:
        """True where nothing but the layer's output reaches the head, by two passes.

        Raises:
            LayerError: the network fails.
        """
        passed = self._record(_take(images))
        return self._agrees(passed, frozenset(passed.before), True)

    def run(self, images: Float[Tensor, "b c h w"]) -> CutPass:
        """One forward pass, without gradients.

        Raises:
            LayerError: the network fails, or its rest does not give the same again.
        """
        if self._plan is None:
            self._plan = self._make_plan(_take(images))
        return self._record(images, self._plan.needed)

    def look(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]:
        """What the layer gives, by a pass without gradients that ends there.

        Raises:
            LayerError: the network fails, or does not use the layer.
        """
        try:
            output = run_up_to(self._model, self.layer.name, images)
        except Exception as error:  # the network's own code may raise anything
            raise self._failed(images, error) from error
        if output is None:
            raise self._unused()
        return output

    def tail(self, passed: CutPass, outputs: Float[Tensor, "r ..."], rows: Int[Tensor, " r"]) -> Float[Tensor, "r k"]:
        """Logits for `outputs` in the layer's place; see `follow`."""
        return self.follow(passed, outputs, rows).logits

    def follow(self, passed: CutPass, outputs: Float[Tensor, "r ..."], rows: Int[Tensor, " r"]) -> TailPass:
        """The rest of the network on `outputs` in the layer's place, differentiable in them.

        Args:
            passed: of `run`.
            outputs: shaped as the layer's own.
            rows: which image of the pass each of them belongs to.
        """
        plan = self._plan
        assert plan is not None, "`passed` comes from a run"
        assert outputs.shape[1:] == passed.output.shape[1:], f"{outputs.shape} against {passed.output.shape}"
        assert len(outputs) == len(rows), f"{len(outputs)} outputs for {len(rows)} rows"
        calls = {
            name: [pick_rows(value, rows, len(passed)) for value in given] for name, given in passed.before.items()
        }
        for name, given in plan.templates.items():
            if name not in plan.needed:
                calls[name] = [blank_rows(template, len(rows), PLANNED, solid=plan.solid) for template in given]
        return self._replay(outputs, calls)

    def verify(self, images: Float[Tensor, "b c h w"]) -> float:
        """Largest difference of the tail from the network's own logits, relative to the largest of them.

        Raises:
            LayerError: it is above 1e-4.
        """
        passed = self.run(images)
        rows = torch.arange(len(images), device=images.device).flip(0).repeat(2)  # out of order, twice each
        with torch.no_grad():
            whole = as_logits(self._model(images), len(images), self._path)[rows]
            error = _compare(self.tail(passed, passed.output[rows], rows), whole)
        if not error <= VERIFIED_WITHIN:
            why = f"cut at {self.layer.name!r}, its rest gives other logits: {error:.2g} apart"
            raise LayerError(self._path, why, hint=OTHER_LAYER)
        return error

    def _record(self, images: Tensor, wanted: Collection[str] | None = None) -> CutPass:
        """The pass with what the `wanted` modules gave back before the layer; None: all of them."""
        recorder = Recorder(self._model, self.layer.name, wanted)
        inputs: dict[str, list[Tensor]] = {}
        try:
            with torch.no_grad(), recorder.watching(), self._watching_head(inputs):
                returned = self._model(images)
        except Exception as error:  # the network's own code may raise anything
            raise self._failed(images, error) from error
        if recorder.output is None:
            raise self._unused()
        acts = self.reader.read(inputs, len(images), self._path)
        prepared = {IMAGES: [images]} if wanted is None or IMAGES in wanted else {}
        before = {**prepared, **recorder.before}
        return CutPass(recorder.output, acts, as_logits(returned, len(images), self._path), before)

    def _failed(self, images: Tensor, error: Exception) -> LayerError:
        shape = " x ".join(map(str, images.shape))
        return LayerError(self._path, f"a forward pass of {shape} failed ({summarise_error(error)})")

    def _unused(self) -> LayerError:
        return LayerError(self._path, f"its module {self.layer.name!r} is not used in a forward pass")

    def _make_plan(self, images: Tensor) -> _Plan:
        """Replaces what modules gave back by NaN, all of it and then one by one."""
        passed = self._record(images)
        names = frozenset(passed.before)
        if not self._agrees(passed, frozenset(), True):
            why = f"cut at {self.layer.name!r}, its rest does not give the head's inputs again"
            raise LayerError(self._path, why, hint=OTHER_LAYER)
        solid = not self._agrees(passed, names, False)
        needed: frozenset[str] = frozenset()
        if solid and not self._agrees(passed, names, True):
            needed = frozenset(name for name in names if not self._agrees(passed, frozenset([name]), True))
            needed = needed if self._agrees(passed, names - needed, True) else names
        templates = {name: [shrink(value, PLANNED) for value in given] for name, given in passed.before.items()}
        return _Plan(needed, templates, solid)

    def _agrees(self, passed: CutPass, hidden: frozenset[str], solid: bool) -> bool:
        """True where the rest gives the head's inputs again, with NaN for the outputs of the `hidden` modules."""
        rows, calls = torch.arange(len(passed)), {}
        for name, given in passed.before.items():
            blank = name in hidden
            calls[name] = [
                blank_rows(value, len(rows), len(rows), solid=solid) if blank else pick_rows(value, rows, len(rows))
                for value in given
            ]
        try:
            with torch.no_grad():
                return _compare(self._replay(passed.output, calls).acts, passed.acts) <= VERIFIED_WITHIN
        except Exception:  # the network's own code, on numbers that it never meets
            return False

    def _replay(self, outputs: Tensor, calls: Calls) -> TailPass:
        inputs: dict[str, list[Tensor]] = {}
        with ExitStack() as stack:
            stack.enter_context(self._watching_head(inputs))
            for name, given in calls.items():
                if name != IMAGES:
                    stack.enter_context(giving_back(self._model.get_submodule(name), given))
            # a clone, since what follows may change it in place
            stack.enter_context(giving_back(self._model.get_submodule(self.layer.name), [outputs.clone()]))
            returned = self._model(calls[IMAGES][0])
        acts = self.reader.read(inputs, len(outputs), self._path)
        return TailPass(acts, as_logits(returned, len(outputs), self._path))

    @contextmanager
    def _watching_head(self, inputs: dict[str, list[Tensor]]) -> Iterator[None]:
        handles = [watch_inputs(self._model, name, inputs) for name in self.reader.modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _take(images: Tensor) -> Tensor:
    """`PLANNED` of the images."""
    return images[:PLANNED] if len(images) >= PLANNED else images[:1].expand(PLANNED, -1, -1, -1)


def _compare(replayed: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest of `other`; infinite where shapes differ."""
    if replayed.shape != expected.shape:
        return float("inf")
    difference = float((replayed - expected).abs().max())
    return difference / (float(expected.abs().max()) or 1.0)
