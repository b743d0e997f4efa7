"""The residual stream that ends at the head: which layers write into it, verified on real images.

Names only suggest. On a batch, every block's output must be the sum of what comes in and what its writers return (after
ReLU where there is one), the blocks must hand it on to each other, and the last output must give the head's inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from salve_audit.errors import DeepEditError
from salve_audit.inputs.model.classifier import Classifier
from salve_audit.inputs.model.head.trace import Trace, trace
from salve_audit.inputs.model.head.verification import VERIFIED_WITHIN
from salve_audit.interventions.deep.families import Block, Skeleton, guess_skeleton
from salve_audit.interventions.deep.readout import Readout, find_readout
from salve_audit.interventions.deep.writers import Writer
from salve_audit.interventions.registry import ALL_WRITERS, DEEP_METHODS, LAST_BLOCK

HINT = "known are networks with timm's or torchvision's names of ResNet, ViT and ConvNeXt; edit the head instead"


@dataclass(frozen=True)
class Scope:
    """Blocks and writers that one kind of deep edit changes.

    Attributes:
        method: its name.
        blocks: that run again after an edit, in order.
        writers: whose outputs are projected.
        left: what else writes into the stream, in words; empty: nothing.
    """

    method: str
    blocks: tuple[str, ...]
    writers: tuple[Writer, ...]
    left: str


@dataclass(frozen=True)
class ResidualStream:
    """The stream, verified.

    Attributes:
        family: of the network, in words.
        blocks: that share it, in order.
        left: what else writes into it, in words; empty: nothing.
        readout: from the last block to the head's inputs.
        axis: of the channels in the blocks' outputs.
    """

    family: str
    blocks: tuple[Block, ...]
    left: str
    readout: Readout

    def scope(self, method: str) -> Scope:
        """The scope of a deep method, by its key."""
        assert method in DEEP_METHODS, method
        own = self.blocks[-1:] if method == LAST_BLOCK.key else self.blocks
        first = own[0]
        left = self.left if own == self.blocks else "" if first.entry else f"what comes into {first.name} from below"
        return Scope(
            method, tuple(block.name for block in own), tuple(w for block in own for w in block.all_writers), left
        )

    def scopes(self) -> tuple[Scope, ...]:
        """Both; one where they are the same."""
        both = self.scope(LAST_BLOCK.key), self.scope(ALL_WRITERS.key)
        return both if both[0].writers != both[1].writers else both[1:]


def find_stream(classifier: Classifier, batch: Tensor) -> ResidualStream:
    """The residual stream before the head of `classifier`, verified on images (b, c, h, w).

    Raises:
        DeepEditError: the network is of no known family, or does not work as its names suggest.
    """
    model, path = classifier.model, str(classifier.path)
    skeleton = guess_skeleton(model)
    if skeleton is None:
        raise DeepEditError(path, f"no deep edit is known for {classifier.architecture}", hint=HINT)
    watched = [name for block in skeleton.blocks for name in (block.name, *(w.watched for w in block.all_writers))]
    reader = classifier.reader
    traced = trace(model, [*watched, *reader.modules], batch, path)
    unused = next((name for name in watched if len(traced.calls.get(name, _NONE).outputs) != 1), None)
    if unused is not None:
        raise _unverified(classifier, f"its layer {unused} does not run once in a forward pass")
    acts = reader.read(
        {name: traced.calls[name].inputs for name in reader.modules if name in traced.calls}, len(batch), path
    )
    axis = -1 if skeleton.family == "vision transformer" else 1
    last = skeleton.blocks[-1].name
    readout = find_readout(model, traced.calls[last].outputs, acts, skeleton.norms, axis)
    if readout is None:
        raise _unverified(classifier, f"what its head is given is not read from {last} in a known way")
    blocks, left = _follow(classifier, skeleton, traced)
    return ResidualStream(skeleton.family, blocks, left, readout)


class _Unwatched:
    outputs: tuple[Tensor, ...] = ()


_NONE = _Unwatched()


def _unverified(classifier: Classifier, why: str) -> DeepEditError:
    return DeepEditError(str(classifier.path), f"no deep edit is known for {classifier.architecture}: {why}", hint=HINT)


def _follow(classifier: Classifier, skeleton: Skeleton, traced: Trace) -> tuple[tuple[Block, ...], str]:
    """The blocks from the last one down to where the stream begins, in order, and what else writes into it."""
    blocks: list[Block] = []
    for block in reversed(skeleton.blocks):
        output = traced.calls[block.name].outputs[0]
        if blocks and not torch.equal(output, traced.calls[blocks[0].name].inputs[0]):
            raise _unverified(classifier, f"{block.name} does not hand its output on to {blocks[0].name}")
        if not _stands_alone(classifier.model, block, traced):
            raise _unverified(classifier, f"{block.name} needs more than what the block before it returns")
        blocks.insert(0, block)
        incoming = _incoming(classifier.model, block, traced)
        written = sum((_output(classifier.model, writer, traced) for writer in block.writers), torch.zeros(()))
        if incoming.shape == output.shape and _agree(_finish(block, incoming + written), output):
            if block.entry is not None:
                return tuple(blocks), ""
            continue
        if not block.rectified or block.entry is not None or not _only_adds(classifier.model, block, traced):
            raise _unverified(classifier, f"{block.name} does not return the sum of what its layers write")
        return tuple(blocks), f"the shortcut around {block.name}, which has no weights"
    return tuple(blocks), skeleton.below


def _stands_alone(model: nn.Module, block: Block, traced: Trace) -> bool:
    """True if the block gives its output again from its input alone: edits are measured by running blocks so."""
    calls = traced.calls[block.name]
    try:
        with torch.inference_mode():
            output = model.get_submodule(block.name)(calls.inputs[0].clone())
    except Exception:  # the network's own code may raise anything where an argument is missing
        return False
    return isinstance(output, Tensor) and output.shape == calls.outputs[0].shape and _agree(output, calls.outputs[0])


def _incoming(model: nn.Module, block: Block, traced: Trace) -> Tensor:
    return traced.calls[block.name].inputs[0] if block.entry is None else _output(model, block.entry, traced)


def _output(model: nn.Module, writer: Writer, traced: Trace) -> Tensor:
    """The writer's output as it is added to the stream, its channels on the block's axis."""
    output, gate = traced.calls[writer.watched].outputs[0], writer.after(model)
    if gate is not None:
        output = (output.movedim(writer.axis, -1) * gate).movedim(-1, writer.axis)
    return output.movedim(-1, 1) if output.ndim == 4 and writer.axis == -1 else output


def _finish(block: Block, values: Tensor) -> Tensor:
    return values.relu() if block.rectified else values


def _agree(output: Tensor, expected: Tensor) -> bool:
    return bool((output - expected).abs().max() <= VERIFIED_WITHIN * expected.abs().max())


def _only_adds(model: nn.Module, block: Block, traced: Trace) -> bool:
    """True if a step added to the writer's output comes out where the ReLU lets it through, whatever the shortcut."""
    (writer,) = block.writers
    before = traced.calls[block.name].outputs[0]
    channels = before.shape[1]
    step = before.abs().max() * torch.linspace(-0.1, 0.1, channels).reshape(1, channels, 1, 1)
    handle = model.get_submodule(writer.watched).register_forward_hook(lambda _m, _i, output: output + step)
    try:
        with torch.inference_mode():
            after = model.get_submodule(block.name)(traced.calls[block.name].inputs[0].clone())
    finally:
        handle.remove()
    if after.shape != before.shape:
        return False
    through = (after > 0) & (before > 0)
    return bool(through.any()) and _agree((after - before)[through], step.expand_as(after)[through])
